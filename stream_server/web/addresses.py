"""Whom a request counts for: its address, and the networks that one client may have to himself."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.types import Scope

__all__ = ["Network", "client_host", "networks"]

# An IPv6 client has 64 bits to himself, a house or an office up to a /48 (RFC 6177). Mobile
# networks give each phone a /64, so wider ones may have more, but not 65,536 times as much.
_WIDTHS: Final = ((64, 1), (56, 4), (48, 16))

Network = tuple[object, int]
"""What is counted, and how many times an address's share it may have."""


@lru_cache(maxsize=8192)
def networks(host: str) -> tuple[Network, ...]:
    """The networks that an address is counted in, the narrowest first."""
    try:
        address = ip_address(host)
    except ValueError:
        return ((host, 1),)
    if not isinstance(address, IPv6Address):
        return ((host, 1),)
    if address.ipv4_mapped is not None:
        return ((str(address.ipv4_mapped), 1),)
    return tuple(((width, int(address) >> (128 - width)), share) for width, share in _WIDTHS)


def client_host(scope: Scope) -> str:
    """The client's address, as the proxies that are trusted say it; empty over a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""

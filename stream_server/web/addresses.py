"""The address that a request counts against, and the networks that one client may own."""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.types import Scope

__all__ = ["Network", "client_host", "networks"]

# An IPv6 client owns a /64; a house or an office owns up to a /48 (RFC 6177). Mobile networks give
# each phone a /64. So a wider network may use more than a /64, but not 65,536 times as much.
_WIDTHS: Final = ((64, 1), (56, 4), (48, 16))

Network = tuple[object, int]
"""A key to count by, and how many times the limit of one address it may use."""


@lru_cache(maxsize=8192)
def networks(host: str) -> tuple[Network, ...]:
    """Returns the networks that an address counts against, the narrowest first."""
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
    """Returns the client's address as trusted proxies report it; empty over a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""

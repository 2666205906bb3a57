"""Which peers are proxies that may say for whom they ask: those of FORWARDED_ALLOW_IPS."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

__all__ = ["FORWARDED_HOST", "Proxies"]

FORWARDED_HOST: Final = "stream_server.forwarded_host"
"""The ASGI extension with the X-Forwarded-Host of a proxy, as text."""


class Proxies:
    """Addresses and networks, comma-separated; `*`: everybody."""

    def __init__(self, text: str = "") -> None:
        self._is_everybody = text == "*"
        given = () if self._is_everybody else filter(None, text.split(","))
        self._networks = [ip_network(each.strip()) for each in given]
        self._has = lru_cache(maxsize=4096)(self._look)

    def __contains__(self, host: str) -> bool:
        return self._is_everybody or self._has(host)

    def _look(self, host: str) -> bool:
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            return False
        return any(address in each for each in self._networks)

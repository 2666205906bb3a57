"""The application, and clients that have a token."""

from dataclasses import dataclass

import httpx

from tests.support.servers import Server


@dataclass
class Office:
    """The application, and clients of it."""

    server: Server
    anyone: httpx.AsyncClient
    shop: httpx.AsyncClient
    admin: httpx.AsyncClient

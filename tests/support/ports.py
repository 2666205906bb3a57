"""Ports for servers that start later, or again, while others look for free ports."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections until somebody listens on it.

    As long as a socket is bound to it the kernel gives it to nobody who wants any free port, for
    listening or for connecting. Who asks for this one gets it, as the socket does not listen
    (SO_REUSEADDR on both: socket(7)).
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]

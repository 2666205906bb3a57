"""Where the server listens, and how many files it may open."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stream_server.cli.web import listen, url_of
from stream_server.errors import InvalidSettings
from stream_server.server import raise_file_limit


@contextmanager
def listening(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    sockets = listen(host, port)
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")


@needs_ipv6
@pytest.mark.parametrize("host", ["::", "[::]"])
def test_any_ipv6_address_stands_for_ipv4_too(host: str) -> None:
    with listening(host) as sockets:
        port = sockets[0].getsockname()[1]
        assert reaches("127.0.0.1", port)
        assert reaches("::1", port)
        assert url_of(sockets) == f"http://[::1]:{port}"


@needs_ipv6
def test_a_name_listens_on_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for those that this machine has not; each once, on one port."""
    addresses = [
        (socket.AF_INET6, ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET6, ("::1", 0, 0, 0)),
    ]
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *rest, **more: (
            [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]
            if host == "shop.example"
            else real(host, *rest, **more)
        ),
    )
    with listening("shop.example") as sockets:
        assert [each.family for each in sockets] == [socket.AF_INET, socket.AF_INET6]
        port = sockets[0].getsockname()[1]
        assert reaches("127.0.0.1", port)
        assert reaches("::1", port)
        assert url_of(sockets) == f"http://127.0.0.1:{port}"


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidSettings, match=r"PORT: .* cannot be used: .*address"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize("most", [10_240, 65_536])
def test_the_limit_of_files_is_raised_where_the_system_refuses_no_limit(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """As macOS does, whose hard limit is none; and some releases refuse more than OPEN_MAX."""
    limits = [256, resource.RLIM_INFINITY]

    def set_limits(_: int, wanted: tuple[int, int]) -> None:
        if not 0 <= wanted[0] <= most:
            raise ValueError("current limit exceeds maximum limit")
        limits[:] = wanted

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    raise_file_limit()
    assert limits == [most, resource.RLIM_INFINITY]
    raise_file_limit()
    assert limits == [most, resource.RLIM_INFINITY]

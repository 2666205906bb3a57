"""Accept-Encoding by its grammar (RFC 9110, section 12.5.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from stream_server.web.encodings import accepts_gzip, takes_gzip


def request(*lines: bytes) -> Request:
    return Request({"type": "http", "headers": [(b"accept-encoding", line) for line in lines]})


TAKE_IT = """
gzip | GZIP | x-gzip | X-Gzip | * | br, gzip | gzip;q=1 | gzip;q=1.000 | gzip; q=0.001
x, gzip;q=1. | gzip ;\tQ=0.5 | deflate,gzip | , ,gzip, | *;q=0.1 | identity;q=0, *
identity;q=0,gzip;q=0.1 | identity;q=0.5, gzip;q=0.5 | br;q=1.0, gzip;q=0.8, *;q=0.1
gzip;q=0.2, *;q=0
"""
DO_NOT = """
identity | br | gzip;q=0 | gzip;q=0.000 | GZIP; Q=0.0 | *;q=0 | gzip;q=0, * | gzip;q=0.5, identity
not-gzip | gzipped | gzip-x | br;gzip | gzip;q=2 | gzip;q=-1 | gzip;q=nan | gzip;q=0.0001 | gzip;q=
gzip;x=1 | gzip;q=0;q=1 | gzip br | "gzip" | x-gzip;q=0, * | identity;q=0 | gzîp | gzip;q=١
"""


def fields(table: str) -> list[str]:
    return [each.strip(" ") for line in table.strip().splitlines() for each in line.split("|")]


@pytest.mark.parametrize("field", fields(TAKE_IT))
def test_a_client_that_takes_gzip_gets_it(field: str) -> None:
    assert takes_gzip(field.encode())


@pytest.mark.parametrize("field", ["", *fields(DO_NOT)])
def test_another_one_does_not(field: str) -> None:
    assert not takes_gzip(field.encode())


def test_the_field_may_come_in_lines() -> None:
    assert not accepts_gzip(request())
    assert accepts_gzip(request(b"br", b"gzip"))
    assert not accepts_gzip(request(b"gzip;q=0", b"br"))
    assert not accepts_gzip(request(b"identity", b"gzip;q=0.9"))


@given(st.binary(max_size=60))
def test_any_bytes_have_an_answer(field: bytes) -> None:
    assert takes_gzip(field) in (True, False)


@given(st.text(alphabet="gzipxbr*q=01.;, \t", max_size=30))
def test_what_forbids_gzip_by_name_never_gets_it(before: str) -> None:
    assert not takes_gzip(f"gzip;q=0,{before}".encode())

"""The Procfile: each of its lines is a command that there is, and the web listens to its router."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stream_server import cli
from stream_server.cli import web

LINES = dict(
    line.split(": ", 1)
    for line in (Path(__file__).parents[2] / "Procfile").read_text().splitlines()
)


def test_each_process_is_a_command() -> None:
    assert LINES.keys() == {"release", "web", "worker"}
    for line in LINES.values():
        program, command, *_ = shlex.split(line)
        assert program == "stream-server"
        assert CliRunner().invoke(cli.app, [command, "--help"]).exit_code == 0


def test_the_web_listens_on_every_address_and_on_the_platforms_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORT", "5000")
    monkeypatch.setenv("DATABASE_URL", "postgresql://nowhere/shop")
    listened: list[tuple[str, int]] = []

    def listen(host: str, port: int) -> None:
        listened.append((host, port))
        raise SystemExit(0)

    monkeypatch.setattr(web, "listen", listen)
    CliRunner().invoke(cli.app, shlex.split(LINES["web"])[1:])
    assert listened == [("0.0.0.0", 5000)]  # noqa: S104

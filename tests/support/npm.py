"""What npm has installed for the tests."""

import os
from pathlib import Path

import pytest

MODULES = Path(__file__).parents[2] / "node_modules"


def installed(package: str) -> Path:
    """Where a package is. Without it the test is skipped; on CI it fails."""
    folder = MODULES / package
    if not folder.exists():
        message = f"npm's {package} is not here: scripts/test installs it where there is npm"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder

"""Where the system's Chromium is, and how it is started."""

import os
import shutil

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def path() -> str:
    """The browser. Without one the test is skipped; on CI it fails."""
    for name in _NAMES:
        if found := shutil.which(name):
            return found
    message = "There is no Chromium here. On Debian: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def options() -> list[str]:
    """No window, and no traffic of its own."""
    given = [
        "--headless=new",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
    ]
    return [*given, "--no-sandbox"] if os.geteuid() == 0 else given

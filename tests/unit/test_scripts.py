"""scripts/ and .ci/run: what a clean clone starts with."""

import os
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
SCRIPTS = [
    "scripts/demo",
    "scripts/test",
    "scripts/lint",
    "scripts/versions",
    "scripts/bench",
    ".ci/run",
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_can_be_run_and_stops_at_its_first_failure(name: str) -> None:
    script = TOP / name
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text


@pytest.mark.parametrize("name", [*SCRIPTS, "scripts/_venv", "scripts/_node", "scripts/_chromium"])
def test_a_script_is_correct_bash(name: str) -> None:
    subprocess.run(["bash", "-n", TOP / name], check=True)


def test_without_a_python_that_is_new_enough_it_says_so(tmp_path: Path) -> None:
    """On a machine whose only Python is too old."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/_venv", "scripts/lint", "pyproject.toml"):
        (tmp_path / name).write_bytes((TOP / name).read_bytes())
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "cat", "cksum", "dirname"):
        found = subprocess.run(["which", name], check=True, capture_output=True, text=True)
        (programs / name).symlink_to(found.stdout.strip())
    old = programs / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["bash", tmp_path / "scripts" / "lint"],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()

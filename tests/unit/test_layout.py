"""Tests lie in test files and share nothing but conftests and tests/support."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = [each for each in TESTS.rglob("*.py") if TESTS / "support" not in each.parents]


@pytest.mark.parametrize("file", FILES, ids=lambda each: each.relative_to(TESTS).as_posix())
def test_a_test_file_imports_no_other_one(file: Path) -> None:
    assert file.name == "conftest.py" or file.name.startswith("test_"), "move it to tests/support"
    assert not re.findall(r"^\s*from (tests\.\S+\.test_\w+) import", file.read_text(), re.MULTILINE)


def test_what_is_shared_knows_no_test() -> None:
    for file in (TESTS / "support").rglob("*.py"):
        assert not re.findall(
            r"^from (tests\.(?!support)\S+) import", file.read_text(), re.MULTILINE
        )

"""Conventions that no linter knows: where tests lie, and what a module of the package says."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "stream_server"
MODULES = [each for each in PACKAGE.rglob("*.py") if each.name != "__main__.py"]
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


@pytest.mark.parametrize("module", MODULES, ids=lambda each: each.relative_to(PACKAGE).as_posix())
def test_a_module_lists_its_public_names_and_its_constants_are_final(module: Path) -> None:
    has_list = has_public_names = False
    for node in ast.parse(module.read_text()).body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                has_public_names |= not node.name.startswith("_")
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                has_list = True
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.Call()):
                continue  # a type, such as dict[str, Any] or TypeVar("T")
            case ast.Assign(targets=[ast.Name(id=name)]):
                assert not name.isupper(), f"it is a constant: {name}: Final = …"
    assert has_list or not has_public_names, "it has public names and no __all__"

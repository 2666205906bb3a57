"""The documents and the code say the same."""

import inspect
import re
from pathlib import Path

import pytest

from stream_server import errors
from stream_server.metrics import Metrics
from stream_server.web.errors import CODES, STATUS

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
CLASSES = [
    each
    for _, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, errors.StreamServerError)
]


def rows(page: str) -> dict[str, str]:
    """The rows of a page's tables, by what their first column quotes."""
    found = re.findall(r"^\| `([\w-]+)` \|(.*)\|$", (DOCS / page).read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_each_error_stands_in_the_tree_and_among_the_public_names(
    error: type[errors.StreamServerError],
) -> None:
    assert error.__name__ in errors.__all__
    assert re.search(rf"\b{error.__name__}\b", errors.__doc__ or "")


@pytest.mark.parametrize("error", CLASSES, ids=lambda each: each.__name__)
def test_each_code_is_documented_with_the_status_of_its_answer(
    error: type[errors.StreamServerError],
) -> None:
    if error is errors.StreamServerError:
        return
    row = rows("errors.md")[error.code]
    if not issubclass(error, errors.SchemaError | errors.InvalidSettings):
        status = next(STATUS[each] for each in error.__mro__ if each in STATUS)
        assert row.split("|")[0].strip() == str(status)


def test_the_codes_of_other_refusals_are_documented() -> None:
    documented = rows("errors.md")
    for status, code in CODES.items():
        assert documented[code].split("|")[0].strip() == str(status)
    known = {each.code for each in CLASSES} | set(CODES.values())
    assert documented.keys() - known == {"http_error", "client_disconnected"}


def test_each_metric_is_documented() -> None:
    names = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics(works=True).registry.collect()
        if family.name.startswith("stream_server")
    }
    documented = {each for each in rows("operations.md") if each.startswith("stream_server_")}
    assert documented == names


@pytest.mark.parametrize(
    "page", ["docs/architecture.md", "CONTRIBUTING.md", "docs/releasing.md", "scripts/README.md"]
)
def test_each_file_that_a_page_names_is_there(page: str) -> None:
    text = (TOP / page).read_text()
    named = re.findall(r"`((?:[\w.-]+/)*[\w-]+(?:\.(?:py|sql|md|toml|html)|/))`", text)
    named += re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    package = TOP / "stream_server"
    places = [(TOP / page).parent, TOP, DOCS, package]
    places += [package / each for each in ("web", "streaming", "inventory")]
    assert named
    for each in named:
        assert any((place / each).exists() for place in places), each


def test_each_link_between_documents_leads_somewhere() -> None:
    for page in [*DOCS.glob("*.md"), *TOP.glob("*.md"), TOP / "sql" / "README.md"]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if re.match(r"https?:|mailto:|#", link):
                continue
            file, _, anchor = link.partition("#")
            target = page.parent / file
            assert target.exists(), f"{page.name}: {link}"
            if anchor and target.suffix == ".md":
                headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
                words = [re.sub(r"[^\w\- ]", "", each).strip().lower() for each in headings]
                assert anchor in [each.replace(" ", "-") for each in words], f"{page.name}: {link}"

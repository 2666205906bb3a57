"""The documents and the code say the same."""

import inspect
import re
from pathlib import Path

import pytest

from stream_server import errors, worker
from stream_server.database import migrations
from stream_server.database.errors import REFUSALS
from stream_server.inventory.imports import record, run
from stream_server.metrics import Metrics
from stream_server.streaming import source
from stream_server.web.errors import CODES, STATUS

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
INNER = "SS000"  # one function raises it, its caller catches it
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


def test_each_event_of_a_stream_is_documented() -> None:
    code = "".join(each.read_text() for each in (TOP / "stream_server/streaming").glob("*.py"))
    written = set(re.findall(r'\bevent\("(\w+)"', code))
    documented = re.findall(r"^\| `(\w+)` \| `\{", (DOCS / "streams.md").read_text(), re.MULTILINE)
    assert written == set(documented)


def test_each_refusal_of_the_database_is_documented_and_translated() -> None:
    raised: set[str] = set()
    for file in (TOP / "sql/functions").rglob("*.sql"):
        heading, _, body = file.read_text().partition("\ncreate ")
        its_own = set(re.findall(r"errcode = '(SS\d{3})'", body))
        raised |= its_own
        assert its_own - {INNER} <= set(re.findall(r"SS\d{3}", heading)), file.name
    table = re.findall(r"^\| (SS\d{3}.*?) \|", (TOP / "sql/README.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"SS\d{3}", " ".join(table))) == raised
    assert {each for each in REFUSALS if each.startswith("SS")} == raised - {INNER}


def test_the_keys_of_advisory_locks_are_documented() -> None:
    def text(key: int) -> str:
        return key.to_bytes((key.bit_length() + 7) // 8).decode()

    whole = {text(migrations.LOCK), text(run.TURN), str(source.SLEEP_LOCK)}
    first_of_two = {text(worker.LOCK), text(record.LOCK)}
    for file in (TOP / "sql/functions").rglob("*.sql"):
        for key, several in re.findall(
            r"advisory\w*lock\((\S+?)(?:::integer(,)|\))", file.read_text()
        ):
            if several:
                first_of_two.add(bytes.fromhex(key.removeprefix("x").strip("'")).decode())
            else:
                whole.add(key)
    readme = (TOP / "sql/README.md").read_text()
    keys = re.findall(
        r"^\| (?:`(\w[\w-]*)` as a bigint|(\d+), a number of ours) \|", readme, re.MULTILINE
    )
    assert {word or number for word, number in keys} == whole
    assert set(re.findall(r"^\| \(`(\w+)`, ", readme, re.MULTILINE)) == first_of_two


def test_each_name_that_the_architecture_says_is_there() -> None:
    code = "".join(each.read_text() for each in (TOP / "stream_server").rglob("*.py"))
    named = re.findall(r"`([A-Z]\w+)\.(\w+)`", (DOCS / "architecture.md").read_text())
    assert named
    for of_class, name in named:
        body = re.search(rf"^class {of_class}\b.*?(?=^\S)", code, re.MULTILINE | re.DOTALL)
        assert body, of_class
        assert re.search(rf"^    (?:async )?def {name}\(", body[0], re.MULTILINE), name


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

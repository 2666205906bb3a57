"""What a catalogue file may say: the fields of products and variants, and what each takes.

Names are those of the columns, in camelCase or snake_case. All mistakes of a file are found, not
only the first, and each is told as `[3].variants[0].price: expected …, got …`.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Protocol

from stream_server.errors import ImportRejected, RejectedRow
from stream_server.inventory.json_document import Literal, Members, Path
from stream_server.inventory.models import Entry, Value

__all__ = [
    "PRODUCT_FIELDS",
    "VARIANT_FIELDS",
    "Document",
    "Mistake",
    "read_entries",
    "rejected",
]

Check = Callable[[object], Value]

MAX_INTEGER: Final = 2**31 - 1  # Postgres's integer
CONTROL: Final = ("Cc", "Cs", "Zl", "Zp")
SHOWN_LENGTH: Final = 60  # characters of a wrong value that an error quotes


class Document(Protocol):
    """Rows of any format, and the lines that they stand in."""

    @property
    def rows(self) -> Sequence[object]:
        """Members, or else a mistake."""

    def line(self, path: Path) -> int: ...


class _Unexpected(Exception):
    """A value that a field does not take; says what it takes."""


def _whole(unit: str, least: int = 0) -> Check:
    expected = f"a whole number of {unit}, {least} to {MAX_INTEGER}"

    def check(value: object) -> Value:
        # bool is an int in Python, not in a shop
        if not isinstance(value, int) or isinstance(value, bool):
            raise _Unexpected(expected)
        if not least <= value <= MAX_INTEGER:
            raise _Unexpected(expected)
        return value

    return check


def _text(longest: int, *, least: int = 0, lines: bool = False) -> Check:
    """`least` 1: not empty, and without spaces around it. `lines`: with line breaks and tabs."""
    expected = f"text of {least} to {longest} characters"
    allowed = "\n\r\t" if lines else ""

    def refused(character: str) -> bool:
        # Cc: control, Cs: half of a surrogate pair, Zl and Zp: Unicode's own line breaks
        return character not in allowed and unicodedata.category(character) in CONTROL

    def check(value: object) -> Value:
        if not isinstance(value, str) or not least <= len(value) <= longest:
            raise _Unexpected(expected)
        if not value.isprintable() and any(map(refused, value)):
            raise _Unexpected("text without control characters" + (" or line breaks" * (not lines)))
        if least and value != value.strip():
            raise _Unexpected("text without spaces around it")
        return value

    return check


def _one_of(*choices: str) -> Check:
    def check(value: object) -> Value:
        if not isinstance(value, str) or value not in choices:
            raise _Unexpected(f"one of {', '.join(choices)}")
        return value

    return check


def _flag(value: object) -> Value:
    if not isinstance(value, bool):
        raise _Unexpected("true or false")
    return value


def _or_null(check: Check, meaning: str) -> Check:
    def check_or_null(value: object) -> Value:
        try:
            return None if value is None else check(value)
        except _Unexpected as error:
            raise _Unexpected(f"{error}, or null ({meaning})") from None

    return check_or_null


_id = _text(200, least=1)
_status = _one_of("active", "draft", "discontinued")
_units = _whole("units")
_limit = _or_null(_units, "unlimited")

PRODUCT_FIELDS: Final[Mapping[str, Check]] = {
    "id": _id,
    "name": _text(500, least=1),
    "description": _text(20_000, lines=True),
    "category": _text(200),
    "base_price": _whole("cents"),
    "status": _status,
    "requires_assembly": _flag,
    "max_quantity": _limit,
    "sold_quantity": _units,
    "low_stock_threshold": _units,
    "max_per_order": _or_null(_whole("units", 1), "no limit"),
}
VARIANT_FIELDS: Final[Mapping[str, Check]] = {
    "id": _id,
    "variant_value": _text(200, least=1),
    "sku": _text(200),
    "price": _or_null(_whole("cents"), "the product's"),
    "status": _status,
    "max_quantity": _limit,
    "sold_quantity": _units,
    "low_stock_threshold": _units,
}
REQUIRED: Final = ("id", "name", "variant_value", "base_price")
COMPUTED: Final = (
    "available_quantity",
    "has_variants",
    "is_available",
    "reserved_quantity",
    "updated_at",
    "version",
)


@dataclass(frozen=True, slots=True)
class Mistake:
    path: Path
    reason: str
    id: str | None = None


def read_entries(document: Document) -> list[Entry]:
    """The products of a document, each with its variants.

    Raises ImportRejected with each wrong row.
    """
    mistakes: list[Mistake] = []
    entries = [_product(row, (index,), mistakes) for index, row in enumerate(document.rows)]
    mistakes += _repeated("product", entries)
    mistakes += _repeated("variant", (variant for entry in entries for variant in entry.variants))
    if mistakes:
        raise rejected(document, mistakes)
    return entries


def rejected(document: Document, mistakes: Sequence[Mistake]) -> ImportRejected:
    """The error that names each mistake, in the order of the file."""
    rows = [
        RejectedRow(document.line(mistake.path), _told(mistake), mistake.id) for mistake in mistakes
    ]
    return ImportRejected(sorted(rows, key=lambda row: row.line or 0))


def _product(row: object, path: Path, mistakes: list[Mistake]) -> Entry:
    entry, variants = _entry(row, path, PRODUCT_FIELDS, mistakes)
    if variants is None:
        return entry
    if not isinstance(variants, list) or isinstance(variants, Members):
        reason = f"expected a list of variants, got {_shown(variants)}"
        mistakes.append(Mistake((*path, "variants"), reason, _known_id(entry)))
        return entry
    return Entry(
        entry.path,
        entry.values,
        entry.keys,
        tuple(
            _entry(variant, (*path, "variants", index), VARIANT_FIELDS, mistakes)[0]
            for index, variant in enumerate(variants)
        ),
    )


def _entry(
    row: object, path: Path, fields: Mapping[str, Check], mistakes: list[Mistake]
) -> tuple[Entry, object]:
    """What is right of a row, and its `variants` as they are; what is wrong joins `mistakes`."""
    values: dict[str, Value] = {}
    given: dict[str, str] = {}
    variants: object = None
    found: list[tuple[Path, str]] = []
    if not isinstance(row, Members):
        mistakes.append(Mistake(path, f"expected an object with fields, got {_shown(row)}"))
        return Entry(path, {}, {}), None
    for key, value in row:
        name = re.sub(r"[A-Z]", lambda capital: "_" + capital[0].lower(), key)
        place = (*path, key)
        if name in given:
            found.append((place, "given twice"))
        elif name == "variants" and fields is PRODUCT_FIELDS:
            variants = value
        elif (check := fields.get(name)) is None:
            found.append((place, _unknown(name, fields)))
        else:
            try:
                values[name] = check(value)
            except _Unexpected as error:
                found.append((place, f"expected {error}, got {_shown(value)}"))
        given[name] = key
    found += [
        ((*path, _camel(name)), "missing")
        for name in REQUIRED
        if name in fields and name not in given
    ]
    entry = Entry(path, values, given)
    mistakes += [Mistake(place, reason, _known_id(entry)) for place, reason in found]
    return entry, variants


def _unknown(name: str, fields: Mapping[str, Check]) -> str:
    if name in COMPUTED:
        return "is computed here; leave it out"
    names = [*fields, *(("variants",) if fields is PRODUCT_FIELDS else ())]
    close = get_close_matches(name, names, n=1)
    return "no such field" + (f"; did you mean {_camel(close[0])}?" if close else "")


def _repeated(kind: str, entries: Sequence[Entry] | Iterator[Entry]) -> Iterator[Mistake]:
    first: dict[str, Entry] = {}
    for entry in entries:
        if (id_ := _known_id(entry)) is None:
            continue
        other = first.setdefault(id_, entry)
        if other is not entry:
            reason = f"expected an id of its own, got that of the {kind} {_dotted(other.path)}"
            yield Mistake((*entry.path, "id"), reason, id_)


def _known_id(entry: Entry) -> str | None:
    return entry.id if "id" in entry.values else None


def _told(mistake: Mistake) -> str:
    return f"{_dotted(mistake.path)}: {mistake.reason}"


def _dotted(path: Path) -> str:
    """`[3].variants[0].price`: counted from 0, as jq does."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{_printable(step)}" for step in path]
    return "".join(steps)


def _shown(value: object) -> str:
    """A value in a form that is safe to print, and not long."""
    match value:
        case Members():
            return "an object"
        case list():
            return "a list"
        case Literal(text):
            return text if len(text) <= SHOWN_LENGTH else f"a number of {len(text)} characters"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() if len(value) > SHOWN_LENGTH:
            return f"{value[:SHOWN_LENGTH]!r}… ({len(value)} characters)"
    return repr(value)


def _printable(text: str) -> str:
    return text if text.isprintable() and len(text) <= SHOWN_LENGTH else repr(text[:SHOWN_LENGTH])


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)

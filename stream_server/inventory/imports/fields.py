"""The fields of products and variants in a catalogue file, and the checks of their values.

Fields have the names of columns, in camelCase or snake_case. All mistakes of a row are reported,
each as `[3].variants[0].price: expected …, got …`.
"""

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from typing import BinaryIO, Final, Protocol

from stream_server.inventory.imports.csv_rows import CSVRow, csv_rows, value_of
from stream_server.inventory.imports.json_rows import JSONRow, Literal, Members, Path, json_rows
from stream_server.inventory.imports.models import Entry, Value

__all__ = [
    "PRODUCT_FIELDS",
    "VARIANT_FIELDS",
    "Checked",
    "FileRow",
    "Mistake",
    "camel",
    "read_csv",
    "read_json",
]

Check = Callable[[object], Value]

MAX_INTEGER: Final = 2**31 - 1  # Postgres's integer
CONTROL: Final = ("Cc", "Cs", "Zl", "Zp")
MAX_SHOWN_LENGTH: Final = 60  # characters of a wrong value that an error quotes


class _Unexpected(Exception):
    """A value that a field does not accept; its text describes the accepted values."""


def _whole(unit: str, minimum: int = 0) -> Check:
    expected = f"a whole number of {unit}, {minimum} to {MAX_INTEGER}"

    def check(value: object) -> Value:
        # In Python, bool is a subclass of int
        if not isinstance(value, int) or isinstance(value, bool):
            raise _Unexpected(expected)
        if not minimum <= value <= MAX_INTEGER:
            raise _Unexpected(expected)
        return value

    return check


def _text(max_length: int, *, min_length: int = 0, lines: bool = False) -> Check:
    """Returns a check of a text's length and characters. `min_length` 1 also refuses surrounding
    spaces; `lines` allows line breaks and tabs."""
    expected = f"text of {min_length} to {max_length} characters"
    allowed = "\n\r\t" if lines else ""

    def is_refused(character: str) -> bool:
        # Cc: control, Cs: half of a surrogate pair, Zl and Zp: Unicode's own line breaks
        return character not in allowed and unicodedata.category(character) in CONTROL

    def check(value: object) -> Value:
        if not isinstance(value, str) or not min_length <= len(value) <= max_length:
            raise _Unexpected(expected)
        if not value.isprintable() and any(map(is_refused, value)):
            raise _Unexpected("text without control characters" + (" or line breaks" * (not lines)))
        if min_length and value != value.strip():
            raise _Unexpected("text without spaces at its beginning and end")
        return value

    return check


def _one_of(*choices: str) -> Check:
    def check(value: object) -> Value:
        if not isinstance(value, str) or value not in choices:
            raise _Unexpected(f"one of {', '.join(choices)}")
        return value

    return check


def _check_flag(value: object) -> Value:
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


_check_id: Final = _text(200, min_length=1)


def _check_product_id(value: object) -> Value:
    """Checks an id that must work as a path segment: browsers remove `.` and `..` from paths, even
    if they are percent-encoded (RFC 3986, section 5.2.4)."""
    if value in (".", ".."):
        raise _Unexpected("an id other than . and .., which a URL's path cannot contain")
    return _check_id(value)


_check_status: Final = _one_of("active", "draft", "discontinued")
_check_units: Final = _whole("units")
_check_limit: Final = _or_null(_check_units, "unlimited")

PRODUCT_FIELDS: Final[Mapping[str, Check]] = {
    "id": _check_product_id,
    "name": _text(500, min_length=1),
    "description": _text(20_000, lines=True),
    "category": _text(200),
    "base_price": _whole("cents"),
    "status": _check_status,
    "requires_assembly": _check_flag,
    "max_quantity": _check_limit,
    "sold_quantity": _check_units,
    "low_stock_threshold": _check_units,
    "max_per_order": _or_null(_whole("units", 1), "no limit"),
}
VARIANT_FIELDS: Final[Mapping[str, Check]] = {
    "id": _check_id,
    "variant_value": _text(200, min_length=1),
    "sku": _text(200),
    "price": _or_null(_whole("cents"), "the product's"),
    "status": _check_status,
    "max_quantity": _check_limit,
    "sold_quantity": _check_units,
    "low_stock_threshold": _check_units,
}
TEXTS: Final = frozenset(
    {"id", "name", "description", "category", "variant_value", "sku", "status"}
)
COMPUTED: Final = (
    "available_quantity",
    "has_variants",
    "is_available",
    "reserved_quantity",
    "updated_at",
    "version",
)


class FileRow(Protocol):
    """A row of a file of any format."""

    @property
    def index(self) -> int:
        """The position of the row in the file, from 0."""

    def place(self, path: Path) -> tuple[int, int]:
        """Returns line and column of the value at `path` in the row, from 1."""

    def name(self, path: Path) -> str:
        """Returns the name of the value at `path` for errors; empty if the line is enough."""

    def reference(self, path: Path) -> str:
        """Returns the words that refer to the row in the mistakes of other rows."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake at `path` in a row; `id` is the product's or variant's, None if unknown."""

    path: Path
    reason: str
    id: str | None = None


@dataclass(slots=True)
class Checked:
    """A checked row: its correct products and variants, and its mistakes. Each variant has the id
    of its product, None if unknown."""

    products: list[Entry] = field(default_factory=list)
    variants: list[tuple[str | None, Entry]] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)


def read_json(file: BinaryIO) -> Iterator[tuple[FileRow, Checked]]:
    """Yields the rows of a JSON file: each is a product with its variants. Raises Unreadable."""
    for row in json_rows(file):
        yield row, _check_json(row)


def read_csv(file: BinaryIO) -> Iterator[tuple[FileRow, Checked]]:
    """Yields the rows of a CSV file: each is a product or, with a variantId, a variant of the
    product with the productId.

    Raises Unreadable.
    """
    for row in csv_rows(file, _csv_column, "productId"):
        yield row, _check_csv(row)


def _check_json(row: JSONRow) -> Checked:
    checked = Checked()
    if not isinstance(row.value, Members):
        reason = f"expected an object with fields, got {_show(row.value)}"
        checked.mistakes.append(Mistake((), reason))
        return checked
    members = [(key, _column(key), value) for key, value in row.value]
    product, mistakes = _read_entry(members, (), PRODUCT_FIELDS, ("variants",))
    checked.products.append(product)
    checked.mistakes += mistakes
    variants = next((value for _, name, value in members if name == "variants"), None)
    if variants is None:
        return checked
    if not isinstance(variants, list) or isinstance(variants, Members):
        reason = f"expected a list of variants, got {_show(variants)}"
        checked.mistakes.append(Mistake(("variants",), reason, _known_id(product)))
        return checked
    for index, variant in enumerate(variants):
        path = ("variants", index)
        if isinstance(variant, Members):
            members = [(key, _column(key), value) for key, value in variant]
            entry, mistakes = _read_entry(members, path, VARIANT_FIELDS)
            checked.variants.append((_known_id(product), entry))
            checked.mistakes += mistakes
        else:
            reason = f"expected an object with fields, got {_show(variant)}"
            checked.mistakes.append(Mistake(path, reason))
            checked.variants.append((None, Entry(path, {}, {})))
    return checked


# The two ids have different names, because a row may have both.
CSV_COLUMNS: Final = (
    "product_id",
    "variant_id",
    *(name for name in dict.fromkeys((*PRODUCT_FIELDS, *VARIANT_FIELDS)) if name != "id"),
)


def _csv_column(name: str) -> str:
    """Returns the column with this name in a CSV file. Raises ValueError with the reason for an
    unknown name."""
    if (column := _column(name)) not in CSV_COLUMNS:
        raise ValueError(_unknown(column, [*map(camel, CSV_COLUMNS)]))
    return column


def _check_csv(row: CSVRow) -> Checked:
    checked = Checked()
    if row.problem is not None:
        checked.mistakes.append(Mistake((), row.problem))
        return checked
    names = {key: _column(key) for key in row.fields}
    is_variant = "variant_id" in names.values()
    fields = VARIANT_FIELDS if is_variant else PRODUCT_FIELDS
    own_id = "variant_id" if is_variant else "product_id"
    product_id: str | None = None
    members: list[tuple[str, str, object]] = []
    elsewhere: list[Mistake] = []
    for key, text in row.fields.items():
        name = names[key]
        if name == own_id:
            members.append((key, "id", text))
        elif name == "product_id":
            try:
                product_id = str(_check_id(text))
            except _Unexpected as error:
                elsewhere.append(Mistake((key,), f"expected {error}, got {_show(text)}"))
        elif name in fields and name != "id":
            members.append((key, name, text if name in TEXTS else value_of(text)))
        else:
            kinds = ("products", "a variant") if is_variant else ("variants", "a product")
            reason = "expected nothing (the field is for {}, the row is {}), got {}"
            reason = reason.format(*kinds, _show(text))
            elsewhere.append(Mistake((key,), reason))
    entry, mistakes = _read_entry(members, (), fields, id_name="productId")
    checked.mistakes += mistakes
    if is_variant and "product_id" not in names.values():
        elsewhere.append(Mistake(("productId",), "missing"))
    checked.mistakes += [Mistake(each.path, each.reason, _known_id(entry)) for each in elsewhere]
    if is_variant:
        checked.variants.append((product_id, entry))
    else:
        checked.products.append(entry)
    return checked


def _read_entry(
    members: Iterable[tuple[str, str, object]],
    path: Path,
    fields: Mapping[str, Check],
    others: Collection[str] = (),
    id_name: str = "id",
) -> tuple[Entry, list[Mistake]]:
    """Returns the entry with the correct values of these members (name as written, column, value),
    and the mistakes in the others. Fields named in `others` are checked elsewhere."""
    values: dict[str, Value] = {}
    given: dict[str, str] = {}
    found: list[tuple[Path, str]] = []
    for key, name, value in members:
        if name in given:
            found.append(((*path, key), "given twice"))
        elif (check := fields.get(name)) is not None:
            try:
                values[name] = check(value)
            except _Unexpected as error:
                found.append(((*path, key), f"expected {error}, got {_show(value)}"))
        elif name not in others:
            found.append(((*path, key), _unknown(name, [*map(camel, fields), *others])))
        given[name] = key
    if "id" not in given:
        found.append(((*path, id_name), "missing"))
    entry = Entry(path, values, given)
    return entry, [Mistake(place, reason, _known_id(entry)) for place, reason in found]


@lru_cache(maxsize=256)
def _column(key: str) -> str:
    return re.sub(r"[A-Z]", lambda capital: "_" + capital[0].lower(), key)


def _unknown(name: str, names: list[str]) -> str:
    if name in COMPUTED:
        return "is computed; remove the field"
    close = get_close_matches(camel(name), sorted(names), n=1)
    return "no such field" + (f"; did you mean {close[0]}?" if close else "")


def _known_id(entry: Entry) -> str | None:
    return entry.id if "id" in entry.values else None


def _show(value: object) -> str:
    """Returns a value in a short form that is safe to print."""
    match value:
        case Members():
            return "an object"
        case list():
            return "a list"
        case Literal(text):
            return text if len(text) <= MAX_SHOWN_LENGTH else f"a number of {len(text)} characters"
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() if len(value) > MAX_SHOWN_LENGTH:
            return f"{value[:MAX_SHOWN_LENGTH]!r}… ({len(value)} characters)"
    return repr(value)


def camel(name: str) -> str:
    """Returns a name such as `base_price` in camelCase: `basePrice`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)

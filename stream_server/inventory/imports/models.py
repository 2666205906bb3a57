"""The records that the modules of an import share. They need only the standard library."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Entry", "ImportRequest", "ImportResult", "Value"]

Value = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A product or a variant of a catalogue file.

    `values` maps columns of `products` or `variants` to the file's values. A column that the file
    does not mention is absent: a new row gets the default, an existing row keeps its value. `path`
    is its place in the file's row, and `keys` maps a column to the field's name there.
    """

    path: tuple[str | int, ...]
    values: Mapping[str, Value]
    keys: Mapping[str, str]
    variants: tuple["Entry", ...] = ()

    @property
    def id(self) -> str:
        return str(self.values["id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """The request to import a file. `name`, `format_name` (`json` or `csv`), `actor` and `reason`
    go into the import's record; actor and reason also go into the log of its changes."""

    name: str = "catalogue"
    format_name: str = "json"
    actor: str
    reason: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The result of an import or of a dry run. `added` and `changed` count the rows of products and
    variants together. `import_id` is its row in `import_batches`."""

    products: int
    variants: int
    added: int
    changed: int
    import_id: int = field(default=0, compare=False)

    @property
    def unchanged(self) -> int:
        return self.products + self.variants - self.added - self.changed

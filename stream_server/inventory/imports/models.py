"""What the parts of an import pass on to each other, as plain records. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Entry", "ImportRequest", "ImportResult", "Value"]

Value = str | int | bool | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A product or a variant as a catalogue file gives it.

    `values` maps columns of `products` or `variants` to what the file says; a column that it does
    not mention is absent: a new row then gets the default, an existing one keeps what it has.
    `path` leads back to its place in the row, `keys` from a column to the field's name there.
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
    """What is asked for with a file. Its `name`, `format_name` (`json` or `csv`), `actor` and
    `reason` go into the import's record, the last two into the log of its changes, too."""

    name: str = "catalogue"
    format_name: str = "json"
    actor: str
    reason: str
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did, or as a dry run would do; `added` and `changed` count rows, products and
    variants together. `import_id` is its row in `import_batches`."""

    products: int
    variants: int
    added: int
    changed: int
    import_id: int = field(default=0, compare=False)

    @property
    def unchanged(self) -> int:
        return self.products + self.variants - self.added - self.changed

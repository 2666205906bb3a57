"""The queries in `sql/queries`, by name."""

from functools import cache

from stream_server.database.migrations import sql_folder

__all__ = ["query"]


@cache
def query(name: str) -> str:
    """Returns the text of `sql/queries/<name>.sql`; `name` has its folder: `source/read_log`."""
    return (sql_folder() / "queries" / f"{name}.sql").read_text(encoding="utf-8")

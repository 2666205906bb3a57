"""New migrations are such that a shop that sells does not notice them: `sql/README.md`."""

import re
from pathlib import Path

import pytest

from stream_server.database.migrations import STEPWISE, sql_folder

NEW = sorted(path for path in sql_folder().glob("migrations/*.sql") if path.name >= "0006")
README = (sql_folder() / "README.md").read_text(encoding="utf-8")
REWRITES = re.compile(
    r"\badd column\b[^,]*\b(?:generated|serial|bigserial|stored)\b"
    r"|\badd column\b[^,]*\bdefault\b[^,]*\b(?:nextval|gen_random_uuid|random|clock_timestamp)\b"
    r"|\balter column \w+ (?:set data )?type\b"
)


def mistakes(text: str) -> list[str]:
    """What is wrong with a migration, and why."""
    is_stepwise = text.startswith(STEPWISE)
    code = re.sub(r"--.*", "", text).lower()
    statements = [" ".join(each.split()) for each in code.split(";")]
    made = set(re.findall(r"create (?:unlogged )?table (?:if not exists )?(\w+)", code))
    altered = set(re.findall(r"alter table (?:if exists )?(?:only )?(\w+)", code)) - made
    found = []
    if len(altered) > 1:
        found.append(
            f"alters {' and '.join(sorted(altered))}: one table a file, or one is locked while"
            " the migration waits for the other"
        )
    for statement in statements:
        table = re.search(r"alter table (?:if exists )?(?:only )?(\w+)", statement)
        index = re.search(r"create (?:unique )?index (concurrently )?.*?\bon (\w+)", statement)
        if table and table[1] in altered:
            if re.search(r"\badd\b.*\b(check|references)\b", statement) and (
                "not valid" not in statement
            ):
                found.append(
                    f"adds a constraint to {table[1]} that reads all rows under an exclusive lock:"
                    " NOT VALID, then VALIDATE CONSTRAINT in a transaction of its own"
                )
            if REWRITES.search(statement):
                found.append(f"rewrites {table[1]} under an exclusive lock: fill it in portions")
        if index and not index[1] and index[2] not in made:
            found.append(f"builds an index of {index[2]} without CONCURRENTLY: nobody can write")
    if not is_stepwise and re.search(r"\bconcurrently\b|\bcommit\b", code):
        found.append(f"CONCURRENTLY and COMMIT need the first line {STEPWISE.strip()}")
    if not is_stepwise and "not valid" in code and "validate constraint" in code:
        found.append("validates in the transaction that has locked the table: a file of its own")
    if is_stepwise:
        for step in re.split(r"\n{2,}", text.strip()):
            last = step.splitlines()[-1]
            if not last.endswith(";") and not last.startswith("--"):
                found.append(f"an empty line within a statement, after: {last}")
    return found


@pytest.mark.parametrize("path", NEW, ids=lambda path: path.stem)
def test_a_shop_does_not_notice_the_migration(path: Path) -> None:
    assert mistakes(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("alter table a add column x int; alter table b add column x int;", "one table a file"),
        ("alter table a add constraint c check (x > 0);", "NOT VALID"),
        ("alter table a add foreign key (x) references b (x);", "NOT VALID"),
        ("alter table a add column x bigint generated always as identity;", "portions"),
        ("alter table a add column x uuid default gen_random_uuid();", "portions"),
        ("alter table a alter column x type bigint;", "portions"),
        ("create index i on a (x);", "CONCURRENTLY"),
        ("create unique index i on a (x);", "CONCURRENTLY"),
        ("create index concurrently i on a (x);", "first line"),
        (
            "alter table a add constraint c check (x > 0) not valid;"
            "alter table a validate constraint c;",
            "a file of its own",
        ),
        (STEPWISE + "do $$ begin\n\n end $$;", "empty line"),
    ],
)
def test_a_migration_that_a_shop_would_notice_is_refused_with_the_reason(
    text: str, reason: str
) -> None:
    (mistake,) = mistakes(text)
    assert reason in mistake


@pytest.mark.parametrize(
    "text",
    [
        "create table a (x int check (x > 0) references b); create index i on a (x);",
        "alter table a add column x int, add column y text not null default '';",
        "alter table a add constraint c check (x > 0) not valid;",
        STEPWISE + "create index concurrently i on a (x);",
    ],
)
def test_what_takes_no_time_is_not_refused(text: str) -> None:
    assert mistakes(text) == []


def test_each_function_has_one_file_of_its_name_in_a_folder() -> None:
    names = [path.name for path in sql_folder().glob("functions/**/*.sql")]
    assert sorted(names) == sorted({path.name for path in sql_folder().glob("functions/*/*.sql")})


def test_the_readme_names_every_function() -> None:
    functions = {path.stem for path in sql_folder().glob("functions/*/*.sql")}
    table = README.split("## What may be called")[1].split("## Refusals")[0]
    assert functions - set(re.findall(r"`(\w+)`", table)) == set()


def test_the_readme_names_every_refusal_and_only_functions_that_there_are() -> None:
    functions = {path.stem for path in sql_folder().glob("functions/*/*.sql")}
    sql = "".join(path.read_text() for path in sql_folder().glob("functions/*/*.sql"))
    assert set(re.findall(r"\bSS\d{3}\b", README)) == set(re.findall(r"'(SS\d{3})'", sql))
    table = README.split("## What may be called")[1].split("All others")[0]
    named = set(re.findall(r"`(\w+)`", table))
    assert named <= functions
    callable_ones = {
        path.stem
        for path in sql_folder().glob("functions/*/*.sql")
        if "\nsecurity definer" in (text := path.read_text()) and "returns trigger" not in text
    }
    assert callable_ones - named <= {"raise_alert", "close_alert"}  # parts of the others


def columns_of_log() -> set[str]:
    """Those of inventory_log that a writer gives; `id` and `xid` come by themselves."""
    text = "".join(path.read_text() for path in sorted(sql_folder().glob("migrations/*.sql")))
    text = re.sub(r"--.*", "", text)
    made = re.search(r"create table inventory_log \((.*?)\n\);", text, re.DOTALL)
    assert made
    types = r"(?:bigint|integer|text|timestamptz|xid8)"
    added = re.findall(rf"alter table inventory_log\s+add column (\w+) {types}", text)
    return {*re.findall(rf"(\w+)\s+{types}\b", made[1]), *added} - {"id", "xid"}


def test_what_writes_the_log_forgets_no_column_in_any_of_its_inserts() -> None:
    """An INSERT has no row from before, so each of the two functions has two INSERTs."""
    every = columns_of_log()
    before = {name for name in every if name.endswith("_before")}
    assert len(before) == 8
    for function, missing in (
        ("log_product_changes", {"variant_id"}),
        ("log_variant_changes", set[str]()),
    ):
        text = (sql_folder() / f"functions/log/{function}.sql").read_text()
        lists = re.findall(r"insert into inventory_log\s+\((.*?)\)", text, re.DOTALL)
        of_insert, of_update = (set(re.findall(r"\w+", each)) for each in lists)
        assert of_update == every - missing, function
        assert of_insert == every - missing - before, function

"""What is installed elsewhere: the wheel carries `sql/` and migrates with it."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

TOP = Path(__file__).parents[3]

MIGRATE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import stream_server.database.migrations as migrations
assert migrations.__file__.startswith(sys.argv[1]), migrations.__file__
assert str(migrations.sql_folder()).startswith(sys.argv[1]), migrations.sql_folder()
print(*asyncio.run(migrations.migrate(sys.argv[2])))
"""


def build(folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=TOP,
        check=True,
        capture_output=True,
    )
    [wheel] = folder.glob("*.whl")
    return wheel


def test_the_wheel_migrates_where_there_is_no_checkout(
    tmp_path: Path, empty_database_url: str
) -> None:
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, build(tmp_path / "dist")], check=True)
    done = subprocess.run(
        [sys.executable, "-c", MIGRATE, target, empty_database_url],
        cwd=tmp_path,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    wanted = {"triggers.sql"}
    for part in ("migrations", "functions"):
        wanted |= {f"{part}/{path.name}" for path in (TOP / "sql" / part).rglob("*.sql")}
    assert set(done.stdout.split()) == wanted


def test_the_wheel_holds_the_package_and_nothing_of_the_tests(tmp_path: Path) -> None:
    with ZipFile(build(tmp_path)) as wheel:
        names = set(wheel.namelist())
    tops = {name.split("/", 1)[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"stream_server"}
    sql = {path.relative_to(TOP).as_posix() for path in (TOP / "sql").rglob("*.sql")}
    assert {f"stream_server/{name}" for name in sql} | {"stream_server/py.typed"} <= names

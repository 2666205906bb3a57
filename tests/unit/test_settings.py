"""Settings: what the README says of them, and what a wrong one is answered with."""

from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from stream_server.errors import InvalidSettings
from stream_server.settings import Settings

README = Path(__file__).parents[2] / "README.md"
PASSWORD = "swordfish"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def row(name: str, field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    shown = f"`{default}`" if default not in ("", ()) else ""
    return f"| `{name.upper()}` | {shown} | {field.description} |"


def test_the_readme_lists_every_setting_with_its_default_and_meaning() -> None:
    wanted = [row(name, field) for name, field in Settings.model_fields.items()]
    section = README.read_text().split("## Settings", 1)[1].split("\n## ", 1)[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == wanted


def test_an_empty_variable_counts_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("DATABASE_URL", "")
    assert Settings.load().port == 8000


def test_an_override_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9000")
    assert Settings.load().port == 9000
    assert Settings.load({"port": 9001}).port == 9001


def test_listening_follows_database_url_unless_it_is_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://pooler/shop")
    assert Settings.load().listen_url.get_secret_value() == "postgresql://pooler/shop"
    monkeypatch.setenv("LISTEN_DATABASE_URL", "postgresql://direct/shop")
    assert Settings.load().listen_url.get_secret_value() == "postgresql://direct/shop"


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgres+psycopg2"]
)
def test_the_database_may_be_named_as_other_tools_name_it(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://shop@db/shop")
    assert Settings.load().database_url.get_secret_value() == f"{scheme}://shop@db/shop"


def test_origins_are_a_comma_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_ORIGINS", "https://shop.example, http://localhost:3000,")
    assert Settings.load().allowed_origins == ("https://shop.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("DATABASE_POOL_SIZE", "0"),
        ("STREAM_PING_SECONDS", "0"),
        ("STREAM_PING_SECONDS", "nan"),
        ("STREAM_CONFLATE_MS", "-1"),
        ("ALLOWED_ORIGINS", "shop.example"),
        ("ALLOWED_ORIGINS", "https://shop.example/path"),
        ("FORWARDED_ALLOW_IPS", "proxy"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1, *"),
        ("PUBLIC_URL", "shop.example"),
        ("DATABASE_URL", "mysql://shop"),
        ("DATABASE_URL", "postgresql+://shop"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        Settings.load()
    assert caught.value.message.startswith(f"{variable}: ")
    assert caught.value.message.count("\n") == 0


def test_all_wrong_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "x")
    monkeypatch.setenv("STREAM_RETRY_MS", "y")
    with pytest.raises(InvalidSettings, match=r"(?s)PORT: .*\nSTREAM_RETRY_MS: "):
        Settings.load()


def test_a_password_is_neither_printed_nor_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://shop:{PASSWORD}@db/shop")
    assert PASSWORD not in f"{Settings.load()!r} {Settings.load()}"

    monkeypatch.setenv("DATABASE_URL", f"shop:{PASSWORD}@db/shop")
    with pytest.raises(InvalidSettings) as caught:
        Settings.load()
    error = caught.value
    assert PASSWORD not in f"{error} {error.details} {error.__cause__!r} {error.__context__!r}"

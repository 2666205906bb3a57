"""Settings: what the README says of them, and what a wrong one is answered with."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from stream_server.app import create_app
from stream_server.errors import InvalidSettings
from stream_server.settings import DATABASE, OWN_PATHS, WORKER, WORKERS_OWN, Settings

PACKAGE = Path(__file__).parents[2] / "stream_server"
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
        ("STREAM_PING_SECONDS", "26"),
        ("STREAM_PING_SECONDS", "nan"),
        ("STREAM_CONFLATE_MS", "-1"),
        ("ALLOWED_ORIGINS", "shop.example"),
        ("ALLOWED_ORIGINS", "https://shop.example/path"),
        ("FORWARDED_ALLOW_IPS", "proxy"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
        ("FORWARDED_ALLOW_IPS", "10.0.0.1, *"),
        ("PUBLIC_URL", "shop.example"),
        ("PUBLIC_URL", "https:///stock"),
        ("PUBLIC_URL", "https://shop.example/stock?x"),
        ("PUBLIC_URL", "https://shop.example/a//b"),
        ("PUBLIC_URL", "https://shop.example/a/../b"),
        ("PUBLIC_URL", "https://shop.example/products"),
        ("JWT_PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----"),
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


TEXTS = {
    "database_url": "postgresql://shop:a%20b@db/shop",
    "listen_database_url": "postgresql://shop@direct/shop",
    "forwarded_allow_ips": "10.0.0.0/8",
    "public_url": "https://shop.example/stock",
    "allowed_origins": "https://shop.example",
    "secret_key": "k" * 32,
    "payment_url": "https://pay.example/now",
    "reservation_rate": "10/minute",
    "reservation_line_rate": "10/minute",
    "reservation_unit_rate": "10/minute",
    "request_rate": "10/minute",
    "search_rate": "10/minute",
    "currency": "EUR",
}


def examples() -> Iterator[tuple[str, str]]:
    """A right value of each setting, other than its default."""
    for name, field in Settings.model_fields.items():
        if name == "jwt_public_key":
            key = rsa.generate_private_key(65537, 2048).public_key()
            pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            yield name, pem.decode().strip()
        else:
            usual = {int: "17", float: "17", bool: "false"}.get(field.annotation, "some-text")  # type: ignore[arg-type]  # it is a type or None
            value = "30" if name == "order_keep_days" else usual
            yield name, TEXTS.get(name, value)


EXAMPLES = tuple(examples())


@pytest.mark.parametrize(
    "around",
    [
        "{}\n",
        "{}\r\n",
        "  {}\t",
        "\ufeff{}",
        "'{}'",
        '"{}"',
        '"{}"\n',
        "\ufeff'{}\n'",
        "\u00a0{}\u200b",
    ],
)
@pytest.mark.parametrize(("name", "value"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_what_a_file_leaves_around_a_setting_is_taken_off(
    name: str, value: str, around: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name.upper(), value)
    wanted = getattr(Settings.load(), name)
    monkeypatch.setenv(name.upper(), around.format(value))
    assert getattr(Settings.load(), name) == wanted != Settings.model_fields[name].default


@pytest.mark.parametrize(
    "inner", ["{}\n{}", "{}\r{}", "{}\t{}", "{}\u200b{}", "{}\u202e{}", '"{}{}', "{}{}”"]
)
@pytest.mark.parametrize(
    ("name", "value"),
    [each for each in EXAMPLES if each[0] != "jwt_public_key"],
    ids=[name for name, _ in EXAMPLES if name != "jwt_public_key"],
)
def test_what_cannot_be_meant_within_a_setting_is_refused_in_a_line_without_it(
    name: str, value: str, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = len(value) // 2
    monkeypatch.setenv(name.upper(), inner.format(value[:half], value[half:]))
    with pytest.raises(InvalidSettings) as caught:
        Settings.load()
    assert caught.value.message.startswith(f"{name.upper()}: ")
    assert caught.value.message.count("\n") == 0
    assert len(value) < 6 or value[half:] not in caught.value.message


def test_blanks_alone_count_as_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Settings.load()
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), " \n")
    assert Settings.load() == bare
    assert Settings.load().port == 8000


def test_a_key_in_one_line_is_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    pem = dict(EXAMPLES)["jwt_public_key"]
    for way in (
        pem.replace("\n", "\\n"),
        pem.replace("\n", "\r\n"),
        f'"{pem}\n"'.replace("\n", "\\n"),
    ):
        monkeypatch.setenv("JWT_PUBLIC_KEY", way)
        assert Settings.load().jwt_public_key == pem


def numbers() -> list[str]:
    return [name for name, each in Settings.model_fields.items() if each.annotation in (int, float)]


@pytest.mark.parametrize("address", ["tcp://10.0.0.11:9090", "udp://[fd00::1]:53"])
def test_the_address_of_a_kubernetes_service_is_ignored_with_a_line_that_says_so(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in numbers():
        caplog.clear()
        monkeypatch.setenv(name.upper(), address)
        with caplog.at_level(logging.WARNING):
            assert getattr(Settings.load(), name) == Settings.model_fields[name].default
        [line] = caplog.messages
        assert line.startswith(f"{name.upper()} is ignored: Kubernetes")
        monkeypatch.delenv(name.upper())


def test_a_wrong_setting_stops_only_what_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_METRICS_PORT", "many")
    monkeypatch.setenv("PORT", "9000")
    assert Settings.load(only={"port"}).port == 9000
    assert Settings.load(only={"port"}).worker_metrics_port == 0
    with pytest.raises(InvalidSettings):
        Settings.load(only={"worker_metrics_port"})


READ = re.compile(r"\bsettings(?:\(request\))?\.(\w+)")


def read_in(*modules: str) -> set[str]:
    """The settings that these modules read."""
    text = "".join((PACKAGE / each).read_text() for each in modules)
    return set(READ.findall(text)) & Settings.model_fields.keys()


def test_each_setting_is_read_by_some_code() -> None:
    others = [each for each in PACKAGE.rglob("*.py") if each.name != "settings.py"]
    text = "".join(each.read_text() for each in others)
    derived = {"listen_url": "listen_database_url", "public_path": "public_url"}
    read = {derived.get(name, name) for name in READ.findall(text)}
    assert Settings.model_fields.keys() - read == set()


def test_commands_name_the_settings_that_they_read() -> None:
    database = read_in("database/pool.py", "database/poolers.py") | {"listen_database_url"}
    assert database == DATABASE
    assert database | read_in("worker.py", "cli/worker.py") == WORKER
    serving = [
        str(each.relative_to(PACKAGE))
        for folder in ("web", "streaming", "inventory")
        for each in (PACKAGE / folder).rglob("*.py")
    ]
    assert not WORKERS_OWN & read_in("app.py", "server.py", "cli/demo.py", *serving)


def test_the_first_parts_of_our_paths_are_known() -> None:
    app = create_app(Settings.load({"database_url": "postgresql://nowhere/shop"}), is_demo=True)
    paths = [getattr(each, "path", "") for each in app.routes]
    assert {path.split("/")[1] for path in paths} - {""} == OWN_PATHS

"""Bearer tokens: which are good, and how one is made."""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from stream_server.web.auth import Identity, Tokens
from tests.support.shop import SECRET, Shop, token

NOW = datetime.now(UTC)
CLAIMS: dict[str, Any] = {"sub": "anna", "role": "admin", "exp": NOW + timedelta(hours=1)}


def test_a_token_says_who_and_as_what() -> None:
    tokens = Tokens(SECRET)
    made = tokens.issue("anna", "shop", now=NOW, lifetime=timedelta(hours=1))
    assert tokens.read(made) == Identity("anna", "shop")


def rsa_keys() -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def hand_signed(header: dict[str, Any], secret: bytes, **claims: object) -> str:
    """HS256 whatever the library thinks of the key, the header and the claims."""
    payload = {**CLAIMS, "exp": int(CLAIMS["exp"].timestamp()), **claims}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in (header, payload)
    ]
    signature = hmac.digest(secret, b".".join(parts), hashlib.sha256)
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def test_a_shops_own_issuer_is_known_by_its_public_key() -> None:
    private, public = rsa_keys()
    tokens = Tokens("", public)
    assert tokens.read(jwt.encode(CLAIMS, private, "RS256")) == Identity("anna", "admin")
    with pytest.raises(ValueError, match="not accepted"):
        tokens.read(jwt.encode(CLAIMS, SECRET, "HS256"))
    # The public key is public: it must not pass as a secret.
    with pytest.raises(ValueError, match="not accepted"):
        tokens.read(hand_signed({"alg": "HS256", "typ": "JWT"}, public.encode()))
    with pytest.raises(ValueError, match="no secret"):
        tokens.issue("anna", "shop", now=NOW, lifetime=timedelta(hours=1))


HS256: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
ODD_HEADERS: list[dict[str, Any]] = [
    {"alg": ["HS256"]}, {"alg": {"HS256": 1}}, {"alg": None}, {"alg": 256}, {"kid": 7}, {"kid": {}}
]  # fmt: skip
ODD_CLAIMS: list[Any] = [None, [], {}, [["admin"]], float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "a.b.c",
        "nonsense",
        jwt.encode(CLAIMS, "another secret of thirty-two characters", "HS256"),
        jwt.encode({**CLAIMS, "exp": NOW - timedelta(minutes=5)}, SECRET, "HS256"),
        jwt.encode({**CLAIMS, "nbf": NOW + timedelta(days=1)}, SECRET, "HS256"),
        jwt.encode({k: v for k, v in CLAIMS.items() if k != "exp"}, SECRET, "HS256"),
        jwt.encode({k: v for k, v in CLAIMS.items() if k != "sub"}, SECRET, "HS256"),
        jwt.encode({**CLAIMS, "sub": ""}, SECRET, "HS256"),
        jwt.encode({**CLAIMS, "sub": "a\nb"}, SECRET, "HS256"),
        jwt.encode({**CLAIMS, "role": "root"}, SECRET, "HS256"),
        jwt.encode({**CLAIMS, "role": ["admin"]}, SECRET, "HS256"),
        jwt.encode(CLAIMS, "", "none"),
        jwt.encode(CLAIMS, "x" * 64, "HS512"),
        *(hand_signed({**HS256, **header}, SECRET.encode()) for header in ODD_HEADERS),
        *(
            hand_signed(HS256, SECRET.encode(), **{claim: value})
            for claim in ("sub", "exp", "nbf", "role")
            for value in ODD_CLAIMS
        ),
        hand_signed(HS256, SECRET.encode(), iat=float("inf")),
        hand_signed(HS256, SECRET.encode(), sub="\ud800"),
        hand_signed(HS256, SECRET.encode(), sub=7),
    ],
    ids=lambda _: "token",  # their own text differs by the second that they are made in
)
def test_any_other_token_is_refused_in_words(bad: str) -> None:
    with pytest.raises(ValueError, match="token"):
        Tokens(SECRET).read(bad)


async def test_a_bad_token_is_a_401_also_where_none_is_needed(api: Shop) -> None:
    listed = hand_signed({"alg": ["HS256"]}, b"anything")
    for header in (
        *("Bearer nonsense", "Basic YTpi", "Bearer", f"Bearer {'x' * 9000}", ""),
        f"Bearer {listed}",
    ):
        for path in ("/api/orders", "/api/reservations"):
            answer = await api.shopper.post(path, json={}, headers={"Authorization": header})
            assert answer.status_code == 401, header
            assert answer.headers["www-authenticate"].startswith('Bearer realm="stream-server"')
    named = await api.shopper.post(
        "/api/reservations",
        json={"checkoutToken": "c", "lines": [{"productId": "lamp", "quantity": 1}]},
        headers={"Authorization": f"Bearer {token('shop', 'till 4')}"},
    )
    assert named.status_code == 201
    assert await api.connection.fetchval(
        "select actor from inventory_log where operation = 'reserve'"
    ) == ("till 4")


async def test_the_command_makes_a_token() -> None:
    async def run(*arguments: str, secret: str = SECRET) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "stream_server.cli", "token", *arguments),
            env={**os.environ, "SECRET_KEY": secret, "DATABASE_URL": ""},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        return process.returncode, out.decode().strip(), err.decode()

    code, made, _ = await run("--subject", "anna", "--role", "shop", "--expires", "2d")
    assert code == 0
    assert Tokens(SECRET).read(made) == Identity("anna", "shop")
    claims = jwt.decode(made, SECRET, ["HS256"])
    assert claims["exp"] - claims["iat"] == 2 * 86_400
    assert (await run("--subject", "anna", "--role", "root"))[0] == 2
    assert (await run("--subject", "anna", "--role", "shop", "--expires", "soon"))[0] == 2
    code, _, error = await run("--subject", "anna", "--role", "shop", secret="")
    assert (code, "SECRET_KEY" in error) == (1, True)
    code, _, error = await run("--subject", "anna", "--role", "shop", secret="short")
    assert (code, "short" in error) == (1, False)


def test_a_token_for_another_application_or_of_another_issuer_is_refused() -> None:
    private, public = rsa_keys()
    tokens = Tokens(SECRET, public, audience="stock", issuer="https://id.example")
    good = {**CLAIMS, "aud": ["web", "stock"], "iss": "https://id.example"}
    made = tokens.issue("anna", "admin", now=NOW, lifetime=timedelta(hours=1))
    for each in (made, jwt.encode(good, private, "RS256"), jwt.encode(good, SECRET, "HS256")):
        assert tokens.read(each) == Identity("anna", "admin")
        assert Tokens(SECRET, public).read(each) == Identity("anna", "admin")
    for claims, reason in (
        ({**good, "aud": "web"}, "another audience"),
        ({**good, "aud": None}, "aud"),
        ({**CLAIMS, "iss": "https://id.example"}, "has no aud"),
        ({**good, "iss": "https://evil.example"}, "another issuer"),
        ({**CLAIMS, "aud": "stock"}, "has no iss"),
    ):
        for key, algorithm in ((private, "RS256"), (SECRET, "HS256")):
            with pytest.raises(ValueError, match=reason):
                tokens.read(jwt.encode(claims, key, algorithm))

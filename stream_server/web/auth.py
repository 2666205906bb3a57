"""Authentication by bearer tokens (RFC 6750). They are JWTs, signed with SECRET_KEY (HS256) or by
the shop's own issuer, whose public key is in the settings (RS256).

A token has a subject (`sub`, the actor in the log), a role (`role`) and an expiry (`exp`). With
JWT_AUDIENCE or JWT_ISSUER set, it must also have that audience (`aud`) or issuer (`iss`). Set
JWT_AUDIENCE if the issuer signs tokens for several applications: otherwise, a token for another
application is accepted here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import jwt
from starlette.exceptions import HTTPException
from starlette.requests import Request

__all__ = ["ROLES", "Identity", "Role", "Tokens", "identity_of", "require_role"]

Role = Literal["admin", "shop"]
ROLES: Final[Sequence[Role]] = ("admin", "shop")
CLOCK_SKEW: Final = timedelta(seconds=30)
MAX_TOKEN: Final = 8192  # characters


@dataclass(frozen=True, slots=True)
class Identity:
    """The sender of a request. An admin may do everything that a shop may."""

    subject: str
    role: Role


class Tokens:
    """Issuer and reader of tokens. An empty key is not used; an empty audience or issuer is not
    checked."""

    def __init__(
        self, secret: str, public_key: str = "", *, audience: str = "", issuer: str = ""
    ) -> None:
        self._secret = secret
        self._audience = audience
        self._issuer = issuer
        self._required = [
            "exp", "sub", *(["aud"] if audience else ()), *(["iss"] if issuer else ()),
        ]  # fmt: skip
        # The key decides the algorithm. If the token did, the public key would pass as an HS256
        # secret.
        self._keys = {
            algorithm: key for algorithm, key in (("HS256", secret), ("RS256", public_key)) if key
        }

    def issue(self, subject: str, role: Role, *, now: datetime, lifetime: timedelta) -> str:
        """Returns a token signed with the secret. Raises ValueError if there is no secret."""
        if not self._secret:
            raise ValueError("there is no secret to sign tokens with")
        claims: dict[str, object] = {
            "sub": subject, "role": role, "iat": now, "exp": now + lifetime,
        }  # fmt: skip
        if self._audience:
            claims["aud"] = self._audience
        if self._issuer:
            claims["iss"] = self._issuer
        return jwt.encode(claims, self._secret, "HS256")

    def read(self, token: str) -> Identity:
        """Returns the token's identity. Raises ValueError, with a message for the client, if the
        token is not valid."""
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
            if not isinstance(algorithm, str) or algorithm not in self._keys:
                raise ValueError("the token's signature algorithm is not accepted")
            claims = jwt.decode(
                token,
                self._keys[algorithm],
                [algorithm],
                audience=self._audience or None,
                issuer=self._issuer or None,
                options={"require": self._required, "verify_aud": bool(self._audience)},
                leeway=CLOCK_SKEW,
            )
        except jwt.ExpiredSignatureError:
            raise ValueError("the token has expired") from None
        except jwt.InvalidAudienceError:
            raise ValueError("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise ValueError("the token is from another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise ValueError(f"the token has no {error.claim}") from None
        except (jwt.PyJWTError, TypeError, OverflowError, RecursionError):
            # Before 2.15, PyJWT raises the last three for a list, Infinity, or deep nesting.
            raise ValueError("the token is not valid") from None
        subject: str = claims["sub"]
        role: Role | None = claims.get("role")
        if not subject.strip() or not subject.isprintable() or len(subject) > 200:
            raise ValueError("the token's subject is not valid")
        if role is None or role not in ROLES:
            raise ValueError("the token's role is unknown")
        return Identity(subject, role)


def identity_of(request: Request) -> Identity | None:
    """Returns the sender of the request; None without a token. Raises HTTPException 401 if the
    token is not valid."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip() or len(token) > MAX_TOKEN:
        raise _refusal("expected Authorization: Bearer <token>", "invalid_request")
    tokens: Tokens = request.app.state.tokens
    try:
        return tokens.read(token.strip())
    except ValueError as error:
        raise _refusal(str(error), "invalid_token") from None


def require_role(request: Request, role: Role) -> Identity:
    """Returns the sender of the request, who must have this role or be an admin.

    Raises HTTPException: 401 without a valid token, 403 with another role.
    """
    identity = identity_of(request)
    if identity is None:
        raise _refusal("a bearer token is required")
    if identity.role not in (role, "admin"):
        raise HTTPException(
            403,
            f"The role {identity.role} may not do this",
            {"WWW-Authenticate": 'Bearer realm="stream-server", error="insufficient_scope"'},
        )
    return identity


def _refusal(reason: str, error: str = "") -> HTTPException:
    challenge = 'Bearer realm="stream-server"'
    if error:
        challenge += f', error="{error}", error_description="{reason}"'
    return HTTPException(401, reason[:1].upper() + reason[1:], {"WWW-Authenticate": challenge})

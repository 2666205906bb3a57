"""TLS to Postgres, by libpq's options (https://www.postgresql.org/docs/current/libpq-ssl.html)."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["SSL_MODES", "TLS_OPTIONS", "tls_context", "tls_problem"]

SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
ENCRYPTED: Final = SSL_MODES[3:]
VERSIONS: Final[Mapping[str, ssl.TLSVersion]] = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "sslmode": SSL_MODES,
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": tuple(VERSIONS),
    "ssl_max_protocol_version": tuple(VERSIONS),
}
FILES: Final = ("sslrootcert", "sslcrl", "sslcert", "sslkey")
TLS_OPTIONS: Final = frozenset({*CHOICES, *FILES, "sslpassword"})


def tls_context(options: Mapping[str, str]) -> ssl.SSLContext | None:
    """For `sslmode` from `require` on; None for the others, which asyncpg does itself.

    As in libpq, a file of CAs makes `require` check the chain, and where `sslrootcert` is not given
    it is `~/.postgresql/root.crt`. Unlike in libpq, `verify-full` takes the system's CAs if that
    file is not there either, as `sslrootcert=system` says in so many words. Files are read anew at
    each call: certificates are renewed while a program runs.

    Raises OSError (ssl.SSLError is one) if a file is gone, or is not what it should be.
    """
    mode = options.get("sslmode", "prefer")
    if mode not in ENCRYPTED:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = mode == "verify-full"
    roots = options.get("sslrootcert") or _default_file("root.crt")
    if roots == "system" or (roots is None and mode == "verify-full"):
        context.load_default_certs()
    elif roots is not None:
        context.load_verify_locations(cafile=roots)
    else:
        context.verify_mode = ssl.CERT_NONE
    revoked = options.get("sslcrl") or _default_file("root.crl")
    if revoked and context.verify_mode != ssl.CERT_NONE:
        context.load_verify_locations(cafile=revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    if certificate := options.get("sslcert") or _default_file("postgresql.crt"):
        key = options.get("sslkey") or _default_file("postgresql.key")
        password = options.get("sslpassword", "")
        context.load_cert_chain(certificate, key, lambda: password)
    context.minimum_version = VERSIONS[options.get("ssl_min_protocol_version", "TLSv1.2")]
    if newest := options.get("ssl_max_protocol_version"):
        context.maximum_version = VERSIONS[newest]
    context.set_alpn_protocols(["postgresql"])  # direct TLS wants it, since Postgres 17
    return context


def tls_problem(options: Mapping[str, str]) -> str | None:
    """What is wrong with the options, and what was expected; None if nothing is."""
    for name, choices in CHOICES.items():
        if options.get(name, choices[0]) not in choices:
            return f"{name} must be one of {', '.join(choices)}"
    mode, roots = options.get("sslmode", "prefer"), options.get("sslrootcert")
    if roots == "system" and mode != "verify-full":
        return "sslrootcert=system wants sslmode=verify-full"
    if options.get("sslnegotiation") == "direct" and mode not in ENCRYPTED:
        return f"sslnegotiation=direct wants sslmode={', '.join(ENCRYPTED)}"
    if mode == "verify-ca" and not (roots or _default_file("root.crt")):
        return "sslmode=verify-ca wants sslrootcert, the file of the CA"
    for name in FILES:
        if (path := options.get(name)) and not (name == "sslrootcert" and path == "system"):
            try:
                Path(path).open("rb").close()
            except OSError as error:
                return f"{name}: the file cannot be read: {error.strerror}"
    try:
        # Also where asyncpg will make its own: the files are the same.
        tls_context({**options, "sslmode": mode if mode in ENCRYPTED else "require"})
    except ssl.SSLError:
        return (
            "sslrootcert, sslcrl, sslcert and sslkey must be files in PEM, the key the"
            " certificate's own and sslpassword the key's"
        )
    except OSError as error:
        return f"a file in ~/.postgresql cannot be read: {error.strerror}"
    return None


def _default_file(name: str) -> str | None:
    try:
        path = Path.home() / ".postgresql" / name
        return str(path) if path.exists() else None
    except (OSError, RuntimeError):  # there is no home, or we may not look into it
        return None

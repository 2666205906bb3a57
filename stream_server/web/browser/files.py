"""The client's modules, served under content hashes, cacheable for ever, to any origin.

/client/{hash}/define.js   for pages of this server: cached for a year
/client/define.js          for pages of other sites: revalidated, re-exports the former

The imports of a module are relative, so they stay under its hash. The stable URL only re-exports,
so that a module is loaded once even if a page uses both URLs.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from hashlib import blake2b
from importlib.resources import files
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stream_server.web.browser import minify
from stream_server.web.encodings import accepts_gzip
from stream_server.web.routing import Resource
from stream_server.web.validators import if_none_match, is_among

__all__ = ["ClientFiles", "client_routes"]

_TYPES: Final = {".js": "text/javascript; charset=utf-8", ".ts": "text/plain; charset=utf-8"}
_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Vary": "Accept-Encoding",
}
_ALL: Final = "client.js"
_INNER: Final = ("connection.js", "element.js", "inventory.js", "tabs.js")
_OUTER: Final = ("define.js", "hooks.js", "react.js")
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_REVALIDATE: Final = "public, no-cache"


class ClientFiles:
    """The files of `static/client`, and their URLs."""

    def __init__(self, sources: Mapping[str, bytes]) -> None:
        digest = blake2b(digest_size=8)
        for name, source in sorted(sources.items()):
            digest.update(b"%b\0%d\0%b" % (name.encode(), len(source), source))
        self.hash = digest.hexdigest()
        self.sources = dict(sources)
        self._compressed = {
            name: gzip.compress(source, 9, mtime=0) for name, source in sources.items()
        }

    @classmethod
    def from_package(cls) -> ClientFiles:
        """Returns the files of this release."""
        folder = files("stream_server") / "static" / "client"
        return cls(_bundle({each.name: each.read_text("utf-8") for each in folder.iterdir()}))

    def url(self, name: str) -> str:
        """Returns the path of a file for our pages. Raises KeyError for an unknown file."""
        if name not in self.sources:
            raise KeyError(name)
        return f"/client/{self.hash}/{name}"

    def gzip_of(self, name: str) -> bytes:
        """Returns the file, compressed with gzip."""
        return self._compressed[name]


def _bundle(sources: Mapping[str, str]) -> dict[str, bytes]:
    """Bundles the store and the elements into one file, and adds a module for each public name,
    which re-exports from that file."""
    modules = {name: text for name, text in sources.items() if name.endswith(".js")}
    public = [name for name in sorted(modules) if name not in (*_INNER, *_OUTER)]
    packed = {_ALL: minify.bundle(modules, public)}
    for name in public:
        packed[name] = f"export{{{','.join(minify.exports(modules[name]))}}}from'./{_ALL}';"
    for name in _OUTER:
        packed[name] = minify.minify(modules[name].replace("./register.js", f"./{_ALL}"))
    types = {name: text for name, text in sources.items() if name.endswith(".d.ts")}
    return {name: text.encode() for name, text in {**packed, **types}.items()}


def client_routes() -> list[Resource]:
    """Returns the routes of the client. They need the ClientFiles in `request.app.state`."""
    return [
        Resource("/client/{name}", GET=_get_stable),
        Resource("/client/{hash}/{name}", GET=_get_hashed),
    ]


async def _get_hashed(request: Request) -> Response:
    """Answers with a file. A page of another release has another hash: it gets our file, but must
    not cache it."""
    client: ClientFiles = request.app.state.client
    name = _check_name(client, request.path_params["name"])
    is_ours = request.path_params["hash"] == client.hash
    headers = {**_headers(name), "Cache-Control": _FOR_EVER if is_ours else _REVALIDATE}
    if accepts_gzip(request):
        return Response(client.gzip_of(name), headers={**headers, "Content-Encoding": "gzip"})
    return Response(client.sources[name], headers=headers)


async def _get_stable(request: Request) -> Response:
    """Answers with a module that re-exports the current one; with the file itself for types."""
    client: ClientFiles = request.app.state.client
    name = _check_name(client, request.path_params["name"])
    etag = f'"{client.hash}"'
    headers = {**_headers(name), "Cache-Control": _REVALIDATE, "ETag": etag}
    if is_among(etag, if_none_match(request)):
        return Response(status_code=304, headers=headers)
    if not name.endswith(".js"):
        return Response(client.sources[name], headers=headers)
    return Response(f'export * from "./{client.hash}/{name}";\n', headers=headers)


def _check_name(client: ClientFiles, name: str) -> str:
    """Returns the name. Raises HTTPException 404 if no file has it."""
    if name not in client.sources:
        raise HTTPException(404, f"The client has no file {name!r}")
    return name


def _headers(name: str) -> dict[str, str]:
    return {**_HEADERS, "Content-Type": _TYPES[name[name.rindex(".") :]]}

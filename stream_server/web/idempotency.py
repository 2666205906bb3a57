"""Requests that clients may repeat: the header `Idempotency-Key` identifies a request, and its
answer is stored in the transaction of its changes.

    async def work(connection: Queries) -> Response: …
    return await once(request, identity, body, work)

The same request with the same key gets the same answer, refusal or success, however often it is
sent, and even if it is sent several times at once. Another request with that key raises
IdempotencyKeyReused. Keys belong to the authenticated sender. Without the header, `once` only runs
`work`.
"""

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from stream_server.database.shares import Work
from stream_server.database.transactions import Transaction, in_transaction
from stream_server.errors import DatabaseError, IdempotencyKeyReused, StreamServerError
from stream_server.web import inputs, state
from stream_server.web.answers import MEDIA_TYPE
from stream_server.web.auth import Identity
from stream_server.web.errors import explain

__all__ = ["once"]

CLAIM: Final = """
insert into idempotency_keys (actor, key, fingerprint) values (:actor, :key, :fingerprint)
on conflict (actor, key) do nothing returning true
"""
KEEP: Final = """
update idempotency_keys set status = :status, body = :body where actor = :actor and key = :key
"""
KEPT: Final = """
select fingerprint, status, body from idempotency_keys where actor = :actor and key = :key
"""


async def once(
    request: Request,
    identity: Identity,
    body: bytes,
    work: Callable[[Transaction], Awaitable[Response]],
    *,
    kind: Work = Work.CHANGING,
) -> Response:
    """Runs `work` in a transaction and returns its answer, or the answer that is stored for the
    key."""
    whole = state.pool(request)
    pool = whole.doing(kind)
    given = request.headers.get("idempotency-key")
    if given is None:
        return await in_transaction(pool, work)
    name = {"actor": identity.subject, "key": inputs.text(given, "Idempotency-Key")}
    fingerprint = _fingerprint(request, body)

    async def work_once(connection: Transaction) -> Response:
        # A second request with this key waits here until the first has committed.
        claimed = await connection.fetch_val(CLAIM, {**name, "fingerprint": fingerprint})
        if claimed is None:
            return await _replay(connection, name, fingerprint)
        await connection.execute(
            "select set_config('stream_server.idempotency_key', :key, true)", {"key": name["key"]}
        )
        try:
            async with connection.savepoint():
                response = await work(connection)
        except DatabaseError:
            raise  # not stored: a retry may succeed
        except StreamServerError as error:
            known = explain(error)
            assert known is not None
            response = known
        answer = {"status": response.status_code, "body": bytes(response.body).decode()}
        await connection.execute(KEEP, {**name, **answer})
        return response

    return await in_transaction(pool, work_once)


async def _replay(connection: Transaction, name: dict[str, str], fingerprint: str) -> Response:
    kept = await connection.fetch_one(KEPT, name)
    assert kept is not None
    if kept["fingerprint"] != fingerprint:
        raise IdempotencyKeyReused
    return Response(
        kept["body"], kept["status"], {"Idempotency-Replayed": "true"}, media_type=MEDIA_TYPE
    )


def _fingerprint(request: Request, body: bytes) -> str:
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return sha256(b"\0".join((request.method.encode(), path, body))).hexdigest()

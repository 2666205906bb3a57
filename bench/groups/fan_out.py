"""What a delivery costs the server: one product, 10,000 streams, the same bytes from everybody.

Ours is told by a commit in Postgres, so reading the log, the state and the encoding are in its
figure; the peers are told by a POST and know nothing but bytes. They take turns, round by round,
and ratios are of figures of one round: the machine may be slower in the next.
"""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from bench.context import Context
from bench.database import Database
from bench.figures import Figure, against, at_least, at_most
from bench.load import Load, load
from bench.processes import BenchError, Process
from bench.servers import FLOOR, NCHAN, PLAIN, Peer, floor, nchan, ours, plain

STREAMS = 10_000
PACE = 0.15  # seconds between changes at least: a product is quiet for 0.1 s after each
OURS = "stream-server"
PATH = "/api/inventory/p0/stream"
SLOWER = {PLAIN: 0.4}  # the part of the changes that is enough to measure it


@dataclass(frozen=True, slots=True)
class Turn:
    """What one server did in one round."""

    microseconds: float  # of CPU a delivery
    kilobytes: float  # of memory a stream
    accepted: float  # streams a second


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    process: Process
    port: int
    path: str
    publish: Callable[[], None]


def measure(context: Context) -> list[Figure]:
    rounds = context.pick(5, 2)
    changes = context.pick(25, 12)
    turns: dict[str, list[Turn]] = defaultdict(list)
    opened_with_state: list[float] = []
    with ExitStack() as stack:
        database = stack.enter_context(context.database(products=100))
        # Few pings while we count. Some come all the same: a slot of streams every 24 s.
        quiet = {"STREAM_PING_SECONDS": "25"}
        own = stack.enter_context(ours(database, context.folder, quiet))
        frame = real_frame(own.port, database)
        servers = [Server(OURS, own.process, own.port, PATH, database.sell)]
        for peer in (
            stack.enter_context(floor(context.build, context.folder)),
            stack.enter_context(nchan(context.folder)),
            stack.enter_context(plain(context.folder)),
        ):
            if peer is not None:
                publish = same_bytes(context, peer, frame)
                servers.append(Server(peer.name, peer.process, peer.port, "/sub", publish))
        for number in range(rounds):
            for server in servers if number % 2 == 0 else reversed(servers):
                turns[server.name].append(turn(context, server, changes, len(frame)))
                if server.name == NCHAN:
                    opened_with_state.append(accepted(context, server, "/sub-with-last"))
    return [*figures(turns, opened_with_state), Figure("bytes a delivery", len(frame), "B")]


def real_frame(port: int, database: Database) -> bytes:
    """The chunk that a stream of ours gets at a change."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
        stream.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % PATH.encode())
        read_through(stream, b"event: snapshot")  # the head and the first comment, too
        database.sell()
        return read_through(stream, b"event: inventory_updated")


def read_through(stream: socket.socket, event: bytes) -> bytes:
    """All up to the end of the first event of this name."""
    data = b""
    while event not in data or not data.endswith(b"\n\n\r\n"):
        if not (more := stream.recv(65_536)):
            raise BenchError("The stream ended")
        data += more
    return data


def same_bytes(context: Context, peer: Peer, frame: bytes) -> Callable[[], None]:
    """How the peer publishes what is, as its streams get it, as long as this frame.

    nchan gives ids of its own, shorter than ours: the data are that much longer.
    """
    event = frame.split(b"\r\n", 1)[1].removesuffix(b"\r\n")
    fields = dict(line.split(b": ", 1) for line in event.splitlines() if line)
    data, position = fields[b"data"], fields[b"id"].decode()
    with load(context.build, peer.port, "/sub", 1) as opened:
        opened.report()
        peer.publish(data, position)
        missing = len(frame) - opened.wait(1, 5).bytes
    if missing < 0:
        raise BenchError(f"{peer.name} needs {-missing} more bytes a frame than we do")
    padded = data[:-1] + b" " * missing + data[-1:]
    return partial(peer.publish, padded, position)


def turn(context: Context, server: Server, changes: int, size: int) -> Turn:
    """Opens the streams, makes the changes one after the other, and closes the streams."""
    changes = int(changes * SLOWER.get(server.name, 1))
    process = server.process
    process.settle()
    memory = process.memory()
    with load(context.build, server.port, server.path, STREAMS) as opened:
        process.settle()
        memory = process.memory() - memory
        opened.report()
        cpu = process.cpu()
        deliver(opened, server, changes, size)
        cpu = process.cpu() - cpu
    process.settle()
    deliveries = STREAMS * changes
    return Turn(cpu / deliveries * 1e6, memory / STREAMS / 1024, STREAMS / opened.seconds)


def accepted(context: Context, server: Server, path: str) -> float:
    """Streams a second, of a path that is only opened."""
    with load(context.build, server.port, path, STREAMS) as opened:
        pass
    server.process.settle()
    return STREAMS / opened.seconds


def deliver(opened: Load, server: Server, changes: int, size: int) -> None:
    """Each change once all streams have the one before. Raises BenchError if a delivery is lost,
    or has another size."""
    for _ in range(changes):
        began = time.monotonic()
        server.publish()
        report = opened.wait(STREAMS, 20)
        if report.updates != STREAMS:
            raise BenchError(f"{server.name} delivered {report.updates:,} of {STREAMS:,}")
        if report.bytes != STREAMS * size:
            raise BenchError(f"{server.name} delivered {report.bytes / STREAMS} bytes, not {size}")
        time.sleep(max(0.0, PACE - (time.monotonic() - began)))


def figures(turns: dict[str, list[Turn]], opened_with_state: list[float]) -> list[Figure]:
    def each(name: str, what: str) -> list[float]:
        return [getattr(one, what) for one in turns[name]]

    mine = each(OURS, "microseconds")
    bars = {FLOOR: at_most(1.25), NCHAN: at_most(0.85), PLAIN: at_most(0.25)}
    given = [
        against("CPU a delivery", "µs", mine, name, each(name, "microseconds"), bar)
        for name, bar in bars.items()
        if name in turns
    ]
    # What a first round takes is what a stream needs; later ones find memory at hand.
    memory = {name: each(name, "kilobytes")[0] for name in turns}
    given.append(Figure("memory a stream", memory.pop(OURS), "KB", at_most(5)))
    given += [Figure(f"memory a stream, {name}", size, "KB") for name, size in memory.items()]
    mine = each(OURS, "accepted")
    for name, bar in ((NCHAN, at_least(0.4)), (PLAIN, None)):
        if name in turns:
            peers = each(name, "accepted")
            given.append(against("streams accepted", "/s", mine, name, peers, bar))
    if opened_with_state:
        name = f"{NCHAN}, sending the last state as we do"
        given.append(against("streams accepted", "/s", mine, name, opened_with_state))
    return given

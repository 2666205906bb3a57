"""The first frames of streams, kept until a product or the position changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from stream_server.streaming.frames import Frame

__all__ = ["MAX_BYTES", "Openings"]

MAX_BYTES: Final = 262_144  # of bodies; a larger snapshot is sent in several events


class Openings:
    """First frames, shared by streams that open at the same time and show the same products. Any
    change makes all of them void; `revisions` are the hub's."""

    def __init__(self) -> None:
        self._frames: dict[tuple[str, ...], Frame] = {}
        self._revisions: tuple[int, ...] = ()
        self._bytes = 0

    def get(
        self, revisions: tuple[int, ...], ids: tuple[str, ...], make: Callable[[], Frame]
    ) -> Frame:
        """The frame for these products; `make` makes it if it is not kept."""
        if revisions != self._revisions:
            self._frames.clear()
            self._revisions, self._bytes = revisions, 0
        frame = self._frames.get(ids)
        if frame is None:
            frame = make()
            if len(frame.body) <= MAX_BYTES:
                self._keep(ids, frame)
        return frame

    def _keep(self, ids: tuple[str, ...], frame: Frame) -> None:
        self._frames[ids] = frame
        self._bytes += len(frame.body)
        while self._bytes > MAX_BYTES:
            oldest = next(iter(self._frames))
            self._bytes -= len(self._frames.pop(oldest).body)

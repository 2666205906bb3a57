"""The progress of an import, as one line of the terminal."""

import sys
from types import TracebackType
from typing import Final, Self, TextIO

from stream_server.inventory.imports.run import Progress

__all__ = ["ProgressLine"]

WIDTH: Final = 30
CLEAR: Final = "\r\x1b[K"


class ProgressLine:
    """A progress line that overwrites itself on a terminal and is erased at the end. It writes
    nothing to other outputs."""

    def __init__(self, out: TextIO = sys.stderr) -> None:
        self._out = out
        self._is_terminal = out.isatty()

    def show(self, progress: Progress) -> None:
        if not self._is_terminal:
            return
        done = progress.bytes_read / progress.size if progress.size else 1.0
        bar = "█" * int(WIDTH * done)
        self._out.write(
            f"{CLEAR}{progress.phase.capitalize():8} {bar:░<{WIDTH}} {done:4.0%}"
            f"  {progress.rows:,} rows"
        )
        self._out.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_terminal:
            self._out.write(CLEAR)
            self._out.flush()

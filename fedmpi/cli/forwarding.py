"""Pipes whose reader never goes away, for a launcher that would end its ranks when it cannot write their output."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_PIECE_BYTES = 65_536
_PATIENCE_S = 5.0
"""Host seconds to wait for the end of the output when a process that still holds a pipe outlives the launcher."""


@contextmanager
def forwarded_output() -> Iterator[tuple[int, int]]:
    """Two pipes to write to, which lead to this process's standard output and error, or nowhere where those fail.

    When the block has ended, all that was written to them has been forwarded.
    """
    threads, writing = [], []
    for target in (1, 2):
        source, entrance = os.pipe()
        writing.append(entrance)
        thread = threading.Thread(
            target=_forward, args=(source, target), name=f"output {target}", daemon=True
        )
        thread.start()
        threads.append(thread)
    try:
        yield writing[0], writing[1]
    finally:
        for entrance in writing:
            os.close(entrance)
        for thread in threads:
            thread.join(_PATIENCE_S)


def _forward(source: int, target: int) -> None:
    """Copy until the pipe's last writer has gone; from the first failure on, to nowhere."""
    failed = False
    while piece := os.read(source, _PIECE_BYTES):
        while piece and not failed:
            try:
                piece = piece[os.write(target, piece) :]
            except BlockingIOError:  # a reader that is slow, where another process made the stream so
                select.select([], [target], [])
            except OSError:
                failed = True
    os.close(source)

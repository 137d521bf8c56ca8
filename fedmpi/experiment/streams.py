"""Standard streams that never end a run: what cannot be written any more is dropped.

A reader may go away (``| head``), a terminal be closed, a disk be full, a stream be closed from the start (``>&-``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, TextIO, cast


def open_closed_streams() -> None:
    """Let standard streams that are closed lead nowhere.

    Else the next file that is opened, such as the trace, would get their numbers, and what a library prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            lowest = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, so this one
            os.set_inheritable(lowest, True)
            if getattr(sys, name) is None:
                setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115


def take_any_text() -> None:
    """Let standard output take characters that its encoding lacks, as ``\\xe4`` or ``\\u65e5``: never an error."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def unfailing_streams() -> Iterator[None]:
    """Within it nothing that is written to ``sys.stdout`` or ``sys.stderr`` raises, whoever writes it."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, Unfailing(out)), cast(TextIO, Unfailing(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        drop_unwritten()


def drop_unwritten() -> None:
    """Flush both streams; what cannot be written is dropped, so that the end of the process does not try again."""
    for stream in (sys.stdout, sys.stderr):
        Unfailing(stream).flush()


class Unfailing:
    """A text stream that leads nowhere from its first failure on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written; the length of all of it."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:
            self._give_up(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write one text after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hand over what was written."""
        try:
            self._stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, BlockingIOError):  # a reader that is slow may go on later
            return
        with suppress(OSError, ValueError):  # a stream without a file, or one that was closed
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

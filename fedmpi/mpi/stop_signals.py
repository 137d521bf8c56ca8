"""Signals that ask a run to stop: the first one for a checkpoint, one that comes clearly later to end at once.

Neither MPI nor torch is imported here, so that the signals count from the first moment of a process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)

INSISTS_AFTER_S: Mapping[int, float] = {
    signal.SIGINT: 1.0,
    signal.SIGTERM: 3.0,
    signal.SIGHUP: 3.0,
    signal.SIGUSR2: inf,
}
"""Seconds after the first signal from which one of these means: now. Before, it is the same request: SLURM and the
launchers of MPI send SIGTERM twice within a moment, and a key may bounce. SIGUSR2 only ever asks for a checkpoint."""

Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None

_STAY_IGNORED = (signal.SIGINT, signal.SIGHUP)
"""Where a process starts with one of these ignored, as under ``nohup`` or in the background, it stays so."""

_STDERR = 2
_NOTICE = b"\nfedmpi: stopping with a checkpoint as soon as this round is done; Ctrl-C again ends at once\n"


class SignalFlag:
    """``set`` by the first of STOP_SIGNALS; ``insisted`` is the number of one that came after INSISTS_AFTER_S, or 0.

    Where ``ends_process`` (the default), insisting ends the process at once with exit code 128 + signal, so that a
    rank can be got rid of whose peers are gone.
    """

    def __init__(self) -> None:
        self.set = False
        self.insisted = 0
        self.ends_process = True
        self._first_s = inf

    def receive(self, number: int, now_s: float) -> None:
        """A signal that arrived at ``now_s`` of the monotonic clock; numbers that ask for nothing are ignored."""
        if number not in INSISTS_AFTER_S:
            return
        if not self.set:
            self._first_s = now_s
            self.set = True
        elif now_s - self._first_s > INSISTS_AFTER_S[number]:
            self.insisted = number


_in_place: SignalFlag | None = None
_handlers: dict[int, Handler] = {}


@contextmanager
def installed(afterwards: signal.Handlers | None = None) -> Iterator[SignalFlag]:
    """The flag of this process: the one that is in place already, else a new one until the block ends.

    ``afterwards``: what the signals do then; None: what they did before. SIG_IGN is for a process that ends with the
    block: the double of a signal comes too late to change its exit code.

    A thread takes the signals in. Python's own handlers run only once the main thread returns from what it is
    doing in C, when two signals of one request may seem seconds apart, or never, when it waits for a rank that is gone.
    Must be called on the main thread, and again once MPI is there: UCX takes SIGHUP for a debugger's.
    """
    global _in_place
    if _in_place is not None:
        _take_signals()
        yield _in_place
        return
    flag = _in_place = SignalFlag()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    wakeup_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    reader = threading.Thread(target=_read, args=(reading, flag), name="stop signals", daemon=True)
    reader.start()
    for number, handler in before.items():
        ignored = handler is signal.SIG_IGN and number in _STAY_IGNORED
        _handlers[number] = signal.SIG_IGN if ignored else _nothing
    _take_signals()
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if afterwards is None else afterwards)
        signal.set_wakeup_fd(wakeup_before)
        os.close(writing)
        reader.join()
        os.close(reading)
        _in_place = None


def _take_signals() -> None:
    for number, handler in _handlers.items():
        signal.signal(number, handler)


def _read(descriptor: int, flag: SignalFlag) -> None:
    """Take in the numbers that Python writes for every signal, until the other end is closed."""
    while numbers := os.read(descriptor, 64):
        now_s = time.monotonic()
        for number in numbers:
            first = not flag.set
            flag.receive(number, now_s)
            if flag.insisted and flag.ends_process:
                os._exit(128 + flag.insisted)
            if first and number == signal.SIGINT and os.isatty(_STDERR):
                with suppress(OSError):
                    os.write(_STDERR, _NOTICE)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Python writes down only signals that have a handler; the thread does the rest."""

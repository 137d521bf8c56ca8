"""Ranks that are silent for too long end the job: stopped, hung or cut off, they would let the others wait for ever.

The ranks form a ring, in which each regularly says to the next that it is alive. A timer's signal does so: Python
handles it on the main thread between two instructions, so whatever computes, reads or waits is alive, and what does
not return from a call, or is not scheduled at all, is silent. MPI is called by the main thread alone.
"""

from __future__ import annotations

import platform
import signal
import sys
import time
from contextlib import AbstractContextManager
from types import FrameType, TracebackType

import numpy as np

from fedmpi.mpi.agreement import Refused, any_rank
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.forkserver.process import launched_process
from fedmpi.mpi.job_end import end_job
from fedmpi.mpi.library import MPI

DEFAULT_TIMEOUT_S = 600.0
_BEATS_PER_TIMEOUT = 20
_LONGEST_INTERVAL_S = 5.0

_BEAT = np.dtype([("process", np.int64), ("host", "S64"), ("last", np.int8)])


def timeout_s(ranks: Ranks, configured: float | None) -> float:
    """The silence in seconds that ends a run, 0 for none; a collective call.

    ``configured`` is ``experiment.stall_timeout_s``; None: ``DEFAULT_TIMEOUT_S``, or 0 where a debugger may hold
    a rank.
    """
    if configured is not None:
        return configured
    debugged = sys.gettrace() is not None or not {"debugpy", "pydevd"}.isdisjoint(sys.modules)
    return 0.0 if any_rank(ranks, debugged) else DEFAULT_TIMEOUT_S


class Silence:
    """For how long another rank has said nothing, while this one was running itself.

    A gap between two looks counts for at most ``longest_gap_s``: a job that was suspended as a whole goes on.
    """

    def __init__(self, now_s: float, longest_gap_s: float) -> None:
        self.seconds = 0.0
        self._seen_s = now_s
        self._longest_gap_s = longest_gap_s

    def look(self, now_s: float, heard: bool) -> None:
        """Note whether something has been heard since the last look."""
        gap_s = min(now_s - self._seen_s, self._longest_gap_s)
        self.seconds = 0.0 if heard else self.seconds + gap_s
        self._seen_s = now_s


class Heartbeat(AbstractContextManager["Heartbeat"]):
    """Within the block, a rank that is silent for ``timeout_s`` (above 0) ends the job with a message that names it.

    Entering is collective, and so is leaving: in order or by ``Refused``, which all ranks raise alike. Uses SIGALRM.
    With one rank there is nobody to watch.
    """

    def __init__(self, ranks: Ranks, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._interval_s = min(timeout_s / _BEATS_PER_TIMEOUT, _LONGEST_INTERVAL_S)
        self._alone = ranks.size == 1
        self._comm = ranks.comm
        self._next = (ranks.rank + 1) % ranks.size
        self._watched = (ranks.rank - 1) % ranks.size
        self._mine = np.zeros(1, dtype=_BEAT)
        self._mine[0] = (launched_process(), platform.node().encode(), 0)
        self._heard = np.zeros(1, dtype=_BEAT)
        self._sending = self._receiving = MPI.REQUEST_NULL
        self._silence = Silence(time.monotonic(), 2 * self._interval_s)

    def __enter__(self) -> Heartbeat:
        if self._alone:
            return self
        self._comm = self._comm.Dup()
        self._receive()
        self._silence = Silence(time.monotonic(), 2 * self._interval_s)
        signal.signal(signal.SIGALRM, self._on_alarm)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, self._interval_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._alone:
            return
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        if kind is None or issubclass(kind, Refused):
            self._say_farewell()

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        if self._sending.Test():
            self._send()
        self._listen()
        signal.setitimer(signal.ITIMER_REAL, self._interval_s)  # not before: a handler may interrupt itself

    def _listen(self) -> None:
        """Take in what the watched rank has said; end the job when that was too long ago."""
        heard = False
        while not self._heard["last"][0] and self._receiving.Test():
            heard = True
            if not self._heard["last"][0]:
                self._receive()
        self._silence.look(time.monotonic(), heard or bool(self._heard["last"][0]))
        if self._silence.seconds > self._timeout_s:
            self._end_job()

    def _say_farewell(self) -> None:
        """Nothing may be on its way when MPI ends: the last message is marked, and is waited for."""
        while not self._sending.Test():
            self._pause()
        self._mine["last"] = 1
        self._send()
        while not (self._sending.Test() and self._heard["last"][0]):
            self._pause()

    def _pause(self) -> None:
        self._listen()
        time.sleep(1e-3)

    def _send(self) -> None:
        self._sending = self._comm.Isend(self._mine.view(np.uint8), dest=self._next)

    def _receive(self) -> None:
        self._receiving = self._comm.Irecv(self._heard.view(np.uint8), source=self._watched)

    def _end_job(self) -> None:
        process, host, _ = self._heard[0]
        where = f" (process {process} on {host.decode(errors='replace')})" if process else ""
        print(
            f"fedmpi: rank {self._watched}{where} has been silent for {self._timeout_s:g} s "
            "(experiment.stall_timeout_s): it is stopped, hangs, or its node is gone; all ranks end, and "
            "--resume goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        end_job(self._comm, 1)

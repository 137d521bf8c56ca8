"""Several programs side by side, each with a log file, and signals that reach all of them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from fedmpi.mpi import stop_signals
from fedmpi.mpi.stop_signals import SignalFlag

_POLL_S = 0.1


@dataclass(frozen=True)
class Program:
    """A command line; what it prints is appended to ``log``."""

    name: str
    command: Sequence[str]
    log: Path


class Pool(AbstractContextManager["Pool"]):
    """Runs programs, at most ``jobs`` at once, in the order given.

    The first signal that asks this process to stop is passed on to the running programs as ``gentle`` and none is
    started any more; one that insists kills them and all that they have started (see ``fedmpi.mpi.stop_signals``).
    """

    def __init__(self, jobs: int, gentle: signal.Signals, environment: Mapping[str, str]) -> None:
        self.interrupted = False
        self._jobs = jobs
        self._gentle = gentle
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stop = SignalFlag()
        self._handlers = ExitStack()

    def __enter__(self) -> Pool:
        self._stop = self._handlers.enter_context(stop_signals.installed())
        self._stop.ends_process = False
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing that was started stays behind, whatever happened."""
        self._signal_groups(signal.SIGKILL)
        for process in self._running.values():
            process.wait()
        self._handlers.close()

    def run(
        self,
        programs: Sequence[Program],
        on_start: Callable[[Program], None],
        on_end: Callable[[Program, int], None],
    ) -> None:
        """Run all of them; ``on_end`` gets the exit code. OSError when one cannot be started."""
        waiting = list(reversed(programs))
        by_name = {program.name: program for program in programs}
        while self._running or (waiting and not self.interrupted):
            while waiting and not self.interrupted and len(self._running) < self._jobs:
                program = waiting.pop()
                on_start(program)
                self._start(program)
            time.sleep(_POLL_S)
            for name, process in list(self._running.items()):
                if process.poll() is not None:
                    del self._running[name]
                    on_end(by_name[name], process.returncode)
            if self._stop.insisted:
                self._signal_groups(signal.SIGKILL)
            elif self._stop.set and not self.interrupted:
                self.interrupted = True
                for process in self._running.values():
                    process.send_signal(self._gentle)

    def _start(self, program: Program) -> None:
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            self._running[program.name] = subprocess.Popen(
                list(program.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self._environment),
                start_new_session=True,  # a Ctrl-C of the terminal is for this process alone
            )

    def _signal_groups(self, number: signal.Signals) -> None:
        for process in self._running.values():
            if process.poll() is None:
                os.killpg(process.pid, number)

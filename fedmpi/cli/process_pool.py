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
from types import FrameType
from typing import Any

_POLL_S = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


@dataclass(frozen=True)
class Program:
    """A command line; what it prints is appended to ``log``."""

    name: str
    command: Sequence[str]
    log: Path


class Pool(AbstractContextManager["Pool"]):
    """Runs programs, at most ``jobs`` at once, in the order given.

    The first SIGINT, SIGTERM or SIGUSR2 to this process is passed on to the running programs as ``gentle``
    and none is started any more; the second one kills them and all that they have started.
    """

    def __init__(self, jobs: int, gentle: signal.Signals, environment: Mapping[str, str]) -> None:
        self.interrupted = False
        self._jobs = jobs
        self._gentle = gentle
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._signals = 0
        self._handlers = ExitStack()

    def __enter__(self) -> Pool:
        for number in _SIGNALS:
            before = signal.signal(number, self._count_signal)
            self._handlers.callback(signal.signal, number, before)
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
        told = 0
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
            if self._signals > told:
                self.interrupted = True
                self._tell(first=told == 0)
                told = self._signals

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

    def _tell(self, first: bool) -> None:
        if not first:
            self._signal_groups(signal.SIGKILL)
            return
        for process in self._running.values():
            process.send_signal(self._gentle)

    def _signal_groups(self, number: signal.Signals) -> None:
        for process in self._running.values():
            if process.poll() is None:
                os.killpg(process.pid, number)

    def _count_signal(self, number: int, frame: FrameType | None) -> Any:
        self._signals += 1

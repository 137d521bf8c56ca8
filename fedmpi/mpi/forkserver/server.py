"""The fork server: ``python -m fedmpi.mpi.forkserver.server LISTENING PROCESSES [MODULE ...]``.

LISTENING is the number of an open socket that listens already. The server imports what every rank needs, forks a
process for every stub that connects, and reports how it ended. It ends when PROCESSES have come (none are awaited for
longer than a few seconds) and gone; where PROCESSES is 0, when its standard input is closed.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from fedmpi.mpi.forkserver import messages
from fedmpi.mpi.forkserver.__main__ import run_program
from fedmpi.mpi.forkserver.process import Description, fixed_at_start, process_state, take_over
from fedmpi.mpi.stop_signals import STOP_SIGNALS

_PRELOADED = (
    *(
        "numpy",
        "torch",
        "h5py",
        "mpi4py",
        "fedmpi.cli.main",
        "fedmpi.cli.run",
        "fedmpi.checkpoint",
        "fedmpi.trace",
    ),
    *(
        "fedmpi.learning.training",
        "fedmpi.learning.evaluation",
        "fedmpi.learning.models",
        "fedmpi.learning.datasets",
    ),
    *(
        "fedmpi.learning.partition",
        "fedmpi.learning.trial",
        "fedmpi.experiment.parts",
        "fedmpi.experiment.description",
    ),
    *(
        "fedmpi.federation.round_cost",
        "fedmpi.federation.verdict",
        "fedmpi.emulation.links",
        "fedmpi.emulation.tcp",
    ),
)
"""What every rank imports and what does not initialize MPI, which a process has to do for itself."""

_PATIENCE_S = 10.0
"""Host seconds to wait for the next of the stubs that have not come yet: some may start without a server after all."""
_SPEAK_WITHIN_S = 5.0
_LOOK_EVERY_S = 1.0
_END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


@dataclass(frozen=True)
class Forked:
    """What a new process is to be: a description, the open files that belong to it, the connection to its stub."""

    description: Description
    files: list[int]
    connection: int


@dataclass
class _Running:
    process: int
    connection: socket.socket
    stub: int
    stopped: bool = False


class ForkServer:
    """Forks a process for every stub that connects to ``listening``; ``processes`` are to come, 0: any number."""

    def __init__(self, listening: socket.socket, processes: int) -> None:
        self._listening: socket.socket | None = listening
        self._to_come = processes
        self._endless = processes == 0
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, _Running] = {}
        self._fixed = fixed_at_start()

    def serve(self) -> Forked | None:
        """None when nothing more can come and nothing runs; in a process that was forked, what it is to be."""
        assert self._listening is not None
        self._selector.register(self._listening, selectors.EVENT_READ)
        if self._endless:
            self._selector.register(sys.stdin, selectors.EVENT_READ)
        last_s = time.monotonic()
        while self._listening is not None or self._running:
            for key, _ in self._selector.select(
                _LOOK_EVERY_S if self._running or not self._endless else None
            ):
                if key.fileobj is self._listening:
                    if forked := self._accept():
                        return forked
                    last_s = time.monotonic()
                elif key.fileobj is sys.stdin:
                    self._selector.unregister(sys.stdin)
                    self._close()
                else:
                    self._report(key.fd)
            self._stop_with_stubs()
            if not self._endless and (self._to_come <= 0 or time.monotonic() - last_s > _PATIENCE_S):
                self._close()
        return None

    def _close(self) -> None:
        if self._listening is not None:
            self._selector.unregister(self._listening)
            self._listening.close()
            self._listening = None

    def _accept(self) -> Forked | None:
        assert self._listening is not None
        connection, _ = self._listening.accept()
        files: list[int] = []
        try:
            connection.settimeout(_SPEAK_WITHIN_S)
            if messages.peer(connection)[1] != os.getuid():
                raise OSError("another user's process")
            description, files = messages.receive(connection)
            self._to_come -= 1
            if description.get("fixed") != self._fixed:
                raise OSError("a process that was started otherwise")
            if self._fork(connection):
                return Forked(description, files, connection.detach())
        except OSError:  # it goes on without the server when it sees that the connection is closed
            connection.close()
        for file in files:
            os.close(file)
        return None

    def _fork(self, connection: socket.socket) -> bool:
        """Whether this is the new process. It begins with the signals that ask for a stop blocked."""
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        process = os.fork()
        if process == 0:
            ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
            self._forget()
            return True
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        watched = os.pidfd_open(process)
        self._selector.register(watched, selectors.EVENT_READ)
        self._running[watched] = _Running(process, connection, messages.peer(connection)[0])
        with suppress(OSError):  # the stub has gone, and with it soon the process
            messages.send(connection, {"process": process})
        return False

    def _forget(self) -> None:
        """In a new process: leave the files of the server to whoever closes them, as their numbers get other uses."""
        self._selector.close()
        for running in self._running.values():
            running.connection.detach()
        if self._listening is not None:
            self._listening.detach()

    def _report(self, watched: int) -> None:
        ended = self._running.pop(watched)
        self._selector.unregister(watched)
        os.close(watched)
        _, status = os.waitpid(ended.process, 0)
        with suppress(OSError), ended.connection:
            messages.send(ended.connection, {"ended": os.waitstatus_to_exitcode(status)})

    def _stop_with_stubs(self) -> None:
        """Stop what runs while its stub is stopped, as by SIGSTOP, which a stub cannot pass on, and let it go on."""
        for running in self._running.values():
            stopped = process_state(running.stub) == "T"
            if stopped != running.stopped:
                running.stopped = stopped
                with suppress(OSError):
                    os.kill(running.process, signal.SIGSTOP if stopped else signal.SIGCONT)


def main(arguments: list[str]) -> None:
    """Import, then serve."""
    listening, processes, *modules = arguments
    # A launcher that ends the group of the first rank's process must not end the others' server.
    os.setpgid(0, 0)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for name in (*_PRELOADED, *modules):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # collections would write to, and so copy, the memory that all share
    forked = ForkServer(socket.socket(fileno=int(listening)), int(processes)).serve()
    if forked is not None:
        take_over(forked.description, forked.files, forked.connection)
        arguments = forked.description["arguments"]
        if arguments[0] != "-m":  # a module, that is fedmpi, unblocks them when it is ready for them
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        run_program(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])

"""The launcher's own process of a rank that a fork server runs: passes signals on, and ends as the rank ended."""

from __future__ import annotations

import hashlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn
from uuid import uuid4

from fedmpi.mpi.forkserver import messages
from fedmpi.mpi.forkserver.node import node_launch
from fedmpi.mpi.forkserver.process import describe, is_forked

VARIABLE = "FEDMPI_FORKSERVER"
"""Environment variable: "off", or the name of a fork server that serves all launches of this user."""

_CAN_FORK = sys.platform == "linux" and hasattr(os, "pidfd_open")
_BIND_WITHIN_S = 2.0
_IMPORT_WITHIN_S = 300.0
_AT_ONCE = 65_536
_MOST_WAITING = 1024
_FORWARDED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGQUIT, signal.SIGCONT),
)


def run_forked(arguments: list[str], environment: Mapping[str, str] = os.environ) -> None:
    """Have a fork server of this node run ``python ARGUMENTS`` in place of this process, and end as it ended.

    Returns where there is none: this process is alone on its node, or the server could not be had. ``arguments`` begin
    with ``-m MODULE`` or with a file. Must be called before MPI, torch or threads are there.
    """
    if is_forked() or not _CAN_FORK:
        return
    with suppress(OSError):
        connection = _connection(environment)
        if connection is not None:
            with connection:
                _run(connection, arguments)


def _connection(environment: Mapping[str, str]) -> socket.socket | None:
    """To the server that the first process of the node starts; None where there is to be none. Raises OSError."""
    named = environment.get(VARIABLE, "")
    if named:
        return None if named == "off" else _connected(f"\0{named}", 0.0)
    launch = node_launch(environment)
    if launch is None or launch.processes < 2:
        return None
    name = "\0fedmpi-" + hashlib.sha256(launch.key.encode()).hexdigest()
    if launch.index == 0:
        _start_server(name, launch.processes)
    return _connected(name, _BIND_WITHIN_S)


@contextmanager
def running_server(python: str, modules: Sequence[str] = ()) -> Iterator[str]:
    """A fork server of the Python ``python`` for any number of processes; its name, for ``VARIABLE``.

    It imports ``modules`` too, begins to serve when that is done, and ends with the block, or with this process.
    """
    name = f"fedmpi-{os.getpid()}-{uuid4().hex}"
    with _start_server(f"\0{name}", 0, python, modules) as server:
        try:
            yield name
        finally:
            assert server.stdin is not None
            server.stdin.close()


@contextmanager
def served(programs: int, environment: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The environment for so many programs that are to run: with the name of a fork server where that saves time."""
    if programs < 2 or VARIABLE in environment or not _CAN_FORK:
        yield dict(environment)
    else:
        with running_server(sys.executable) as name:
            yield {**environment, VARIABLE: name}


def _start_server(
    name: str, processes: int, python: str = sys.executable, modules: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(name)
        listening.listen(processes or _MOST_WAITING)
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        module = ["-m", "fedmpi.mpi.forkserver.server", str(listening.fileno()), str(processes), *modules]
        own_path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        path = own_path if python == sys.executable else {}
        return subprocess.Popen(
            [python, "-P", *flags, *module],
            stdin=subprocess.DEVNULL if processes else subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env={**os.environ, **path},
        )


def _connected(name: str, within_s: float) -> socket.socket:
    end_s = time.monotonic() + within_s
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(name)
            if messages.peer(connection)[1] != os.getuid():
                raise PermissionError("the fork server is another user's")
            return connection
        except OSError as error:
            connection.close()
            if isinstance(error, PermissionError) or time.monotonic() > end_s:
                raise
            time.sleep(0.02)


def _run(connection: socket.socket, arguments: list[str]) -> None:
    """Returns where the server refuses; else ends this process."""
    description, files = describe(arguments, {connection.fileno()})
    launcher = _launcher(description["environment"], files)
    ours, theirs = socket.socketpair()
    passed = [theirs.fileno() if file == launcher else file for file in files]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    try:
        connection.settimeout(_IMPORT_WITHIN_S)
        with theirs:
            messages.send(connection, description, passed)
        process = int(messages.receive(connection)[0]["process"])
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        ours.close()
        return
    for number in _FORWARDED:
        signal.signal(number, lambda number, frame: _forward(process, number))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    for file in files:
        if file > 2 and file != launcher:
            os.close(file)
    connection.settimeout(None)
    try:
        _relay(launcher, ours, until=connection)
        ended = int(messages.receive(connection)[0]["ended"])
    except OSError:  # the server has gone, and with it what it forked
        ended = -signal.SIGKILL
    _end_as(ended)


def _launcher(environment: Mapping[str, str], files: list[int]) -> int | None:
    """The open file through which the launcher speaks PMI with its process, if it does."""
    text = environment.get("PMI_FD", "")
    return int(text) if text.isdecimal() and len(text) < 8 and int(text) in files else None


def _relay(launcher: int | None, process: socket.socket, until: socket.socket) -> None:
    """Pass on what launcher and process say to each other until there is something to read from ``until``.

    Hydra ends a job when a process's PMI connection closes, but not after it has seen that process end. The connection
    is the stub's therefore, and closes as the stub ends, also when that is killed.
    """
    ways = {} if launcher is None else {launcher: process.fileno(), process.fileno(): launcher}
    while (readable := select.select([until.fileno(), *ways], [], [])[0]) != [until.fileno()]:
        for source in ways.keys() & set(readable):
            said = b""
            with suppress(OSError):
                said = os.read(source, _AT_ONCE)
            if not said:
                del ways[source]  # the other way may have something to pass on yet
            with suppress(OSError):
                while said:
                    said = said[os.write(ways[source], said) :]


def _forward(process: int, number: int) -> None:
    with suppress(OSError):
        os.kill(process, number)


def _end_as(ended: int) -> NoReturn:
    """With an exit code, or by the signal -``ended``, as the process that was forked."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if ended < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        with suppress(OSError, ValueError):
            signal.signal(-ended, signal.SIG_DFL)
        os.kill(os.getpid(), -ended)
        signal.pause()
    os._exit(ended)

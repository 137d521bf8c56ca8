"""What makes up a process, as one describes itself and another takes it over."""

from __future__ import annotations

import fcntl
import io
import os
import resource
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from fedmpi.mpi.forkserver.node import namespaces

_LIMITS = tuple(getattr(resource, name) for name in sorted(dir(resource)) if name.startswith("RLIMIT_"))
_FIXED_AT_START = (
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "LD_",
    "MALLOC_",
    "GLIBC_",
    "TORCH_",
    "PYTORCH_",
)
"""Variables that Python, its libraries or the loader read when they start, and never again."""
_SET_BY_IMPORTS = frozenset({"KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"})
"""But these, which scikit-learn sets wherever it is imported, as in a program that starts runs."""
_FLAGS = (
    *("debug", "inspect", "interactive", "optimize", "dont_write_bytecode", "no_user_site", "no_site"),
    *(
        "ignore_environment",
        "verbose",
        "bytes_warning",
        "quiet",
        "hash_randomization",
        "isolated",
        "dev_mode",
    ),
    *("utf8_mode", "warn_default_encoding", "int_max_str_digits"),
)
"""All flags of Python but ``safe_path``: the search path is passed on itself."""
_STANDARD = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))
_MOST_FILES = 250
"""The kernel passes at most 253 open files in one message."""

_SET_SIGNAL = 10
"""F_SETSIG of Linux, which the module fcntl does not name."""

Description = dict[str, Any]


_stands_for = 0


def is_forked() -> bool:
    """Whether this process was forked, to be what another one described."""
    return _stands_for > 0


def launched_process() -> int:
    """The number of the process that a launcher or a shell started: this one, or the one that it stands for."""
    return _stands_for or os.getpid()


def fixed_at_start() -> list[Any]:
    """What a forked process cannot take over from another one; a fork server serves those alone that agree in it."""
    variables = sorted(
        (name, text)
        for name, text in os.environ.items()
        if name.startswith(_FIXED_AT_START) and name not in _SET_BY_IMPORTS
    )
    flags = [
        [getattr(sys.flags, name) for name in _FLAGS],
        sorted(map(str, sys._xoptions.items())),
        list(sys.warnoptions),
    ]
    return [
        sys.executable,
        sys.version,
        list(os.getresuid()),
        list(os.getresgid()),
        namespaces(),
        flags,
        list(map(list, variables)),
    ]


def describe(arguments: list[str], but_files: set[int]) -> tuple[Description, list[int]]:
    """This process, to be taken over by one that runs Python with ``arguments``; and its open files.

    ``but_files`` are left out. Raises OSError where it has more files open than can be passed.
    """
    files = sorted(_open_files() - but_files)
    if len(files) > _MOST_FILES:
        raise OSError(f"{len(files)} files are open, at most {_MOST_FILES} can be passed on")
    description = {
        "fixed": fixed_at_start(),
        "process": os.getpid(),
        "arguments": arguments,
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "path": sys.path,
        "files": files,
        "streams": [_stream(getattr(sys, name)) for name, _ in _STANDARD],
        "mask": _umask(),
        "cpus": sorted(os.sched_getaffinity(0)),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "limits": [list(resource.getrlimit(limit)) for limit in _LIMITS],
        "ignored": [number for number in _signals() if signal.getsignal(number) is signal.SIG_IGN],
        "group": os.getpgid(0),
    }
    return description, files


def take_over(description: Description, files: list[int], connection: int) -> None:
    """Make this process, just forked, the one that was described; ``files`` are its open ones, under other numbers.

    Every other file is closed. When the other end of ``connection`` is closed, however that comes about, the kernel
    kills this process.
    """
    os.setpgid(0, 0)  # not the fork server's: who ends a rank's group must not end the server
    with suppress(OSError):  # another session: its group cannot be joined
        os.setpgid(0, description["group"])
    global _stands_for
    _stands_for = description["process"]
    wanted = description["files"]
    for name, _ in _STANDARD:
        with suppress(OSError, ValueError, AttributeError):
            getattr(sys, name).flush()
    beyond = max([*wanted, *_open_files(), 2]) + 1
    moved = [_moved(file, beyond) for file in files]
    stub = _moved(connection, beyond)
    _end_with(stub)
    for file in _open_files() - {*moved, stub}:
        with suppress(OSError):
            os.close(file)
    for file, number in zip(moved, wanted, strict=True):
        os.dup2(file, number, inheritable=True)
        os.close(file)
    for file, ((name, mode), kind) in enumerate(zip(_STANDARD, description["streams"], strict=True)):
        setattr(sys, name, _opened(file, mode, kind))
        setattr(sys, f"__{name}__", getattr(sys, name))
    os.environ.clear()
    os.environ.update(description["environment"])
    os.chdir(description["folder"])
    os.umask(description["mask"])
    os.sched_setaffinity(0, description["cpus"])
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, description["niceness"])
    for limit, values in zip(_LIMITS, description["limits"], strict=True):
        with suppress(OSError, ValueError):  # a hard limit below that of the fork server's node is kept
            resource.setrlimit(limit, tuple(values))
    for number in _signals():
        with suppress(OSError, ValueError):
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            quiet = number in (signal.SIGPIPE, signal.SIGXFSZ) or number in description["ignored"]
            signal.signal(number, signal.SIG_IGN if quiet else usual)
    sys.path[:] = description["path"]


def process_state(process: int, proc: Path = Path("/proc")) -> str:
    """A letter of proc(5): R running, S sleeping, T stopped ...; "" where there is no such process."""
    try:
        return (proc / str(process) / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _end_with(connection: int) -> None:
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, _SET_SIGNAL, signal.SIGKILL)
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    closed = select.poll()
    closed.register(connection, select.POLLHUP)
    if closed.poll(0):
        os._exit(1)  # before the kernel could notice


def _open_files() -> set[int]:
    files = set()
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own file has gone by now
            os.fstat(int(name))
            files.add(int(name))
    return files


def _signals() -> list[int]:
    return [number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _stream(stream: TextIO | None) -> list[Any] | None:
    if stream is None or not isinstance(stream, io.TextIOWrapper):
        return None
    return [stream.encoding, stream.errors, stream.line_buffering, stream.write_through]


def _moved(file: int, beyond: int) -> int:
    moved: int = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, beyond)
    return moved


def _opened(file: int, mode: str, kind: list[Any] | None) -> TextIO | None:
    """A standard stream as Python makes it when it starts; None where the file is closed."""
    if kind is None:
        return None
    encoding, errors, line_buffering, write_through = kind
    raw = io.FileIO(file, mode, closefd=False)
    buffered: Any = raw if write_through else (io.BufferedReader if mode == "r" else io.BufferedWriter)(raw)
    return io.TextIOWrapper(
        buffered, encoding, errors, line_buffering=line_buffering, write_through=write_through
    )

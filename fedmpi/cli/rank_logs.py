"""One log per rank (``fedmpi run --log-per-rank DIR``): where it ran, what it printed, and how it ended."""

from __future__ import annotations

import faulthandler
import os
import re
import shlex
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from fedmpi.cli import launch
from fedmpi.config import ConfigError
from fedmpi.config.errors import BAD_CONFIGURATION
from fedmpi.experiment.progress import TERMINAL_VARIABLE
from fedmpi.experiment.streams import Unfailing

_NAME = re.compile(r"rank-\d+\.log")


def path_of(folder: Path, rank: int) -> Path:
    """The log of one rank."""
    return folder / f"rank-{rank}.log"


def holds_logs_alone(folder: Path) -> bool:
    """Whether it is a folder of rank logs and nothing else, which may lie in a run folder."""
    return folder.is_dir() and all(_NAME.fullmatch(place.name) for place in folder.iterdir())


class RankLog:
    """The log of this rank; ``problem`` says why there is none, empty where there is one."""

    def __init__(self, folder: Path) -> None:
        self.rank = launch.rank(os.environ)
        self.problem = ""
        path = path_of(folder, self.rank)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            self.problem = f"{path} cannot be written: {error.strerror}"
        self._path = path

    def check(self) -> None:
        """Raise ConfigError where there is no log; rank 0 calls it, which checks everything that users give."""
        if self.problem:
            raise ConfigError("--log-per-rank", self.problem, "a folder that all ranks can write to")

    def around(self, arguments: Sequence[str], run: Callable[[], int]) -> int:
        """Call ``run`` and return its exit code; what this process prints meanwhile goes into the log too.

        ``arguments`` are those of ``fedmpi``. What is printed counts as a log, also at a terminal: a line that is
        rewritten would fill the file. A log that does not end with how its rank ended is that of one that was killed.
        """
        if self.problem:
            code = run()
            if self.rank and code != BAD_CONFIGURATION:
                print(f"fedmpi: warning: rank {self.rank} kept no log: {self.problem}", file=sys.stderr)
            return code
        with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            log = Unfailing(file)
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            where = f"host {socket.gethostname()}, process {os.getpid()}, {cores} cores to use"
            self._note(log, f"{where}: fedmpi {shlex.join(arguments)}")
            with _copied_output(log), _crashes_in(file):
                try:
                    code = run()
                except BaseException as error:
                    self._note(log, "".join(traceback.format_exception(error)).rstrip())
                    raise
            self._note(log, f"ended with exit code {code}")
        return code

    def _note(self, log: Unfailing, text: str) -> None:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  rank {self.rank}: {text}\n")
        log.flush()


@contextmanager
def _copied_output(log: Unfailing) -> Iterator[None]:
    """Within it, what this process prints through Python goes into the log too."""
    out, err = sys.stdout, sys.stderr
    os.environ.pop(TERMINAL_VARIABLE, None)
    sys.stdout, sys.stderr = cast(TextIO, _Copied(out, log)), cast(TextIO, _Copied(err, log))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


@contextmanager
def _crashes_in(file: TextIO) -> Iterator[None]:
    """Within it, a crash outside of Python leaves its traceback in the file, unless another one gets it already."""
    if faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(file)
    try:
        yield
    finally:
        faulthandler.disable()


class _Copied:
    """A text stream whose text goes into a log as well, and that is no terminal."""

    def __init__(self, stream: TextIO, log: Unfailing) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(text)
        self._log.flush()
        return self._stream.write(text)

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

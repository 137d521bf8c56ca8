"""One run of a sweep whose start and end are recorded beside its log (``fedmpi.sweeps.outcome``)."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from fedmpi.cli import launch
from fedmpi.cli.failure_reason import failure_reason
from fedmpi.config.errors import DONE, FAILED, PREEMPTED
from fedmpi.sweeps import record_end, record_start

SUCCEEDED = (DONE, PREEMPTED)
"""Exit codes of runs that did not fail: done, and preempted with a checkpoint."""

_OF_SLURM = re.compile(r"^(?:srun|slurmstepd\S*): .*\n?", re.MULTILINE)
_KEPT_CHARACTERS = 65_536


def recorded(
    study: Path, name: str, run: Callable[[], int], exit_code: Callable[[BaseException], int | None]
) -> int:
    """Call ``run`` and return its exit code, which rank 0 records, with the reason of a failure.

    ``exit_code`` is that of an error that leaves ``run``, None for an unexpected one; the error is raised again.
    """
    if launch.rank(os.environ) != 0:
        return run()
    save(record_start, study, name)
    try:
        with _heard() as heard:
            code = run()
    except BaseException as error:
        expected = exit_code(error)
        reason = str(error) if expected is not None else "".join(traceback.format_exception_only(error))
        save(record_end, study, name, FAILED if expected is None else expected, " ".join(reason.split()))
        raise
    said = "" if code in SUCCEEDED else heard.text()
    save(record_end, study, name, code, reason_in(said))
    return code


def reason_in(said: str) -> str:
    """Why a run failed, from what it printed; "" where it said nothing.

    What SLURM says stands between the lines of others, and counts where they say nothing.
    """
    of_others = _OF_SLURM.sub("", said)
    heard = of_others if of_others.strip() else said
    return failure_reason(heard).removeprefix("fedmpi: ") if heard.strip() else ""


def save(record: Callable[..., None], study: Path, name: str, *more: Any) -> None:
    """Record the start or the end of a run; a disk that does not take it ends nothing, but is said."""
    try:
        record(study, name, *more)
    except OSError as error:
        print(f"fedmpi: warning: what became of run {name} is not recorded: {error}", file=sys.stderr)


class _Heard:
    """A text stream that also keeps the end of what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._kept = ""

    def write(self, text: str) -> int:
        self._kept = (self._kept + text)[-_KEPT_CHARACTERS:]
        return self._stream.write(text)

    def text(self) -> str:
        return self._kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _heard() -> Iterator[_Heard]:
    before = sys.stderr
    heard = _Heard(before)
    sys.stderr = cast(TextIO, heard)
    try:
        yield heard
    finally:
        sys.stderr = before

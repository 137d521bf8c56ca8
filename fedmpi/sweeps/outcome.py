"""How the last start of each run of a sweep ended, in a small JSON file beside the run's log.

A run that failed before it had a trace is distinguished by it from one that was never started.
"""

from __future__ import annotations

import json
import os
import platform
import signal
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from fedmpi.experiment.folder_lock import Owner


class OutcomeError(ValueError):
    """A file that is no outcome; the message names it."""


@dataclass(frozen=True)
class Outcome:
    """One start of a run. Times are UTC in ISO 8601; ``exit_code`` is None until the run has ended.

    ``owner`` is the process that records the end, as the lock of a folder names it. ``reason`` is one line that says
    why the run failed, "" where it did not.
    """

    started: str
    owner: str
    ended: str | None = None
    exit_code: int | None = None
    reason: str = ""

    def lost(self) -> bool:
        """Whether nobody will record an end any more: the process that was to do so is known to have ended."""
        owner = Owner.parse(self.owner)
        return self.exit_code is None and owner is not None and owner.has_ended()


def outcome_path(study: Path, name: str) -> Path:
    """Where the outcome of a run of the study in ``study`` lies."""
    return study / "logs" / f"{name}.json"


def record_start(study: Path, name: str) -> None:
    """This process starts a run, and will record its end. OSError when that cannot be written."""
    _write(study, name, Outcome(_now(), Owner.this_process().text().strip()))


def record_end(study: Path, name: str, exit_code: int, reason: str = "") -> None:
    """A run has ended. What is recorded of the same end already stays, as it may know more. Raises OSError."""
    before = None
    with suppress(OutcomeError):
        before = read_outcome(study, name)
    if before is None:
        before = Outcome(_now(), Owner.this_process().text().strip())
    if before.exit_code != exit_code:
        _write(study, name, replace(before, ended=_now(), exit_code=exit_code, reason=reason))


def read_outcome(study: Path, name: str) -> Outcome | None:
    """The outcome of a run's last start, None where there is none. Raises OutcomeError."""
    path = outcome_path(study, name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise OutcomeError(f"{path}: cannot be read ({error})") from None
    texts = ("started", "owner", "reason")
    fine = isinstance(content, dict) and all(isinstance(content.get(key), str) for key in texts)
    if not fine or type(content.get("exit_code")) not in (int, type(None)):
        raise OutcomeError(f"{path}: is no outcome of a run")
    ended = content.get("ended")
    return Outcome(
        content["started"],
        content["owner"],
        ended if isinstance(ended, str) else None,
        content["exit_code"],
        content["reason"],
    )


def failure_text(exit_code: int, reason: str) -> str:
    """``exit code 2: REASON``, or ``exit code -9 (SIGKILL)`` for a child process that a signal ended."""
    name = ""
    with suppress(ValueError):
        name = f" ({signal.Signals(-exit_code).name})"
    return f"exit code {exit_code}{name}{': ' if reason else ''}{reason}"


def _write(study: Path, name: str, outcome: Outcome) -> None:
    path = outcome_path(study, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{platform.node()}.{os.getpid()}")
    beside.write_text(json.dumps(asdict(outcome), indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

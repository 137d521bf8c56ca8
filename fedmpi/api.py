"""``fedmpi.run`` and ``fedmpi.sweep``: experiments from Python, in processes of their own, with traces as results.

What calls needs neither MPI nor torch and may be a notebook: what an experiment does to signals, threads and memory
stays in its own process, which is ``fedmpi run`` or ``fedmpi sweep``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from fedmpi.cli.configured import checked, find_modules_of_working_directory
from fedmpi.cli.failure_reason import failure_reason
from fedmpi.cli.output import check_output, default_output
from fedmpi.config import Config, dumps, load, loads
from fedmpi.trace import Trace, read

_KEPT_LINES = 300


class RunError(RuntimeError):
    """A run that did not complete. ``exit_code`` is that of the command; 75: it was stopped, with a checkpoint."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(
    config: str | Path | Mapping[str, Any] | Config,
    *overrides: str,
    ranks: int = 1,
    output: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Trace:
    """Run an experiment on ``ranks`` MPI ranks and return its trace.

    ``config``: a TOML file, the name of a preset, TOML text, nested dicts, or a ``Config``; ``overrides`` such as
    ``"training.learning_rate=0.1"`` replace single keys. ``output`` is the run folder (``runs/NAME-SEED``); ``resume``
    goes on from its last checkpoint, ``overwrite`` discards what is there. Progress is printed unless ``quiet``.

    Raises ConfigError for what cannot be run, before anything is started, and RunError for a run that does not
    complete. Ctrl-C ends the run with a checkpoint, and is raised.
    """
    find_modules_of_working_directory()
    resolved = checked(_resolved(config, overrides), ranks)
    folder = default_output(resolved) if output is None else Path(output)
    check_output(folder, resolved, resume, overwrite)
    with tempfile.TemporaryDirectory(prefix="fedmpi-") as scratch:
        file = Path(scratch) / "config.toml"
        file.write_text(dumps(resolved), encoding="utf-8")
        command = ["run", str(file), "--output", str(folder), "--ranks", str(ranks)]
        flags = {"--resume": resume, "--overwrite": overwrite, "--quiet": quiet}
        _execute([*command, *(name for name, given in flags.items() if given)], quiet)
    return read(folder)


def sweep(
    config: str | Path,
    *overrides: str,
    base: str | Path | None = None,
    ranks: int = 1,
    output: str | Path | None = None,
    quiet: bool = False,
) -> dict[str, Trace]:
    """Run all experiments of a sweep (a TOML file or the name of one of fedmpi's own) and return their traces by name.

    Those that are complete are not run again. ``base`` is a preset or a file in place of the sweep's own base.
    ``output`` is the folder of the run folders (``runs/SWEEP``, or ``runs/SWEEP-BASE``). Raises ConfigError and
    RunError as ``run`` does.
    """
    from fedmpi.sweeps import plan

    planned = plan(str(config), overrides, None if base is None else str(base))
    folder = Path("runs") / planned.name if output is None else Path(output)
    command = ["sweep", str(config), *overrides, "--output", str(folder), "--ranks", str(ranks)]
    more = [*([] if base is None else ["--base", str(base)]), *(["--quiet"] if quiet else [])]
    _execute([*command, *more], quiet)
    return {one.name: read(folder / one.name) for one in planned.runs}


def _resolved(config: str | Path | Mapping[str, Any] | Config, overrides: Sequence[str]) -> Config:
    if isinstance(config, Config):
        return loads(dumps(config), overrides)
    if isinstance(config, Mapping):
        return loads(tomli_w.dumps(dict(config)), overrides)
    return load(config, overrides)


def _execute(arguments: Sequence[str], quiet: bool) -> None:
    """Run ``fedmpi ARGUMENTS`` and print what it prints; RunError with the line that says why where it fails.

    Lines are printed here, not by the process itself, so that a notebook shows them.
    """
    command = [sys.executable, "-P", "-m", "fedmpi", *arguments]
    said: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said = [*said[-_KEPT_LINES:], line.rstrip()]
                if not quiet:
                    print(line, end="", flush=True)
        except KeyboardInterrupt:
            process.send_signal(2)  # it may have had the terminal's own already, which is one and the same
            process.wait()
            raise
    if process.returncode:
        raise RunError(failure_reason("\n".join(said)).removeprefix("fedmpi: "), process.returncode)

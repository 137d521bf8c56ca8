"""What ``fedmpi sweep`` says of its runs: the list, the table at the end, and how a run ended."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from pathlib import Path

from fedmpi.cli.process_pool import Program
from fedmpi.cli.recorded_run import SUCCEEDED
from fedmpi.sweeps import Progress, Sweep, failure_text, state

_STATUS_WIDTH = 10


def list_lines(sweep: Sweep, study: Path) -> list[str]:
    """A line for each run: index, status ("-": not started), name, what it changes, and the reason of its status."""
    states = [state(study, run.name) for run in sweep.runs]
    names = max(len(run.name) for run in sweep.runs)
    lines = []
    for run, now in zip(sweep.runs, states, strict=True):
        line = f"{run.index:>{len(str(len(sweep.runs)))}}  {now.status:{_STATUS_WIDTH}}  {run.name:{names}}"
        reason = f"  [{now.reason}]" if now.reason else ""
        lines.append(f"{line}  {' '.join(run.overrides)}".rstrip() + reason)
    return lines


def table_lines(states: Mapping[str, Progress]) -> list[str]:
    """A table of how far each run is."""
    width = max(map(len, states))
    columns = f"{'rounds':>7}  {'accuracy':>8}  {'emulated s':>10}  {'host s':>8}"
    lines = [f"{'run':{width}}  {'status':{_STATUS_WIDTH}}  {columns}"]
    for name, now in states.items():
        accuracy = "-" if isnan(now.accuracy) else f"{now.accuracy:.4f}"
        lines.append(
            f"{name:{width}}  {now.status:{_STATUS_WIDTH}}  {now.rounds:>7}  {accuracy:>8}  "
            f"{now.emulated_s:>10.1f}  {now.host_s:>8.1f}"
        )
    return lines


def end_text(now: Progress, exit_code: int, reason: str) -> str:
    """How a run ended, as one line."""
    if exit_code not in SUCCEEDED:
        return f"failed with {failure_text(exit_code, reason)}"
    accuracy = "" if isnan(now.accuracy) else f", accuracy {now.accuracy:.4f}"
    return f"{now.status}, {now.rounds} rounds in {now.host_s:.0f} s{accuracy}"


def log_size(program: Program) -> int:
    """The bytes in a log before a program is started once more."""
    return program.log.stat().st_size if program.log.exists() else 0


def said_since(program: Program, log_start: int) -> str:
    """What a program has printed after the first ``log_start`` bytes of its log."""
    return program.log.read_bytes()[log_start:].decode(errors="replace")

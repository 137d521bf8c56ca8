"""Say how far runs are, how fast they go and what they last warned of; from any node that sees their folders."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING

from fedmpi.cli.analysed import add_paths, remark
from fedmpi.experiment.folder_lock import owner_of
from fedmpi.numerics.quantities import duration

if TYPE_CHECKING:
    from fedmpi.analysis.status import RunStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument("--json", action="store_true", help="a list of objects; null: not known")


def execute(arguments: argparse.Namespace) -> int:
    """Print a paragraph for each run, or JSON."""
    from fedmpi.analysis.runs import load
    from fedmpi.analysis.status import status_of

    loaded = load(arguments.paths)
    remark(line for line in loaded.remarks if not line.endswith("taken as far as it is"))
    found = []
    for run in loaded.runs:
        owner = owner_of(run.trace.path.parent)
        found.append(status_of(run.trace, f"process {owner.pid} on {owner.host}" if owner else ""))
    if arguments.json:
        plain = [{name: _plain(value) for name, value in asdict(status).items()} for status in found]
        print(json.dumps(plain, indent=1, ensure_ascii=False))
    else:
        print("\n\n".join(_text(status) for status in found))
    return 0


def _text(status: RunStatus) -> str:
    by = f", {status.owner}" if status.owner else ""
    why = f" ({status.reason})" if status.reason else ""
    parts = [f"round {status.rounds:,} of {status.total_rounds:,}"]
    if status.initial_rounds:
        parts.insert(0, f"{status.initial_rounds:,} rounds of initial pruning")
    if isfinite(status.test_accuracy):
        parts.append(f"accuracy {status.test_accuracy:.4f}")
    parts.append(f"emulated {duration(status.emulated_s)}")
    pace = [f"{duration(status.host_s)} here"]
    if isfinite(status.round_host_s):
        pace.append(f"{status.round_host_s:.3g} s a round")
    if isfinite(status.eta_s):
        pace.append(f"ETA {duration(status.eta_s)}")
    pace.append(f"trace written {duration(status.age_s)} ago")
    lines = [f"{status.path}: {status.status}{why}{by}", f"  {', '.join(parts)}", f"  {', '.join(pace)}"]
    if status.warnings:
        count = "1 warning," if status.warnings == 1 else f"{status.warnings:,} warnings, the last"
        lines.append(f"  {count} in {status.warning}")
    return "\n".join(lines)


def _plain(value: object) -> object:
    return None if isinstance(value, float) and not isfinite(value) else value

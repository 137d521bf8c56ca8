"""The runs that tables and figures are made of: found in folders, read, and with what their traces must have."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

import pandas as pd

from fedmpi.analysis.settings import SEED, Settings, identity, settings
from fedmpi.config.toml import parse, read_text
from fedmpi.trace import FILE_NAME, Trace, TraceError, outline, read

_LIST_NAME = "sweep.toml"

_RECORDED_WITH = {
    "energy_j": ("emulation.energy.on", "of no participant are all powers of its device known"),
    "client_tests": ("experiment.evaluate_clients", "no round was evaluated yet"),
}
"""What is not in every trace -> the key with which it is recorded, and why it may be missing all the same."""


class AnalysisError(ValueError):
    """What was asked for cannot be made of these runs; one line that names the run or the argument."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run and the part of its configuration that studies vary.

    ``method`` is that of sparsification; ``k`` is the fixed number of entries, 0 where a controller chooses or
    all are sent, as with ``qsgd``; ``beta`` is NaN where emulated time is not that of the normalized model.
    ``selected``: not the same clients in all rounds.
    """

    name: str
    trace: Trace
    settings: Settings
    method: str
    pruning: str
    controller: str
    k: int
    beta: float
    selected: bool
    seed: int

    @property
    def adaptive(self) -> bool:
        return self.controller != "fixed"

    @property
    def complete(self) -> bool:
        return self.status == "completed"

    @property
    def status(self) -> str:
        """That of the trace, with a word on times that are approximate, as of a run that was retimed so."""
        status = str(self.trace.attributes["status"])
        approximate = self.trace.attributes.get("retiming") == "approximate"
        return f"{status}, times approximate" if approximate else status

    @property
    def end_s(self) -> float:
        return float(self.trace.rounds.end_s.iloc[-1])


@dataclass(frozen=True, eq=False)
class Loaded:
    """The runs that were found, in their order, and one line for each that is missing, left out or not complete."""

    runs: tuple[Run, ...]
    remarks: tuple[str, ...] = ()


def load(paths: Iterable[str | os.PathLike[str]], whole: bool = True) -> Loaded:
    """The runs at ``paths``: run folders, traces, and folders of run folders such as those of sweeps.

    Unless ``whole``, the rows of participants stay in the files (``trace.outline``).

    A sweep's list in its folder says which runs are missing and their order. A run that is not complete is taken as far
    as it is; one of a sweep that cannot be read is left out with a remark. Raises AnalysisError for a path without any
    run, and TraceError for a run or trace, named itself, that cannot be read.
    """
    runs: list[Run] = []
    remarks: list[str] = []
    seen: set[Path] = set()
    for path in map(Path, paths):
        reading = read if whole else outline
        found = (
            _load_folder(path, reading) if _holds_runs(path) else Loaded((_run(str(path), reading(path)),))
        )
        remarks += found.remarks
        for run in found.runs:
            file = run.trace.path.resolve()
            if file in seen:
                remarks.append(f"{run.name}: named twice, taken once")
            else:
                runs.append(run)
            seen.add(file)
    return Loaded(tuple(runs), tuple(remarks))


def evaluated(loaded: Loaded) -> Loaded:
    """The runs whose model was evaluated, with a remark for each that is left out."""
    kept = tuple(run for run in loaded.runs if not run.trace.rounds.test_accuracy.isna().all())
    left_out = (run.name for run in loaded.runs if run not in kept)
    remarks = (f"{name}: left out, the model was never evaluated" for name in left_out)
    return Loaded(kept, (*loaded.remarks, *remarks))


def load_study(paths: Iterable[str | os.PathLike[str]]) -> Loaded:
    """The runs at ``paths`` that a study compares: those with an evaluated model, and no run twice.

    Raises AnalysisError where none is left, and as ``load`` does.
    """
    found = evaluated(load(paths))
    if not found.runs:
        raise AnalysisError("; ".join(found.remarks))
    once = without_repeats(found.runs)
    return Loaded(once.runs, (*found.remarks, *once.remarks))


def without_repeats(runs: Iterable[Run]) -> Loaded:
    """Of runs with the same configuration and the same seed the first: they are no independent results."""
    kept: dict[Hashable, Run] = {}
    remarks = []
    for run in runs:
        first = kept.setdefault((identity(run.settings), run.status), run)
        if first is not run:
            remarks.append(f"{run.name}: left out, it repeats {first.name} (same configuration, same seed)")
    return Loaded(tuple(kept.values()), tuple(remarks))


def table_of(trace: Trace, table: str) -> pd.DataFrame:
    """A table of a trace. AnalysisError: traces of this version have none of this name, or it has no rows."""
    found: pd.DataFrame | None = getattr(trace, table, None)
    if found is None or found.empty:
        problem = f"has no table {table}" if found is None else f"has no rows in its table {table}"
        raise AnalysisError(f"{trace.path}: the trace {problem}{_how_recorded(trace, table)}")
    return found


def column_of(trace: Trace, table: str, column: str) -> pd.Series:
    """A column of a table of a trace.

    AnalysisError: traces of this version do not have it, or nothing but NaN was recorded in it.
    """
    frame: pd.DataFrame | None = getattr(trace, table, None)
    if frame is None or column not in frame or frame[column].isna().all():
        raise not_recorded(trace, table, column)
    return frame[column]


def not_recorded(trace: Trace, table: str, column: str) -> AnalysisError:
    """That a column of a table of a trace is not there, or has nothing but NaN."""
    there = column in getattr(trace, table, ())
    problem = (
        f"nothing was recorded in {table}.{column}" if there else f"the trace has no column {table}.{column}"
    )
    return AnalysisError(f"{trace.path}: {problem}{_how_recorded(trace, column)}")


def _how_recorded(trace: Trace, name: str) -> str:
    version = f" (schema version {trace.attributes['schema_version']})"
    if name not in _RECORDED_WITH:
        return version
    key, why = _RECORDED_WITH[name]
    if settings(trace).get(key) is True:
        return f"{version}, though {key} = true: {why}"
    return f"{version}; it is recorded with {key} = true"


def _holds_runs(path: Path) -> bool:
    """Whether a path is a folder of run folders. AnalysisError where nothing is there that can be read."""
    if path.is_file() or (path / FILE_NAME).is_file():
        return False
    if not path.is_dir():
        raise AnalysisError(f"{path}: no such folder or file; allowed: a run folder, a sweep folder, a trace")
    if not (path / _LIST_NAME).is_file() and next(path.glob(f"*/{FILE_NAME}"), None) is None:
        raise AnalysisError(f"{path}: no run is there; allowed: a run folder, a sweep folder, a trace")
    return True


def _load_folder(folder: Path, reading: Callable[[Path], Trace]) -> Loaded:
    present = {path.parent.name for path in folder.glob(f"*/{FILE_NAME}")}
    expected = _expected(folder / _LIST_NAME)
    runs, remarks = [], [f"{name}: not run yet" for name in expected if name not in present]
    for name in sorted(present, key=lambda name: (_position(name, expected), name)):
        try:
            trace = reading(folder / name)
        except TraceError as error:
            remarks.append(f"{name}: left out, {error}")
            continue
        if (status := trace.attributes["status"]) != "completed":
            remarks.append(f"{name}: {status} after {len(trace.rounds)} rounds, taken as far as it is")
        runs.append(_run(name, trace))
    if not runs:
        why = f" ({'; '.join(remarks[:2])}{', ...' if len(remarks) > 2 else ''})" if remarks else ""
        raise AnalysisError(f"{folder}: no run can be read there{why}")
    return Loaded(tuple(runs), tuple(remarks))


def _expected(path: Path) -> list[str]:
    """The names of the runs in the list of a sweep; AnalysisError where it is damaged."""
    if not path.is_file():
        return []
    try:
        content = parse(read_text(path))
        return [str(run["name"]) for run in content["runs"]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise AnalysisError(f"{path}: is no list of a sweep ({error})") from None


def _position(name: str, expected: Sequence[str]) -> int:
    return expected.index(name) if name in expected else len(expected)


def _run(name: str, trace: Trace) -> Run:
    found = settings(trace)
    method, controller = found["sparsification.method"], found["k_control.method"]
    k = 0
    if method != "dense" and controller == "fixed":
        share = found["sparsification.k_fraction"]
        k = int(found["sparsification.k"]) or (
            max(1, round(share * trace.attributes["parameters"])) if share else 0
        )
    normalized = found["emulation.compute.model"] == "normalized"
    return Run(
        name=name,
        trace=trace,
        settings=found,
        method=method,
        pruning=found["pruning.method"],
        controller=controller,
        k=k,
        beta=float(found["emulation.compute.beta"]) if normalized else nan,
        selected=0 < found["clients.per_round"] < found["clients.count"],
        seed=int(found[SEED]),
    )

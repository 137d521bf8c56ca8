"""The runs of a study, and what is measured on them; shared by the scripts of all studies."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from fedmpi.trace import Trace, TraceError, read

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One run and the part of its configuration that studies vary.

    ``method`` is that of sparsification; ``k`` is the fixed number of entries, 0 where a controller chooses or
    all are sent; ``beta`` is NaN where emulated time is not that of the normalized model. ``selected``: not
    the same clients in all rounds.
    """

    name: str
    trace: Trace
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
    def end_s(self) -> float:
        return float(self.trace.rounds.end_s.iloc[-1])


@dataclass(frozen=True, eq=False)
class Study:
    """The runs of a folder in the order of their names, and one line for each that is missing or incomplete."""

    runs: tuple[StudyRun, ...]
    remarks: tuple[str, ...]


def load_study(folder: Path) -> Study:
    """All runs in a folder of run folders; ``sweep.toml`` in it, as ``fedmpi sweep`` writes it, tells what is missing.

    A run that has not ended is taken as far as it is; one without an evaluation is left out. FileNotFoundError:
    no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    present = {path.parent.name for path in folder.glob("*/trace.h5")}
    expected = _expected(folder / "sweep.toml")
    runs, remarks = [], [f"{name}: not run yet" for name in expected if name not in present]
    for name in sorted(present, key=lambda name: (_position(name, expected), name)):
        try:
            trace = read(folder / name)
        except TraceError as error:
            remarks.append(f"{name}: {error}")
            continue
        if trace.rounds.test_accuracy.isna().all():
            remarks.append(f"{name}: left out, the model was never evaluated")
            continue
        if (status := trace.attributes["status"]) != "completed":
            remarks.append(f"{name}: {status} after {len(trace.rounds)} rounds, taken as far as it is")
        runs.append(_run(name, trace))
    return Study(tuple(runs), tuple(remarks))


def methods_compared(runs: Sequence[StudyRun]) -> tuple[int, float, list[StudyRun]]:
    """The k and beta at which most methods were run without a controller, and the runs of all methods there.

    Dense runs have no k and belong to every k. Without any such runs: (0, NaN, []).
    """
    fixed = [run for run in runs if not run.adaptive]
    methods: dict[tuple[int, float], set[str]] = {}
    for run in fixed:
        if run.k:
            methods.setdefault((run.k, run.beta), set()).add(run.method)
    if not methods:
        beta = fixed[0].beta if fixed else nan
        return 0, beta, [run for run in fixed if same(run.beta, beta)]
    k, beta = max(methods, key=lambda place: len(methods[place]))
    return k, beta, [run for run in fixed if run.k in (k, 0) and same(run.beta, beta)]


def grouped(runs: Iterable[StudyRun], key: Callable[[StudyRun], Key]) -> dict[Key, list[StudyRun]]:
    """Runs by what ``key`` says of them (the seeds of one configuration, say), in the order of appearance."""
    groups: dict[Key, list[StudyRun]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def in_order(groups: dict[str, list[StudyRun]], names: Iterable[str]) -> dict[str, list[StudyRun]]:
    """Groups in the order of ``names``, those that are not among them last."""
    order = {name: place for place, name in enumerate(names)}
    return dict(sorted(groups.items(), key=lambda item: order.get(item[0], len(order))))


def betas(runs: Iterable[StudyRun]) -> list[float]:
    """The different betas, ascending; NaN (no normalized time) last."""
    values = {run.beta for run in runs if run.beta == run.beta}
    return sorted(values) + ([nan] if any(run.beta != run.beta for run in runs) else [])


def same(beta: float, other: float) -> bool:
    """Whether two betas are equal, NaN being equal to NaN."""
    return beta == other or (beta != beta and other != other)


def common_time(runs: Sequence[StudyRun]) -> float:
    """An emulated moment that all runs have reached, in seconds: where all were to stop, or the latest there is."""
    latest = min(run.end_s for run in runs)
    stops = {run.trace.config["experiment"].get("stop_at_emulated_s") for run in runs}
    stop = stops.pop() if len(stops) == 1 else None
    return float(stop) if stop is not None and stop <= latest else latest


def evaluations(run: StudyRun) -> pd.DataFrame:
    """The rounds in which the model was evaluated."""
    return run.trace.rounds.dropna(subset=["test_accuracy"])


def accuracy_at(run: StudyRun, time_s: float) -> float:
    """The last test accuracy measured up to an emulated moment; NaN before the first."""
    measured = evaluations(run)
    before = measured.test_accuracy[measured.end_s <= time_s]
    return float(before.iloc[-1]) if len(before) else nan


def mean_accuracy_at(runs: Sequence[StudyRun], time_s: float) -> float:
    """The mean over those runs that were evaluated by then; NaN when none was."""
    known = [value for run in runs if not np.isnan(value := accuracy_at(run, time_s))]
    return float(np.mean(known)) if known else nan


def reaching(run: StudyRun, accuracy: float) -> pd.Series | None:
    """The first evaluated round with at least this accuracy; None when there was none."""
    measured = evaluations(run)
    reached = measured[measured.test_accuracy >= accuracy]
    return reached.iloc[0] if len(reached) else None


def time_to(run: StudyRun, accuracy: float) -> float:
    """The emulated moment of the first evaluation with at least this accuracy; NaN when there was none."""
    row = reaching(run, accuracy)
    return nan if row is None else float(row.end_s)


def late_k(run: StudyRun) -> float:
    """The median k of the last quarter of the federated rounds."""
    k = run.trace.rounds.k[run.trace.rounds["round"] >= 0]
    return float(k.iloc[len(k) * 3 // 4 :].median())


def contributions(trace: Trace) -> pd.DataFrame:
    """How many of its entries the server used, for every client and every round in which its update counted.

    Columns ``client``, ``round`` and ``entries_used``.
    """
    return trace.clients.loc[trace.clients.status == "ok", ["client", "round", "entries_used"]]


def client_means(trace: Trace) -> np.ndarray:
    """Mean entries used in a round, of every client that took part, ascending float64."""
    return np.sort(contributions(trace).groupby("client").entries_used.mean().to_numpy(dtype=np.float64))


def _run(name: str, trace: Trace) -> StudyRun:
    config = trace.config
    clients = config["clients"]
    sparsification, compute = config["sparsification"], config["emulation"]["compute"]
    k = sparsification["k"] or round(sparsification["k_fraction"] * trace.attributes["parameters"])
    return StudyRun(
        name=name,
        trace=trace,
        method=sparsification["method"],
        pruning=config["pruning"]["method"],
        controller=config["k_control"]["method"],
        k=int(k),
        beta=float(compute["beta"]) if compute["model"] == "normalized" else nan,
        selected=0 < clients["per_round"] < clients["count"],
        seed=int(config["experiment"]["seed"]),
    )


def _expected(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [str(run["name"]) for run in tomllib.loads(path.read_text(encoding="utf-8"))["runs"]]


def _position(name: str, expected: Sequence[str]) -> int:
    return expected.index(name) if name in expected else len(expected)

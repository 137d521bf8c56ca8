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
from configurations import SEED, Settings, distinctions, identity, settings

from fedmpi.trace import Trace, TraceError, read

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class StudyRun:
    """One run and the part of its configuration that studies vary.

    ``method`` is that of sparsification; ``k`` is the fixed number of entries, 0 where a controller chooses or
    all are sent; ``beta`` is NaN where emulated time is not that of the normalized model. ``selected``: not
    the same clients in all rounds.
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
        return str(self.trace.attributes["status"])

    @property
    def end_s(self) -> float:
        return float(self.trace.rounds.end_s.iloc[-1])


@dataclass(frozen=True, eq=False)
class Configuration:
    """The runs of one configuration: they differ in their seeds, and in nothing else that changes results.

    ``name`` is what a study calls it, ``extra`` what else has to be said to tell it from others. Runs that are not
    complete are apart from those that are, with their ``status`` in the label.
    """

    name: str
    extra: str
    runs: tuple[StudyRun, ...]

    @property
    def status(self) -> str:
        return self.runs[0].status

    @property
    def label(self) -> str:
        label = ", ".join(filter(None, (self.name, self.extra)))
        return label if self.status == "completed" else f"{label} [{self.status}]"


@dataclass(frozen=True, eq=False)
class Study:
    """The runs of a folder in the order of their names, and one line for each that is missing or incomplete."""

    runs: tuple[StudyRun, ...]
    remarks: tuple[str, ...]


def load_study(folder: Path) -> Study:
    """All runs in a folder of run folders; ``sweep.toml`` in it, as ``fedmpi sweep`` writes it, says what is missing.

    A run that is not complete is taken as far as it is; one without an evaluation is left out. FileNotFoundError:
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


def without_repeats(runs: Iterable[StudyRun]) -> Study:
    """Of runs with the same configuration and the same seed the first: they are no independent results."""
    kept: dict[Hashable, StudyRun] = {}
    remarks = []
    for run in runs:
        first = kept.setdefault((identity(run.settings), run.status), run)
        if first is not run:
            remarks.append(f"{run.name}: left out, it repeats {first.name} (same configuration, same seed)")
    return Study(tuple(kept.values()), tuple(remarks))


def configurations(
    runs: Iterable[StudyRun],
    name_of: Callable[[StudyRun], str],
    explained: tuple[str, ...],
    order: Iterable[str] = (),
) -> list[Configuration]:
    """Runs by configuration, those named in ``order`` first and in that order.

    ``name_of`` is what the study calls a run, ``explained`` are the beginnings of keys that this name, or an axis of
    the figure, speaks of. All other keys that differ are in ``extra``.
    """
    groups = list(grouped(runs, lambda run: (identity(run.settings, {SEED}), run.status)).values())
    names = [name_of(group[0]) for group in groups]
    compared = [{**group[0].settings, SEED: None} for group in groups]
    extras = distinctions(compared, names, explained)
    found = [
        Configuration(name, extra, tuple(group))
        for name, extra, group in zip(names, extras, groups, strict=True)
    ]
    places = {name: place for place, name in enumerate(order)}
    return sorted(found, key=lambda group: places.get(group.name, len(places)))


def alike(group: Configuration, other: Configuration, apart_from: tuple[str, ...]) -> bool:
    """Whether two configurations differ in keys that begin with one of ``apart_from`` alone."""

    def rest(found: Settings) -> Hashable:
        return identity(
            {key: value for key, value in found.items() if not key.startswith(apart_from)}, {SEED}
        )

    return rest(group.runs[0].settings) == rest(other.runs[0].settings)


def labels(groups: Sequence[Configuration]) -> list[str]:
    """Labels of configurations, with the number of seeds where it is not the same for all."""
    if len({len(group.runs) for group in groups}) <= 1:
        return [group.label for group in groups]
    return [f"{group.label} ({len(group.runs)} seed{'s' if len(group.runs) > 1 else ''})" for group in groups]


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


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Runs or groups by what ``key`` says of them, in the order of appearance."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def betas(runs: Iterable[StudyRun]) -> list[float]:
    """The different betas, ascending; NaN (no normalized time) last."""
    values = {run.beta for run in runs if run.beta == run.beta}
    return sorted(values) + ([nan] if any(run.beta != run.beta for run in runs) else [])


def same(beta: float, other: float) -> bool:
    """Whether two betas are equal, NaN being equal to NaN."""
    return beta == other or (beta != beta and other != other)


def common_time(runs: Sequence[StudyRun]) -> float:
    """An emulated moment that all runs have reached, in seconds: where all were to stop, or the latest there is.

    Runs that are not complete are not waited for, unless there are no others.
    """
    waited_for = [run for run in runs if run.complete] or runs
    latest = min(run.end_s for run in waited_for)
    stops = {run.trace.config["experiment"].get("stop_at_emulated_s") for run in waited_for}
    stop = stops.pop() if len(stops) == 1 else None
    return float(stop) if stop is not None and stop <= latest else latest


def evaluations(run: StudyRun) -> pd.DataFrame:
    """The rounds in which the model was evaluated."""
    return run.trace.rounds.dropna(subset=["test_accuracy"])


def accuracy_at(run: StudyRun, time_s: float) -> float:
    """The last test accuracy measured up to an emulated moment; NaN before the first, and after the run's end."""
    measured = evaluations(run)
    before = measured.test_accuracy[measured.end_s <= time_s]
    return float(before.iloc[-1]) if len(before) and time_s <= run.end_s else nan


def mean_accuracy_at(runs: Sequence[StudyRun], time_s: float) -> float:
    """The mean over runs; NaN where it is not known of all of them."""
    return float(np.mean([accuracy_at(run, time_s) for run in runs]))


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
    """How many of its entries the server used, for every client and every federated round that its update counted in.

    Columns ``client``, ``round`` and ``entries_used``.
    """
    counted = (trace.clients.status == "ok") & (trace.clients["round"] >= 0)
    return trace.clients.loc[counted, ["client", "round", "entries_used"]]


def even_shares(run: StudyRun) -> tuple[int, int]:
    """The least and the greatest floor(k / N) of the federated rounds, N being the participants of a round."""
    rounds = run.trace.rounds[(run.trace.rounds["round"] >= 0) & (run.trace.rounds.participants > 0)]
    shares = rounds.k // rounds.participants
    return int(shares.min()), int(shares.max())


def client_means(trace: Trace) -> np.ndarray:
    """Mean entries used in a round, of every client that took part, ascending float64."""
    return np.sort(contributions(trace).groupby("client").entries_used.mean().to_numpy(dtype=np.float64))


def _run(name: str, trace: Trace) -> StudyRun:
    found = settings(trace)
    method, controller = found["sparsification.method"], found["k_control.method"]
    k = 0
    if method != "dense" and controller == "fixed":
        share = found["sparsification.k_fraction"] * trace.attributes["parameters"]
        k = int(found["sparsification.k"]) or max(1, round(share))
    normalized = found["emulation.compute.model"] == "normalized"
    return StudyRun(
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


def _expected(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [str(run["name"]) for run in tomllib.loads(path.read_text(encoding="utf-8"))["runs"]]


def _position(name: str, expected: Sequence[str]) -> int:
    return expected.index(name) if name in expected else len(expected)

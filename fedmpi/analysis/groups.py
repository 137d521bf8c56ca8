"""Runs by configuration: those that differ in their seeds alone belong together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import nan
from typing import TypeVar

from fedmpi.analysis.runs import Run
from fedmpi.analysis.settings import SEED, Settings, distinctions, identity, labels_of, run_labels

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Configuration:
    """The runs of one configuration: they differ in their seeds, and in nothing else that changes results.

    ``name`` is what a study calls it, ``extra`` what else has to be said to tell it from others. Runs that are not
    complete are apart from those that are, with their ``status`` in the label.
    """

    name: str
    extra: str
    runs: tuple[Run, ...]

    @property
    def status(self) -> str:
        return self.runs[0].status

    @property
    def label(self) -> str:
        label = ", ".join(filter(None, (self.name, self.extra)))
        return label if self.status == "completed" else f"{label} [{self.status}]"


def configurations(
    runs: Iterable[Run],
    name_of: Callable[[Run], str],
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


def pooled(runs: Iterable[Run]) -> list[Configuration]:
    """Runs by configuration, in their order, under the names of their experiments and the keys that differ.

    A run that repeats another one (same configuration, same seed) is no further seed, and stands alone.
    """
    groups: dict[Hashable, list[Run]] = {}
    repeats: dict[Hashable, int] = {}
    for run in runs:
        key = (identity(run.settings, {SEED}), run.status)
        place = repeats[key, run.seed] = repeats.get((key, run.seed), -1) + 1
        groups.setdefault((key, place), []).append(run)
    members = list(groups.values())
    names = labels_of([[run.trace for run in group] for group in members])
    return [Configuration(name, "", tuple(group)) for name, group in zip(names, members, strict=True)]


def single(runs: Sequence[Run]) -> list[Configuration]:
    """Each run by itself, in their order, under a label that distinguishes it from all others."""
    names = run_labels([run.trace for run in runs], status=False)
    return [Configuration(name, "", (run,)) for name, run in zip(names, runs, strict=True)]


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


def methods_compared(runs: Sequence[Run]) -> tuple[int, float, list[Run]]:
    """The k and beta at which most methods were run without a controller, and the runs of all methods there.

    Runs that send all have no k and belong to every k. Without any such runs: (0, NaN, []).
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


def betas(runs: Iterable[Run]) -> list[float]:
    """The different betas, ascending; NaN (no normalized time) last."""
    values = {run.beta for run in runs if run.beta == run.beta}
    return sorted(values) + ([nan] if any(run.beta != run.beta for run in runs) else [])


def same(beta: float, other: float) -> bool:
    """Whether two betas are equal, NaN being equal to NaN."""
    return beta == other or (beta != beta and other != other)

"""What differs between the configurations of runs, and short labels made of it.

Runs are compared by all keys of their resolved configurations but those that change no result. A key that an older
fedmpi did not know has its default; one that this fedmpi does not know counts like any other.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from math import inf
from pathlib import Path
from typing import Any

from fedmpi.config import Config, tables
from fedmpi.trace import Trace

SEED = "experiment.seed"

CHANGE_NO_RESULT = frozenset(
    {
        "experiment.name",
        "experiment.checkpoint_every",
        "experiment.stall_timeout_s",
        "placement.server_trains",
    }
)

OF_NO_METHOD = "sparsification.value_type"

_UNUSED = {"sparsification.method": "dense", "k_control.method": "fixed", "pruning.method": "none"} | {
    "pruning.initial.where": "none"
}
"""Key that chooses a method -> choice with which the other keys of its table, its settings, are of no effect."""

_OFF = (None, 0, "", "none", inf)
"""Values of a key that say that what it names is not there."""

_MOST_VALUES = 4

Settings = Mapping[str, Any]
"""Dotted keys to plain values; a key that is not set is not there."""


def settings(trace: Trace) -> Settings:
    """All that may make a run's results differ from another's: configuration, parameters, version of fedmpi.

    Settings of a method that is not used are left out.
    """
    flat = {**_DEFAULTS, **_flat(trace.config, Config())}
    flat |= {name: trace.attributes.get(name) for name in ("parameters", "fedmpi_version")}
    for key, value in _UNUSED.items():
        table = key.rpartition(".")[0]
        if flat.get(key) == value:
            kept = (key, OF_NO_METHOD)
            flat = {
                other: flat[other] for other in flat if other in kept or not other.startswith(f"{table}.")
            }
    return {key: value for key, value in flat.items() if key not in CHANGE_NO_RESULT}


def differences(trace: Trace) -> list[tuple[str, Any, Any]]:
    """Keys of a run's configuration whose values are not the defaults, with both values, in the order of the schema.

    The name of the experiment and the seed are left out, and so are settings of a method that is not used.
    """
    found = settings(trace)
    changed = {
        key: value
        for key, value in _flat(trace.config, Config()).items()
        if frozen(value) != frozen(_DEFAULTS.get(key))
        and key not in ("experiment.name", SEED)
        and (key in found or key in CHANGE_NO_RESULT)
    }
    ordered = [*_KEYS, *sorted(changed.keys() - set(_KEYS))]
    return [(key, changed[key], _DEFAULTS.get(key)) for key in ordered if key in changed]


def identity(run: Settings, without: Collection[str] = ()) -> Hashable:
    """Equal for equal settings, the keys ``without`` not looked at."""
    return tuple(
        sorted((key, frozen(value)) for key, value in run.items() if key not in without and value is not None)
    )


def differing(runs: Sequence[Settings]) -> list[str]:
    """The keys in which some of the runs differ, in the order of the schema."""
    keys = dict.fromkeys(key for run in runs for key in run)
    return [key for key in keys if len({frozen(run.get(key)) for run in runs}) > 1]


def distinctions(
    runs: Sequence[Settings], names: Sequence[str], explained: tuple[str, ...] | None = ()
) -> list[str]:
    """For each run what has to be said besides its name, such as ``learning_rate = 0.1``; "" where nothing has.

    Shown are the keys in which runs of the same name differ, and those in which any runs do except ``explained``
    ones: beginnings of keys that names or axes speak of (None: of all). Settings of a method are shown where runs of
    this method differ in them. A key that says that something is not there is left out where another one is shown.
    """
    shown: list[set[str]] = [set() for _ in runs]
    for members in _by(names):
        for key in differing([runs[place] for place in members]):
            for place in _unlike(runs, key, members):
                shown[place].add(key)
    for key in differing(runs) if explained is not None else ():
        if not explained or not key.startswith(explained):
            for place in _unlike(runs, key, range(len(runs))):
                shown[place].add(key)
    texts = {key: _texts([run.get(key) for run in runs]) for key in set().union(*shown)}
    said = [
        ", ".join(f"{short_key(key)} = {texts[key][place]}" for key in _in_use(runs[place], keys))
        for place, keys in enumerate(shown)
    ]
    for members in _by(list(zip(names, said, strict=True))):  # what was cut from a long value may differ
        different = list(dict.fromkeys(identity(runs[place]) for place in members))
        for place in members if len(different) > 1 else ():
            said[place] += f" (no. {different.index(identity(runs[place])) + 1})"
    return said


def labels_of(groups: Sequence[Sequence[Trace]], without: str = SEED) -> list[str]:
    """A label for each group of traces, all different; those of a group differ in the key ``without`` alone.

    The experiment's name, and what differs between groups of the same name; the run folder of the first trace where
    nothing does.
    """
    firsts = [group[0] for group in groups]
    names = [" / ".join(dict.fromkeys(map(_name, group))) for group in groups]
    compared = [{**settings(trace), **({without: None} if without else {})} for trace in firsts]
    extras = distinctions(compared, names, explained=None)
    labels = [", ".join(filter(None, parts)) for parts in zip(names, extras, strict=True)]
    statuses = [trace.attributes["status"] for trace in firsts]
    folders = [trace.path.resolve().parent for trace in firsts]
    for members in _by(list(zip(labels, statuses, strict=True))):
        if len(members) > 1:
            for place, folder in zip(members, _tails([folders[place] for place in members]), strict=True):
                labels[place] += f" ({folder})"
    return labels


def run_labels(traces: Sequence[Trace], status: bool = True) -> list[str]:
    """A label for each run as ``labels_of`` makes it, and if wanted the status of one that is not complete."""
    labels = labels_of([[trace] for trace in traces], without="")
    for place, trace in enumerate(traces) if status else ():
        if (found := str(trace.attributes["status"])) != "completed":
            labels[place] += f" [{found}]"
    return labels


def short_key(key: str) -> str:
    """The end of a dotted key that no other key of the schema has; with its table where that is in another table."""
    parts = key.split(".")
    for start in range(min(len(parts) - 1, 1), -1, -1):
        end = ".".join(parts[start:])
        if sum(other == end or other.endswith(f".{end}") for other in _KEYS) <= 1:
            return end
    return key


def value_text(value: Any) -> str:
    """A value in few characters: long lists are cut, numbers have every digit that counts."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return text if float(text := f"{value:g}") == value else repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {value_text(item)}' for name, item in value.items())}}}"
    if isinstance(value, list):
        cut = [f"{len(value)} values"] if len(value) > _MOST_VALUES else []
        return f"[{', '.join([*map(value_text, value[: _MOST_VALUES - len(cut)]), *cut])}]"
    return str(value)


def frozen(value: Any) -> Hashable:
    """A value of a configuration as something that can be hashed; 1 equals 1.0, but not true."""
    if isinstance(value, Mapping):
        return ("table", tuple(sorted((name, frozen(item)) for name, item in value.items())))
    if isinstance(value, list | tuple):
        return ("list", tuple(map(frozen, value)))
    kind = (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )
    return (kind, value)


def _name(trace: Trace) -> str:
    return str(trace.config.get("experiment", {}).get("name", trace.path.stem))


def _unlike(runs: Sequence[Settings], key: str, places: Sequence[int]) -> list[int]:
    """Of the places of some runs, those for which a key that differs has to be shown."""
    chooser = _chooser(key)
    chosen = _by([runs[place].get(chooser) if chooser else None for place in places])
    groups = ([places[at] for at in members] for members in chosen)
    return [at for group in groups if len({frozen(runs[at].get(key)) for at in group}) > 1 for at in group]


def _chooser(key: str) -> str | None:
    """The key that chooses the method of which ``key`` is a setting; that of the table above for a choosing key."""
    if key == OF_NO_METHOD:
        return None
    table = key.rpartition(".")[0]
    while table:
        for chooser in _UNUSED:
            if chooser != key and chooser.rpartition(".")[0] == table:
                return chooser
        table = table.rpartition(".")[0]
    return None


def _in_use(run: Settings, keys: set[str]) -> list[str]:
    """Of the keys to show those that say more than that something is not used; the first where none does."""
    ordered = [key for key in (*_KEYS, *sorted(keys - set(_KEYS))) if key in keys]
    return [key for key in ordered if key == SEED or run.get(key) not in _OFF] or ordered[:1]


def _texts(values: Sequence[Any]) -> list[str]:
    """The texts of one key's values: paths without the folder that all of them are in."""
    paths = [value for value in values if isinstance(value, str) and "/" in value]
    if len({os.path.isabs(path) for path in paths}) == 1 and len(set(paths)) > 1:
        common = os.path.commonpath([os.path.dirname(path) for path in paths])
        return [os.path.relpath(value, common) if value in paths else value_text(value) for value in values]
    return [value_text(value) for value in values]


def _tails(folders: Sequence[Path]) -> list[str]:
    """The ends of paths that tell them apart; equal paths are numbered."""
    for depth in range(1, max(len(folder.parts) for folder in folders) + 1):
        tails = ["/".join(folder.parts[-depth:]) for folder in folders]
        if len(set(tails)) == len(set(folders)):
            break
    return [
        tail if tails.count(tail) == 1 else f"{tail}, {tails[: place + 1].count(tail)}"
        for place, tail in enumerate(tails)
    ]


def _by(values: Sequence[Any]) -> list[list[int]]:
    """The places of equal values together, in the order of appearance."""
    places: dict[Any, list[int]] = {}
    for place, value in enumerate(values):
        places.setdefault(value, []).append(place)
    return list(places.values())


def _flat(content: Mapping[str, Any], table: Any, prefix: str = "") -> dict[str, Any]:
    """Nested tables as one; a table that is the value of a key of the schema stays whole."""
    known = {field.name: getattr(table, field.name) for field in fields(table)} if is_dataclass(table) else {}
    flat: dict[str, Any] = {}
    for name, value in content.items():
        inner = known.get(name)
        if isinstance(value, Mapping) and (name not in known or is_dataclass(inner)):
            flat |= _flat(value, inner, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _schema_keys(table: Any, prefix: str = "") -> list[str]:
    keys = []
    for field in fields(table):
        inner = getattr(table, field.name)
        keys += (
            _schema_keys(inner, f"{prefix}{field.name}.") if is_dataclass(inner) else [prefix + field.name]
        )
    return keys


_DEFAULTS = _flat(tables(Config()), Config())
_KEYS = _schema_keys(Config())

"""What was run, and its result in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import pandas as pd

from fedmpi.analysis.groups import Configuration, single
from fedmpi.analysis.report.content import UNKNOWN, Headline, Section, Table, limited, text
from fedmpi.analysis.report.thinning import MOST_EVENTS, kept_of
from fedmpi.analysis.runs import Run
from fedmpi.analysis.settings import differences, value_text
from fedmpi.analysis.status import NO_WARNINGS
from fedmpi.analysis.summary import common_target, comparisons, summarized, table, texts
from fedmpi.numerics.quantities import bytes_text, duration

_UNSET = "not set"
_HOW = (
    "run_id",
    "created",
    "fedmpi_version",
    "host",
    "ranks",
    "mpi_library",
    "slurm_job_id",
    "retimed_from",
    "retiming",
)
_HOW_ALL = tuple(name for name in _HOW if name not in ("run_id", "created"))
"""Attributes that say how a run was made; those of several runs without what is different for each."""
_NAMES = {"p_value": "p-value", "k": "last k", "density": "last density"}


def of_run(run: Run) -> tuple[Headline, ...]:
    """The result of one run in a few numbers."""
    trace = run.trace
    found = summarized(trace, nan)
    rounds = trace.rounds
    measured = rounds.dropna(subset=["test_accuracy"])
    best = measured.loc[measured["test_accuracy"].idxmax()] if len(measured) else None
    initial = int((rounds["phase"] == "initial_pruning").sum())
    total = int(trace.config["experiment"].get("rounds", len(rounds)))
    energy = found.get("energy_j")
    last = "" if best is None else f"after round {int(measured['round'].iloc[-1]):,}"
    top = "" if best is None else f"after round {int(best['round']):,}, {duration(float(best['end_s']))}"
    host_s = found["host_s"]
    return (
        Headline("final accuracy", text(found["final_accuracy"], "{:.4f}"), last or "never evaluated"),
        Headline("best accuracy", text(found["best_accuracy"], "{:.4f}"), top or "never evaluated"),
        Headline("emulated time", duration(found["emulated_s"]) if len(rounds) else UNKNOWN),
        Headline(
            "rounds",
            f"{found['rounds']:,} of {total:,}",
            f"after {initial:,} of initial pruning" if initial else "",
        ),
        Headline("sent by clients", bytes_text(found["mbytes_up"] * 1e6)),
        Headline("received by clients", bytes_text(found["mbytes_down"] * 1e6)),
        _energy(run, energy),
        Headline(
            "host time", duration(host_s), f"{text(len(rounds) / host_s)} rounds a second" if host_s else ""
        ),
    )


def of_runs(groups: Sequence[Configuration], target: float) -> tuple[Headline, ...]:
    """The results of several runs in a few numbers: the best one, and the first at the target."""
    runs = [run for group in groups for run in group.runs]
    complete = sum(run.complete for run in runs)
    frame = table(groups, target)
    names = [group.label for group in groups]
    found = [
        Headline("runs", f"{len(runs):,}", f"{complete:,} completed"),
        Headline("configurations", f"{len(groups):,}"),
    ]
    for column, label, form, best in (
        ("final_accuracy", "highest final accuracy", "{:.4f}", "max"),
        ("time_to_target_s", f"first at accuracy {text(target, '{:.4f}')}", "", "min"),
    ):
        values = pd.Series(frame[column].to_numpy(float))
        if values.notna().any():
            place = int(values.idxmax() if best == "max" else values.idxmin())
            value = float(values[place])
            found.append(Headline(label, form.format(value) if form else duration(value), names[place]))
        else:
            found.append(
                Headline(
                    label,
                    UNKNOWN,
                    "no seed of some configuration was evaluated" if form else "reached by no configuration",
                )
            )
    sums = [summarized(run.trace, nan) for run in runs]
    moved = sum(row["mbytes_up"] + row["mbytes_down"] for row in sums) * 1e6
    found.append(Headline("bytes of all runs", bytes_text(moved), "sent and received by clients"))
    found.append(Headline("host time", duration(sum(row["host_s"] for row in sums)), "of all runs together"))
    return tuple(found)


def what_was_run(groups: Sequence[Configuration]) -> Section:
    """Keys that differ from the defaults, those that all runs have alike apart from those in which they differ."""
    runs = [run for group in groups for run in group.runs]
    changed = [{key: (value, default) for key, value, default in differences(run.trace)} for run in runs]
    defaults = {key: default for found in changed for key, (_, default) in found.items()}
    shown: dict[str, list[str]] = {
        key: [_value(found[key][0] if key in found else defaults[key]) for found in changed]
        for key in defaults
    }
    alike = {key: values[0] for key, values in shown.items() if len(set(values)) == 1}
    rows = [(key, value, _value(defaults[key])) for key, value in alike.items()]
    tables = [Table(("key", "value", "default"), tuple(rows), "differs from the defaults", numbers_from=3)]
    varied = [key for key in shown if key not in alike]
    if varied:
        first = {id(run): place for place, run in enumerate(runs)}
        cells = [
            (
                group.label,
                *(shown[key][first[id(group.runs[0])]] for key in varied),
                ", ".join(str(run.seed) for run in group.runs),
            )
            for group in groups
        ]
        header = ("configuration", *varied, "seeds")
        tables.insert(0, limited(header, cells, "what differs between runs", numbers_from=len(header)))
    tables.append(_how_it_ran(runs))
    return Section("what", "What was run", tables=tuple(tables))


def compared(groups: Sequence[Configuration], target: float) -> Section:
    """The tables of ``fedmpi summarize``: configurations, their comparison, and each run."""
    frame = table(groups, target)
    said = [
        f"Target: test accuracy {text(target, '{:.4f}')}." if target == target else "No run was evaluated."
    ]
    if any(len(group.runs) > 1 for group in groups):
        said.append("Means over seeds; in brackets the bootstrap 95 % interval of the mean.")
    tables = [_of_frame(frame, "configurations")]
    pairs = comparisons(groups, target)
    if len(pairs):
        said.append("P-values of Wilcoxon's signed-rank test are not corrected for their number.")
        tables.append(_of_frame(pairs, f"against {groups[0].label}, on the same seeds", numbers_from=2))
    runs = single([run for group in groups for run in group.runs])
    if len(runs) > len(groups):
        tables.append(_of_frame(table(runs, target), "runs"))
    return Section("runs", "Runs compared", tuple(said), tables=tuple(tables))


def happened(runs: Sequence[tuple[str, Run]]) -> Section:
    """Warnings and other events, in the order of runs and rounds."""
    rows = [
        (label, f"{event.round:,}", text(float(event.time_s), "{:,.1f}"), str(event.kind), str(event.detail))
        for label, run in runs
        for event in run.trace.events.itertuples()
    ]
    warnings = sum(row[3] not in NO_WARNINGS for row in rows)
    half = MOST_EVENTS // 2
    shown = rows if len(rows) <= MOST_EVENTS else [*rows[:half], *rows[-half:]]
    note = kept_of(len(shown), len(rows), "events", "the first and the last")
    header: tuple[str, ...] = ("run", "round", "emulated s", "kind", "what happened")
    first = 1 if len(runs) == 1 else 0  # one run needs no name
    header, cells = header[first:], tuple(tuple(row[first:]) for row in shown)
    said = f"{warnings:,} of {len(rows):,} events are warnings." if warnings else "There were no warnings."
    tables = (Table(header, cells, note, numbers_from=len(header)),) if cells else ()
    return Section("events", "Warnings and events", (said,), tables=tables)


def target_of(groups: Sequence[Configuration], target: float | None) -> float:
    """The accuracy whose costs are compared: what was asked for, or what all runs reached."""
    return common_target(groups) if target is None else target


def _how_it_ran(runs: Sequence[Run]) -> Table:
    """What is the same for all runs in one column; what differs is counted."""
    rows = []
    for name in ("status", "seed", "clients", "parameters", *(_HOW if len(runs) == 1 else _HOW_ALL)):
        values = list(dict.fromkeys(_attribute(run, name) for run in runs))
        if any(values):
            more = f", ... ({len(values):,} different)" if len(values) > 6 else ""
            rows.append((name.replace("_", " "), ", ".join(value or _UNSET for value in values[:6]) + more))
    devices = pd.concat([run.trace.devices["device"] for run in runs[:1]])
    if len(devices):
        counts = devices.value_counts(sort=False)
        listed = [f"{count:,} {name}" for name, count in counts.head(8).items()]
        rows.append(("devices", ", ".join([*listed, *(["..."] if len(counts) > 8 else [])])))
    return Table(("", "value"), tuple(rows), "how it ran", numbers_from=2)


def _attribute(run: Run, name: str) -> str:
    value = run.status if name == "status" else run.trace.attributes.get(name, "")
    return value_text(value) if value != "" else ""


def _of_frame(frame: pd.DataFrame, caption: str, numbers_from: int = 1) -> Table:
    written = texts(frame)
    header = (str(frame.index.name), *map(_column, written.columns))
    rows = [(str(name), *row) for name, *row in written.itertuples()]
    return limited(header, rows, caption, numbers_from)


def _column(name: str) -> str:
    """The name of a column for a reader: its unit in brackets."""
    if name in _NAMES:
        return _NAMES[name]
    if name.startswith("mbytes"):
        return f"{name.removeprefix('mbytes').strip('_').replace('_', ' ')} (MB)"
    for end, unit in (("_s", "s"), ("_j", "J")):
        if name.endswith(end):
            return f"{name.removesuffix(end).replace('_', ' ')} ({unit})"
    return name.replace("_", " ")


def _energy(run: Run, energy_j: float | None) -> Headline:
    if energy_j is None and not run.settings.get("emulation.energy.on"):
        return Headline("energy", "not recorded")
    if energy_j is None or energy_j != energy_j:
        return Headline("energy", UNKNOWN, "powers of some devices are unknown")
    return Headline("energy", text(energy_j, "{:,.1f}", "J"), "of all clients")


def _value(value: object) -> str:
    return _UNSET if value is None else (value_text(value) or '""')

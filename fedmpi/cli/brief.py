"""What ``fedmpi check --brief`` says: what differs from the defaults, and what the whole run will take."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from fedmpi.cli import estimate
from fedmpi.cli.check_report import Checked
from fedmpi.config import Config
from fedmpi.config.errors import shown_value
from fedmpi.config.write import tables
from fedmpi.experiment.description import estimated_steps, methods, unknown_energy
from fedmpi.numerics.quantities import bytes_text, duration

_COLUMNS = 79
_MOST_LINES = 8
"""Lines of keys that differ from the defaults; with the others they fit 24 lines."""

_TOGETHER = "\N{NO-BREAK SPACE}"

_INNER = (
    "pruning.initial",
    "emulation.compute",
    "emulation.network",
    "emulation.availability",
    "emulation.energy",
)
"""The tables within tables; other values that are tables, such as mixes and distributions, are those of keys."""


def brief(config: Config, checked: Checked, ranks: int, host: str) -> list[str]:
    """Lines of at most 79 columns; ``host`` says how long the run takes here."""
    whole = estimate.whole_run(checked.parts, checked.model, checked.fleet, checked.sizes, checked.mask)
    experiment, dataset = config.experiment, checked.data.dataset
    what = [
        f"{experiment.name}: {experiment.rounds:,} rounds, seed {experiment.seed}, on {ranks} "
        f"{'rank' if ranks == 1 else 'ranks'}",
        methods(checked.parts),
        f"model {config.model.name}, D = {checked.model.parameter_count:,}; data {config.data.dataset}, "
        f"{len(dataset.train_y):,} training and {len(dataset.test_y):,} test samples",
    ]
    estimates = [
        f"  bytes     {bytes_text(whole.bytes_up)} up and {bytes_text(whole.bytes_down)} down, "
        "of all participants together",
        f"  emulated  {duration(whole.emulated_s)}",
        f"  host      {host}",
    ]
    if whole.assumed:
        estimates.append(f"  assumed   {', '.join(whole.assumed)}")
    if whole.left_out:
        estimates.append(f"  left out  {', '.join(whole.left_out)}")
    initial = config.pruning.initial
    if initial.where != "none":
        charged = "" if initial.charged else ", not charged"
        estimates.append(
            f"  besides   initial pruning adds up to {initial.max_rounds} local rounds at the {initial.where}{charged}"
        )
    notes = (
        estimated_steps(config, checked.fleet, checked.model.layers),
        unknown_energy(config, checked.fleet),
    )
    return [
        *(part for line in what for part in _wrapped(line)),
        *_differing(config),
        "estimate of the whole run:",
        *(part for line in estimates for part in _wrapped(line, " " * 12)),
        *(part for note in notes if note for part in _wrapped(note)),
    ]


def _differing(config: Config) -> list[str]:
    """The keys whose values are not the defaults, table by table, as many as fit."""
    defaults = _by_table(tables(Config()))
    differing = []
    for table, values in _by_table(tables(config)).items():
        known = defaults.get(table, {})
        pairs = [
            _together(f"{key} = {shown_value(value)}")
            for key, value in values.items()
            if key not in known or known[key] != value
        ]
        if pairs:
            differing.append(f"[{table}] {', '.join(pairs)}")
    if not differing:
        return ["all keys have their defaults"]
    lines = [line.replace(_TOGETHER, " ") for line in _wrapped(f"  {'; '.join(differing)}", "  ")]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], "  ... and more, which fedmpi check prints"]
    return ["differs from the defaults:", *lines]


def _together(pair: str) -> str:
    """A key and its value, not to be broken; behind commas where they are longer than a line."""
    joined = pair.replace(" ", _TOGETHER)
    return joined if len(joined) <= _COLUMNS - 8 else joined.replace(f",{_TOGETHER}", ", ")


def _by_table(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys of each table of a configuration; those within another table have a dot in their names."""
    found: dict[str, dict[str, Any]] = {}
    for name, table in config.items():
        inner = {key for key in table if f"{name}.{key}" in _INNER}
        found[name] = {key: value for key, value in table.items() if key not in inner}
        found |= {f"{name}.{key}": table[key] for key in sorted(inner)}
    return found


def _wrapped(line: str, indent: str = "") -> list[str]:
    return textwrap.wrap(line, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False) or [""]

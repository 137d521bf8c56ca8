"""The table of ``fedmpi summarize`` for other programs and for papers: JSON and LaTeX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

import pandas as pd

from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.statistics import CONFIDENCE
from fedmpi.analysis.summary import FORMATS, HIGH, LOW, common_target, comparisons, summarized, table, texts

HEADINGS = {
    "name": "",
    "seeds": "Seeds",
    "status": "Status",
    "rounds": "Rounds",
    "final_accuracy": "Final accuracy",
    "best_accuracy": "Best accuracy",
    "worst_clients_accuracy": "Worst tenth of clients",
    "clients_gini": "Gini of clients",
    "target": "Target accuracy",
    "reached": "Seeds at target",
    "time_to_target_s": "Time to target (s)",
    "mbytes_to_target": "MB to target",
    "energy_to_target_j": "Energy to target (J)",
    "emulated_s": "Emulated time (s)",
    "mbytes_up": "MB up",
    "mbytes_down": "MB down",
    "energy_j": "Energy (J)",
    "k": "$k$",
    "density": "Density",
    "host_s": "Host time (s)",
}
LATEX_COLUMNS = ("seeds", "final_accuracy", "time_to_target_s", "mbytes_to_target", "energy_to_target_j")
"""What fits the width of a page."""

_COUNTS = frozenset(name for name, form in FORMATS.items() if ".0f" in form)
"""Columns of counts: integers, but for means over seeds that are none."""

_SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def as_json(groups: Sequence[Configuration], target: float | None, baseline: str | None) -> str:
    """Everything: configurations with each run's figures, means and intervals, and comparisons; NaN is null."""
    compared = common_target(groups) if target is None else target
    frame = table(groups, target)
    rows = []
    for group, (_, row) in zip(groups, frame.iterrows(), strict=True):
        measures = {
            str(name): _interval(row, str(name)) for name in frame if not str(name).endswith((LOW, HIGH))
        }
        runs = [
            {"run": run.name, "seed": run.seed, **_plain(summarized(run.trace, compared))}
            for run in group.runs
        ]
        rows.append({"name": group.label, **measures, "runs": runs})
    pairs = comparisons(groups, target, baseline).reset_index()
    pairs["name"] = pairs["name"].map(
        {label: group.label for label, group in zip(labels(groups), groups, strict=True)}
    )
    content = {
        "target": compared,
        "interval": f"percentile bootstrap, {CONFIDENCE:.0%}",
        "configurations": rows,
        "comparisons": [_plain(dict(row)) for _, row in pairs.iterrows()],
    }
    return json.dumps(_plain(content), indent=2, ensure_ascii=False)


def as_latex(frame: pd.DataFrame) -> str:
    """A ``tabular`` for the package booktabs; columns are those of the frame."""
    cells = texts(frame)
    heads = [HEADINGS.get(name, escaped(name)) for name in ("name", *map(str, cells.columns))]
    lines = [
        rf"\begin{{tabular}}{{l{'r' * len(cells.columns)}}}",
        r"\toprule",
        _latex_row(heads),
        r"\midrule",
    ]
    for name, row in cells.iterrows():
        lines.append(_latex_row([escaped(text) for text in (str(name), *row)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def escaped(text: str) -> str:
    """Text with LaTeX's special characters as they are printed."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _interval(row: pd.Series, name: str) -> Any:
    if name + LOW not in row:
        return row[name]
    return {"mean": row[name], "low": row[name + LOW], "high": row[name + HIGH]}


def _plain(value: Any, count: bool = False) -> Any:
    """Values that JSON has: NumPy's as Python's, a ``count`` as an integer, and null for what is not finite."""
    if isinstance(value, dict):
        return {key: _plain(item, count or key in _COUNTS) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, count) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if count and isinstance(value, float) and value.is_integer():
        return int(value)
    return None if isinstance(value, float) and not isfinite(value) else value

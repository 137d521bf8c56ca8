"""When to prune, when to sparsify, when both: python benchmarks/joint_study.py --data ../shared/data

Runs the sweep ``joint-study-small`` (or --sweep joint-study) on real FEMNIST and prints, for every rate of the links,
the emulated seconds, the bytes and the energy of each method up to target accuracies, beside the best single part. Runs
of dense averaging and of fixed k are trained once and retimed to every rate. With --figure FILE the times to the last
target are drawn over the rate. Other data: --set data.dataset=..., --base BASE. The folder given by --data holds
femnist_leaf.tar.xz, or train/ and test/ unpacked; of the archive's test files every third is taken. An interrupted
study goes on where it was if --output is given again. Without --data nothing is run: the tables are those of the runs
that the folder given by --output has.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Mapping
from math import inf, isnan
from pathlib import Path

import numpy as np
from femnist_study import Amounts, amounts_to, data_folder, parser, retimed, run_sweep, unpacked_beside
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from fedmpi import trace
from fedmpi.analysis.drawing import SIZES
from fedmpi.analysis.looks import Styles
from fedmpi.analysis.markdown import reached, table

TEST_FILES_EVERY = 3
TARGETS = (0.5, 0.57)
BOTH = "both"
_FIXED_K = re.compile(r"k\d")
_INITIAL_PRUNING = {"": "", "nothing": ""}
_INITIAL_PRUNING |= {"charged": ", initial pruning charged", "uncharged": ", initial pruning not charged"}
Costs = dict[str, dict[str, dict[str, Amounts]]]
"""What it took to a target, by rate, method and seed."""


def main() -> int:
    """Exit code 0 when all runs are complete, else that of the sweep; tables are made of what there is."""
    arguments = parser(__doc__.splitlines()[0], "joint-study-small", needs_data=False)
    arguments.add_argument("--figure", type=Path, help="draw the seconds to the last target over the rate")
    arguments.add_argument(
        "--targets", type=float, nargs="+", default=TARGETS, metavar="A", help="test accuracies"
    )
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        study = given.output or Path(temporary) / "study"
        code = 0
        if given.data is not None:
            place = unpacked_beside(given.output, Path(temporary))
            code = run_sweep(given.sweep, data_folder(given.data, place, TEST_FILES_EVERY), study, given)
        if code == 2:
            return code
        folders = runs_by_rate(study)
        tables = [_table(costs_to(folders, target), target) for target in given.targets]
        text = "\n\n".join(tables) + "\n"
        if given.figure:
            last = given.targets[-1]
            drawn(costs_to(folders, last), last).savefig(given.figure, dpi=200)
    print(text)
    if given.table:
        given.table.write_text(text, encoding="utf-8")
    return code


def runs_by_rate(study: Path) -> dict[str, dict[str, dict[str, Path]]]:
    """The complete runs of a study by rate (``mbit1``), method and seed, those without a rate retimed to each."""
    found: dict[str, dict[str, dict[str, Path]]] = {}
    fixed: dict[tuple[str, str], Path] = {}
    for path in sorted(study.glob("*/trace.h5")):
        if trace.read(path).attributes["status"] != "completed":
            continue
        name, _, seed = path.parent.name.rpartition("-s")
        method, _, rate = name.rpartition("-")
        if method:
            found.setdefault(rate, {}).setdefault(method, {})[seed] = path.parent
        else:
            fixed[name, seed] = path.parent
    for rate, methods in found.items():
        speed = rate_of(rate)
        links = [f"emulation.network.{way}link_mbit_per_s={speed:g}" for way in ("up", "down")]
        for (name, seed), folder in fixed.items():
            methods.setdefault(name, {})[seed] = retimed(
                folder, links, study / "retimed" / f"{folder.name}-{rate}"
            )
    return found


def rate_of(name: str) -> float:
    """Mbit/s of the axis point ``mbit0p3``."""
    return float(name.removeprefix("mbit").replace("p", "."))


def costs_to(folders: Mapping[str, Mapping[str, Mapping[str, Path]]], target: float) -> Costs:
    """Those of every run up to ``target``, NaN where it was not reached."""
    return {
        rate: {
            method: {seed: amounts_to(folder, target) for seed, folder in by_seed.items()}
            for method, by_seed in methods.items()
        }
        for rate, methods in folders.items()
    }


def mean_seconds(by_seed: Mapping[str, Amounts]) -> float:
    """The mean over seeds; inf where one did not reach the target."""
    mean = float(np.mean([each.seconds for each in by_seed.values()]))
    return inf if isnan(mean) else mean


def _table(costs: Costs, target: float) -> str:
    rows = []
    for rate in sorted(costs, key=rate_of):
        methods = costs[rate]
        for method in sorted(methods, key=lambda name: mean_seconds(methods[name])):
            seeds = methods[method].values()
            mean, best = mean_seconds(methods[method]), _best_single_part(methods, method)
            rows.append(
                [
                    f"{rate_of(rate):g}",
                    method,
                    reached([each.seconds for each in seeds]),
                    reached([each.bytes / 1e6 for each in seeds]),
                    reached([each.joules / 1e3 for each in seeds]),
                    f"{mean / best:.2f}" if max(mean, best) < inf else "-",
                ]
            )
    head = ["Mbit/s", "method", "seconds", "MB up and down", "kJ of training and waiting"]
    head += ["time over the best single part"]
    return "\n".join(table(f"To accuracy {target:g}", head, rows))


def _best_single_part(methods: Mapping[str, Mapping[str, Amounts]], method: str) -> float:
    """Seconds of the fastest method that either prunes or sparsifies, with the same initial pruning as ``method``."""
    initial = method.partition("-")[2]
    parts = {name: name.partition("-") for name in methods}
    return min(
        (
            mean_seconds(methods[name])
            for name, (kind, _, own) in parts.items()
            if own in ("", initial) and not kind.startswith("prunefl_") and kind != BOTH
        ),
        default=inf,
    )


def drawn(costs: Costs, target: float) -> Figure:
    """Seconds to the target over the rate, a line for each method that reached it anywhere; of fixed k the best."""
    lines: dict[str, dict[float, float]] = {}
    for rate in sorted(costs, key=rate_of):
        for method, by_seed in costs[rate].items():
            name = "best fixed k" if _FIXED_K.match(method) else _in_words(method)
            seconds, line = mean_seconds(by_seed), lines.setdefault(name, {})
            if seconds < line.get(rate_of(rate), inf):
                line[rate_of(rate)] = seconds
    figure = Figure(figsize=(SIZES["page"].width, 4.0), layout="constrained")
    axes, style = figure.subplots(), Styles()
    for name in sorted(name for name, line in lines.items() if line):
        colour, dashes = style(name)
        axes.plot(*zip(*lines[name].items(), strict=True), "o", ls=dashes, color=colour, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sorted(map(rate_of, costs)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("links, Mbit/s")
    axes.set_ylabel(f"emulated seconds to accuracy {target:g}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _in_words(method: str) -> str:
    kind, _, initial = method.partition("-")
    return kind.replace("_", " ") + _INITIAL_PRUNING[initial]


if __name__ == "__main__":
    sys.exit(main())

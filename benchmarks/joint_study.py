"""When to prune, when to sparsify, when both: python benchmarks/joint_study.py --data ../shared/data

Runs the sweep ``joint-study-small`` (or --sweep joint-study) on real FEMNIST and prints, for every rate of the links,
the emulated seconds, the bytes and the energy of each method up to target accuracies, beside the best single part. Runs
of dense averaging and of fixed k are trained once and retimed to every rate. With --figure FILE the times to the last
target are drawn over the rate. Other data: --set data.dataset=..., --base BASE. The folder given by --data holds
femnist_leaf.tar.xz, or train/ and test/ unpacked; of the archive's test files every third is taken. An interrupted
study goes on where it was if --output is given again.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from math import inf, isnan
from pathlib import Path

import numpy as np
from femnist_study import Amounts, amounts_to, data_folder, parser, retimed, run_sweep, unpacked_beside
from matplotlib.figure import Figure

from fedmpi import trace
from fedmpi.analysis.drawing import SIZES
from fedmpi.analysis.looks import COLOURS, LINES
from fedmpi.analysis.markdown import reached, table

TEST_FILES_EVERY = 3
TARGETS = (0.5, 0.57)
BOTH = "both"
Costs = dict[str, dict[str, dict[str, Amounts]]]
"""What it took to a target, by rate, method and seed."""


def main() -> int:
    """Exit code 0 when all runs are complete, else that of the sweep; tables are made of what there is."""
    arguments = parser(__doc__.splitlines()[0], "joint-study-small")
    arguments.add_argument("--figure", type=Path, help="draw the seconds to the last target over the rate")
    arguments.add_argument(
        "--targets", type=float, nargs="+", default=TARGETS, metavar="A", help="test accuracies"
    )
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        study = given.output or Path(temporary) / "study"
        place = unpacked_beside(given.output, Path(temporary))
        code = run_sweep(given.sweep, data_folder(given.data, place, TEST_FILES_EVERY), study, given)
        if code == 2:
            return code
        folders = runs_by_rate(study)
        tables = [_table(costs_to(folders, target), target) for target in given.targets]
        text = "\n\n".join(tables) + "\n"
        if given.figure:
            draw(costs_to(folders, given.targets[-1]), given.figure, given.targets[-1])
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


def draw(costs: Costs, path: Path, target: float) -> None:
    """Seconds to the target over the rate, a line for each method that reached it anywhere; of fixed k the best."""
    rates = sorted(costs, key=rate_of)
    lines: dict[str, list[float]] = {}
    for rate in rates:
        fixed = [mean_seconds(by) for name, by in costs[rate].items() if name[0] == "k" and name[1].isdigit()]
        own = {
            name: mean_seconds(by)
            for name, by in costs[rate].items()
            if not (name[0] == "k" and name[1].isdigit())
        }
        if fixed:
            own["best fixed k"] = min(fixed)
        for name, seconds in own.items():
            lines.setdefault(name, []).append(seconds)
    figure = Figure(figsize=(SIZES["page"].width, 4.0), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(sorted(lines.items())):
        known = [n for n, each in enumerate(curve) if each < inf]
        axes.plot(
            [rate_of(rates[n]) for n in known],
            [curve[n] for n in known],
            marker="o",
            label=name.replace("_", " "),
            color=COLOURS[number % len(COLOURS)],
            linestyle=LINES[number % len(LINES)],
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("links, Mbit/s")
    axes.set_ylabel(f"emulated seconds to accuracy {target:g}")
    axes.legend()
    figure.savefig(path, dpi=200)


if __name__ == "__main__":
    sys.exit(main())

"""How near the rate of the norm comes to the best fixed k: python benchmarks/norm_rate_study.py --data ../shared/data

Runs the sweep ``norm-rate-study-small`` on real FEMNIST: fixed k, trained once and retimed to every beta, beside the
controllers. For each beta and target accuracy it prints the emulated seconds of the best fixed k (by the mean over
seeds) and of each controller, and their ratio seed by seed. The folder given by --data holds femnist_leaf.tar.xz, or
train/ and test/ unpacked; of the archive's test files every third is taken. --digits instead takes scikit-learn's
digits and a small network: minutes, no data, and more powers and smoothings of the rule. An interrupted study goes on
where it was if --output is given again.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from math import inf, isnan
from pathlib import Path

import numpy as np
from femnist_study import amounts_to, data_folder, parser, retimed, run_sweep, unpacked_beside

from fedmpi import trace
from fedmpi.analysis.markdown import reached, table

TEST_FILES_EVERY = 3
TARGETS = {"norm-rate-study-small": (0.393, 0.45), "digits": (0.8, 0.93)}
BETAS = {"beta0p1": 0.1, "beta1": 1.0, "beta10": 10.0, "beta100": 100.0}
_POWERS = ("0.3", "0.5", "0.7", "1")
_SMOOTHINGS = ("0", "0.5", "0.9")


def main() -> int:
    """Exit code 0 when all runs are complete, else that of the sweep; tables are made of what there is."""
    arguments = parser(__doc__.splitlines()[0], "norm-rate-study-small")
    arguments.add_argument("--digits", action="store_true", help="the small study, without data")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        study = given.output or Path(temporary) / "study"
        if given.digits:
            given.sweep = str(_digits(Path(temporary)))
            code = run_sweep(given.sweep, None, study, given)
        else:
            place = unpacked_beside(given.output, Path(temporary))
            code = run_sweep(given.sweep, data_folder(given.data, place, TEST_FILES_EVERY), study, given)
        if code == 2:
            return code
        text = report(study, TARGETS["digits" if given.digits else "norm-rate-study-small"])
    print(text)
    if given.table:
        given.table.write_text(text, encoding="utf-8")
    return code


def _digits(folder: Path) -> Path:
    """A sweep over powers and smoothings of the rule, on digits."""
    controllers = {
        f"p{power}s{smoothing}".replace(".", "p"): f'k_control.method = "norm_rate", '
        f"k_control.options = {{ power = {power}, smoothing = {smoothing} }}"
        for power in _POWERS
        for smoothing in (_SMOOTHINGS if power == "0.5" else ("0.5",))
    }
    controllers["ogd_sign"] = 'k_control.method = "ogd_sign"'
    lines = [
        "# The rate of the norm on digits.",
        "seeds = [1, 2, 3]",
        "[base.experiment]",
        'name = "norm-rate-digits"',
        "rounds = 1000",
        "evaluate_every = 5",
        "stop_at_accuracy = 0.93",
        "[base.clients]",
        "count = 8",
        "[base.data]",
        'dataset = "digits"',
        'partition = "dirichlet"',
        "alpha = 0.5",
        "[base.model]",
        'name = "mlp"',
        "hidden = [64]",
        "[base.training]",
        "local_steps = 1",
        "batch_size = 8",
        "learning_rate = 0.1",
        "[base.sparsification]",
        'method = "fab"',
        'wire = "coo"',
        "[base.emulation.compute]",
        'model = "normalized"',
        "[axes.k]",
        *[f"k{k} = {{ sparsification.k = {k} }}" for k in (10, 25, 60, 150, 400, 1000, 2500)],
        "[axes.controller]",
        *[f"{name} = {{ {keys} }}" for name, keys in controllers.items()],
        "[axes.beta]",
        *[f"{name} = {{ emulation.compute.beta = {beta} }}" for name, beta in BETAS.items()],
        '[[grids]]\naxes = ["k"]',
        '[[grids]]\naxes = ["controller", "beta"]',
    ]
    path = folder / "norm-rate-digits.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def report(study: Path, targets: Sequence[float]) -> str:
    """A table for each target, in Markdown."""
    found: dict[tuple[str, str], dict[str, Path]] = defaultdict(dict)
    for path in sorted(study.glob("*/trace.h5")):
        name, _, seed = path.parent.name.rpartition("-s")
        controller, _, beta = name.partition("-")
        if trace.read(path).attributes["status"] != "completed":
            continue
        for each in [beta] if beta else BETAS:
            folder = path.parent
            if not beta:
                keys = [f"emulation.compute.beta={BETAS[each]:g}"]
                folder = retimed(folder, keys, study / "retimed" / f"{folder.name}-{each}")
            found[each, controller][seed] = folder
    return "\n\n".join(_table(found, target) for target in targets) + "\n"


def _table(found: dict[tuple[str, str], dict[str, Path]], target: float) -> str:
    rows = []
    for beta in BETAS:
        fixed = {c: f for (b, c), f in found.items() if b == beta and c[0] == "k" and c[1:].isdigit()}
        if not fixed:
            continue
        times = {
            name: {seed: amounts_to(f, target).seconds for seed, f in by.items()}
            for name, by in fixed.items()
        }
        means = {name: float(np.mean(list(of.values()))) for name, of in times.items()}
        best = min(means, key=lambda name: inf if isnan(means[name]) else means[name])
        rows.append([beta, f"fixed {best}", reached(list(times[best].values())), ""])
        for (b, controller), folders in sorted(found.items()):
            if b == beta and controller not in fixed:
                own = {seed: amounts_to(folder, target).seconds for seed, folder in folders.items()}
                ratios = [own[seed] / times[best][seed] for seed in own if seed in times[best]]
                rows.append([beta, controller, reached(list(own.values())), reached(ratios, "{:.2f}")])
    head = ["beta", "k", "seconds", "over the best fixed k"]
    return "\n".join(table(f"Seconds to accuracy {target:g}", head, rows))


if __name__ == "__main__":
    sys.exit(main())

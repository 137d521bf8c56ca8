"""How masks and costs differ by what travels of importance: python benchmarks/importance_forms.py [KEY=VALUE...]

PruneFL with fab on the digits that come with scikit-learn, over slow links, with the same seed once for each form.
Prints the overlap (Jaccard index) of active prunable parameters with those of "full" after the first, the middle and
the last reconfiguration, the accuracy reached, bytes up and emulated seconds. Up to the first reconfiguration the runs
of a seed are the same; after it each goes on from its own mask. "another seed" is what masks have in common that have
nothing to do with each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

from fedmpi.config import loads, validate
from fedmpi.emulation.clock import VirtualClock
from fedmpi.experiment.assembly import assemble
from fedmpi.experiment.main import EXPECTED
from fedmpi.federation.round_halves import RoundReport
from fedmpi.mpi.collectives import Ranks

CONFIG = """
[experiment]
rounds = 160
evaluate_every = 10
[clients]
count = 20
per_round = 10
[data]
partition = "dirichlet"
alpha = 1.0
[model]
hidden = [256, 128]
[training]
local_steps = 5
batch_size = 20
learning_rate = 0.1
[sparsification]
method = "fab"
k_fraction = 0.02
[pruning]
method = "prunefl"
reconfigure_every = 20
[emulation.compute]
model = "flops"
profile = "raspberry-pi-4"
[emulation.network]
uplink_mbit_per_s = 1.0
downlink_mbit_per_s = 1.0
"""

FORMS: dict[str, list[str]] = {
    "full": [],
    "received": ["pruning.importance=received"],
    "sketch": ["pruning.importance=sketch"],
    "sketch, 5 k": ["pruning.importance=sketch", "pruning.importance_entries=5000"],
    "received, adaptive": ["pruning.importance=received", "pruning.interval=adaptive"],
}


@dataclass
class Outcome:
    """Of one run: active flags (D,) after each reconfiguration, with its round, and what it came to."""

    masks: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    accuracy: float = 0.0
    density: float = 1.0
    bytes_up: int = 0
    emulated_s: float = 0.0

    def round(self, report: RoundReport) -> None:
        charges = report.closed.charges
        if report.change is not None:
            self.masks[report.closed.plan.round_index] = np.array(report.change.mask.flags())
        if report.test_accuracy == report.test_accuracy:
            self.accuracy = report.test_accuracy
        self.bytes_up += int(charges.bytes_up.sum())
        self.emulated_s = charges.end_s


def run(overrides: Sequence[str]) -> tuple[Outcome, NDArray[np.bool_]]:
    """What a run came to, and which parameters are prunable (D,)."""
    config = loads(CONFIG, list(overrides))
    validate(config)
    assembled, outcome = assemble(Ranks.of(MPI.COMM_SELF), config, EXPECTED), Outcome()
    assembled.loop.run(VirtualClock(), outcome.round, lambda: None)
    outcome.density = assembled.masked.density
    prunable = np.zeros(assembled.model.parameter_count, np.bool_)
    for layer in assembled.model.layers:
        prunable[layer.start : layer.stop] = layer.prunable
    return outcome, prunable


def jaccard(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Active in both over active in either."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def overlaps(one: Outcome, other: Outcome, prunable: NDArray[np.bool_]) -> str:
    """After the first, the middle and the last reconfiguration that both made after the same round."""
    common = sorted(set(one.masks) & set(other.masks))
    shown = (common[0], common[len(common) // 2], common[-1])
    return "  ".join(f"{jaccard(one.masks[at][prunable], other.masks[at][prunable]):.2f}" for at in shown)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2, metavar="N")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    print(
        f"{'seed':>4}  {'form':20}{'overlap with full':>18}{'density':>9}{'accuracy':>10}{'MB up':>8}{'s':>8}"
    )
    before: Outcome | None = None
    for seed in range(1, arguments.seeds + 1):
        full: Outcome | None = None
        for name, overrides in FORMS.items():
            found, prunable = run([*overrides, *arguments.overrides, f"experiment.seed={seed}"])
            full = full or found
            print(
                f"{seed:4}  {name:20}{overlaps(found, full, prunable):>18}{found.density:9.3f}{found.accuracy:10.4f}"
                f"{found.bytes_up / 1e6:8.2f}{found.emulated_s:8.1f}",
                flush=True,
            )
        assert full is not None
        if before is not None:
            print(f"{'':4}  {'another seed':20}{overlaps(before, full, prunable):>18}")
        before = full


if __name__ == "__main__":
    main()

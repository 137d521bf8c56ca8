"""The figures of the compute model ``flops``: fitted to the published tables, and tried on tables left out.

    python benchmarks/flops_fit.py [--host]

PruneFL's authors measured steps of four models on a Raspberry Pi 4. This fits the overhead of an operation and the rate
of floating-point operations to all of them (the figures in ``fedmpi/emulation/devices.toml``) and to every three, and
prints by how much the fourth is missed. ``--host`` does the same with steps that are measured here, of the same models
and of two smaller ones: what the form of the model is worth where all measurements are alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch

from fedmpi.calibration.figures import DENSITIES, Table, factor, fit_figures, left_out
from fedmpi.calibration.measure import timed_step, training_step
from fedmpi.config.schema import ModelConfig
from fedmpi.emulation.profiles import StepCost, built_in_devices
from fedmpi.experiment.work import count_work
from fedmpi.learning.models import build_flat

MODELS = {
    "conv2": ((1, 28, 28), 62),
    "vgg11": ((3, 32, 32), 10),
    "resnet18": ((3, 168, 168), 100),
    "conv4": ((3, 84, 84), 2),
}
"""What each was measured with: the shape of a sample, and classes."""

SMALLER = {"mlp": ((1, 8, 8), 10), "cnn": ((1, 28, 28), 62)}
BATCH_SIZE = 20
REPETITIONS = 5


def published() -> dict[str, Table]:
    """The four tables, of steps of 20 samples."""
    device = built_in_devices()["raspberry-pi-4"]
    return {
        name: Table(
            device.models[name],
            count_work(build_flat(ModelConfig(name), shape, classes, 0), shape, 2),
            BATCH_SIZE,
        )
        for name, (shape, classes) in MODELS.items()
    }


def measured_here() -> dict[str, Table]:
    """Dense steps on one thread of this host; a table knows no others then, and is compared at density 1 alone."""
    torch.set_num_threads(1)
    tables = {}
    for name, (shape, classes) in (MODELS | SMALLER).items():
        model = build_flat(ModelConfig(name), shape, classes, 0)
        x, y = torch.rand((BATCH_SIZE, *shape)), torch.arange(BATCH_SIZE) % classes
        step = training_step(model.module, x, y, "cross_entropy")
        step()
        seconds = sorted(timed_step(step) for _ in range(REPETITIONS))[REPETITIONS // 2]
        work = count_work(model, shape, 2)
        tables[name] = Table(StepCost(seconds, (0.0,) * len(work.layer_sizes), seconds), work, BATCH_SIZE)
    return tables


def report(tables: Mapping[str, Table], densities: int) -> None:
    """Print the fit, and each table by the figures of the others, at the first so many densities."""
    figures = fit_figures(list(tables.values()), densities)
    print(f"overhead_s = {figures.overhead_s:.4g}, flops_per_s = {figures.flops_per_s:.4g}")
    print("predicted over measured seconds of a step, by the figures of all other models:")
    head = "".join(f"{density:>8g}" for density in DENSITIES[:densities])
    print(f"  {'density':10}{head}  factor  of its own fit")
    missed = left_out(tables, densities)
    for name, ratios in missed.items():
        own = tables[name].ratios(figures, densities)
        print(f"  {name:10}{''.join(f'{r:8.2f}' for r in ratios)}{factor(ratios):8.2f}{factor(own):13.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--host", action="store_true", help="measure steps here as well")
    arguments = parser.parse_args()
    print("Raspberry Pi 4, the tables of Jiang et al. (IEEE TNNLS 2022)")
    report(published(), len(DENSITIES))
    if arguments.host:
        print("\nthis host, one thread")
        report(measured_here(), 1)


if __name__ == "__main__":
    main()

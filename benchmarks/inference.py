"""A pruned model beside the dense one on this host: inference and training, one thread, interleaved, medians.

python benchmarks/inference.py [--model conv2] [--densities 1 0.5 0.2 0.1 0.05 0.02] [--batches 1 20] [--steps 15]
python benchmarks/inference.py --run RUN

The first form prunes every prunable layer of a model of random weights at random to each density; the second takes the
model of a run folder. "dense" has dense kernels and knows of no pruning, "masked" is the same with gradients kept
from what is pruned, "sparse" has sparse kernels in all layers, "auto" where fedmpi.export.sparsify would choose them.
Ratios are times of "dense" over theirs: above 1 they are faster.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import thread_time

import torch
from torch import Tensor, nn

from fedmpi.calibration import training_step
from fedmpi.config.schema import ModelConfig
from fedmpi.export import Pattern, read_run, sparsify
from fedmpi.export.file import csr
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build

KINDS = {"masked": "dense", "sparse": "sparse", "auto": "auto"}
"""What is measured beside the dense model, and the kernels of ``sparsify``."""

Weights = Mapping[str, tuple[Pattern, Tensor]]


def at_random(model: FlatModel, density: float) -> Weights:
    """Every prunable weight of a model at a density."""
    draw = torch.Generator().manual_seed(0)
    weights = {}
    for layer in model.layers:
        if layer.prunable:
            matrix = model.vector[layer.start : layer.stop].view(layer.shape[0], -1)
            active = torch.rand(matrix.shape, generator=draw) < density
            weights[layer.name] = (Pattern.of(active), matrix[active])
    return weights


def modules(dense: nn.Module, weights: Weights) -> dict[str, nn.Module]:
    """The dense module with its pruned weights at zero, and those of KINDS."""
    pruned = copy.deepcopy(dense)
    with torch.no_grad():
        for name, (pattern, values) in weights.items():
            weight = pruned.get_parameter(name)
            weight.copy_(pattern.dense(values).view_as(weight))
    found = {"dense": pruned}
    for kind, kernels in KINDS.items():
        own = {name: (pattern, values.clone()) for name, (pattern, values) in weights.items()}
        found[kind] = sparsify(copy.deepcopy(dense), own, kernels)
    return found


def inference(module: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    """What is timed as one inference."""
    module.eval()

    def run() -> None:
        with torch.inference_mode():
            module(x)

    return run


def training(module: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    """What is timed as one training step."""
    return training_step(module.train(), x, y, "cross_entropy")


def measure(runs: Mapping[str, Callable[[], object]], steps: int) -> dict[str, float]:
    """The median CPU seconds of each, which other programs disturb less than time by the clock."""
    seconds: dict[str, list[float]] = {kind: [] for kind in runs}
    for step in range(steps + 1):
        for kind, run in runs.items():
            start = thread_time()
            run()
            if step:
                seconds[kind].append(thread_time() - start)
    return {kind: median(values) for kind, values in seconds.items()}


def main() -> None:
    """Measure and print a line for each task, batch size and density."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", default="conv2")
    parser.add_argument("--densities", type=float, nargs="+", default=[1.0, 0.5, 0.2, 0.1, 0.05, 0.02])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--run", type=Path, help="the folder of a run")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases: dict[str, Weights]
    if arguments.run is not None:
        trained = read_run(arguments.run)
        shape, classes = trained.input_shape, trained.classes
        model = FlatModel(build(trained.config.model, shape, classes, trained.config.experiment.seed))
        model.load(trained.vector)
        prunable = [layer for layer in model.layers if layer.prunable]
        cases = {f"{trained.mask.density(prunable):.4f}": {la.name: csr(trained, la) for la in prunable}}
    else:
        shape, classes = (3, 32, 32) if arguments.model in ("vgg11", "resnet18") else (1, 28, 28), 62
        model = FlatModel(build(ModelConfig(arguments.model), shape, classes, 0))
        cases = {f"{density:g}": at_random(model, density) for density in arguments.densities}
    print(
        f"{'task':9}  {'batch':>5}  {'density':>7}  {'dense ms':>8}"
        + "".join(f"  {k + ' ms':>9}  ratio" for k in KINDS)
    )
    for density, weights in cases.items():
        built = modules(model.module, weights)
        for task, runner in (("inference", inference), ("training", training)):
            for batch in arguments.batches:
                x, y = torch.rand(batch, *shape), torch.randint(classes, (batch,))
                found = measure(
                    {kind: runner(module, x, y) for kind, module in built.items()}, arguments.steps
                )
                line = f"{task:9}  {batch:>5}  {density:>7}  {found['dense'] * 1e3:>8.2f}"
                for kind in KINDS:
                    line += f"  {found[kind] * 1e3:>9.2f}  {found['dense'] / found[kind]:>5.2f}"
                print(line, flush=True)


if __name__ == "__main__":
    main()

"""Write the model of a run folder to a safetensors file, dense or sparse.

The model is that of the latest checkpoint. ``fedmpi.export.load`` gives the file back as a torch module.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedmpi.config import ConfigError

if TYPE_CHECKING:
    from fedmpi.export import Factory, TrainedModel

_FORMATS = ("dense", "sparse")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        required=True,
        help="dense: full tensors, zeros where pruned; sparse: pruned weights in CSR form",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="the file (default: RUN/model-FORMAT.safetensors)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.add_argument(
        "--factory",
        metavar="MODULE:ATTRIBUTE",
        help="what makes the model of the run where it is none of fedmpi's own: code that RUN names is never run",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Write the file and print a table of its layers."""
    form = arguments.format
    output = arguments.output or arguments.run / f"model-{form}.safetensors"
    from fedmpi.export import read_run, write  # torch comes with it, and takes seconds

    trained = read_run(arguments.run, None if arguments.factory is None else _factory(arguments.factory))
    _check_output(output, arguments.overwrite)
    for problem in trained.problems:
        print(f"warning: {problem}", file=sys.stderr)
    write(trained, output, form)
    for line in _table(trained):
        print(line)
    print(f"{output}: {output.stat().st_size:,} bytes, the model after {trained.rounds} rounds")
    return 0


def _factory(name: str) -> Factory:
    from fedmpi.config.schema import ModelConfig
    from fedmpi.learning.models import build

    return lambda input_shape, classes: build(ModelConfig(name), input_shape, classes, seed=0)


def _check_output(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise ConfigError("--output", f"{path} is a folder", "a file")
    if path.exists() and not overwrite:
        raise ConfigError(
            "--output", f"{path} exists already", "--overwrite to replace it, or another --output"
        )
    if not path.absolute().parent.is_dir():
        raise ConfigError("--output", f"{path.parent} is no folder", "a file in a folder that exists")


def _table(trained: TrainedModel) -> list[str]:
    """A line for each prunable weight, one for all other tensors, and the sum."""
    from fedmpi.export.file import active_of, csr_bytes

    state = trained.state
    rows = {}  # name -> shape, and active, total, dense bytes, sparse bytes
    for layer in trained.layers:
        if layer.prunable:
            total, active = layer.stop - layer.start, active_of(trained, layer)
            sizes = np.array([active, total, 4 * total, csr_bytes(active, layer.shape)])
            rows[layer.name] = (" x ".join(map(str, layer.shape)), sizes)
    others = [tensor for name, tensor in state.items() if name not in rows]
    count, size = sum(t.numel() for t in others), sum(t.nbytes for t in others)
    rows[f"{len(others)} others"] = ("", np.array([count, count, size, size]))
    rows["all"] = ("", np.sum([sizes for _, sizes in rows.values()], axis=0))
    names, shapes = max(map(len, rows)), max(len(shape) for shape, _ in rows.values())
    lines = [
        f"{'layer':{names}}  {'shape':{shapes}}  {'active':>11}  density  {'bytes dense':>12}  {'bytes sparse':>12}"
    ]
    for name, (shape, (active, total, dense, sparse)) in rows.items():
        density = active / total if total else 1.0
        line = (
            f"{name:{names}}  {shape:{shapes}}  {active:>11,}  {density:>7.4f}  {dense:>12,}  {sparse:>12,}"
        )
        lines.append(line)
    return lines

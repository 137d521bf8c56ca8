"""Measure this host's training steps of a model and keep them as a device of one's own.

Steps with sparse kernels are timed at many densities, and the linear time model is fitted to them: a constant, and
seconds for each active parameter of every prunable layer. Densities between those have no part in the fit: it is tried
on them. ``emulation.compute.profile = NAME`` then takes it.
"""

from __future__ import annotations

import argparse
import platform
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedmpi import __version__
from fedmpi.cli.number_arguments import integer, number
from fedmpi.config import ConfigError
from fedmpi.config.ranges import FRACTION
from fedmpi.config.schema import ModelConfig
from fedmpi.emulation.profiles import Device, StepCost
from fedmpi.emulation.user_devices import VARIABLE, add_model, check_name, user_devices_path

if TYPE_CHECKING:
    from fedmpi.calibration import Fit, Measured

_SHAPES = {"conv4": (3, 84, 84), "vgg11": (3, 32, 32), "resnet18": (3, 168, 168)}
_CLASSES = {"conv4": 2, "vgg11": 10, "resnet18": 100}
"""What the models of the publications were measured with; 1 x 28 x 28 and 62 for all others."""

MOST_SPREAD = 0.1
"""From there on a measurement is not repeated (``calibration.measure.spread``)."""

MOST_ERROR = 0.3
"""A fit that misses a measured step by more is not kept."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a name, as in model.name, or module:factory")
    parser.add_argument("--device", required=True, metavar="NAME", help="what the device is to be called")
    parser.add_argument(
        "--batch-size", type=integer(1), default=20, metavar="N", help="samples of a step (20)"
    )
    parser.add_argument(
        "--input-shape",
        type=integer(1),
        nargs="+",
        metavar="N",
        help="channels, height and width (the publication's, else 1 28 28)",
    )
    parser.add_argument("--classes", type=integer(1), metavar="N", help="(the publication's, else 62)")
    parser.add_argument(
        "--hidden", type=integer(1), nargs="*", default=[64], metavar="N", help="of an mlp (64)"
    )
    parser.add_argument(
        "--densities",
        type=number(FRACTION),
        nargs="+",
        default=[0.02, 0.05, 0.1, 0.2, 0.4],
        metavar="D",
        help="at least two (0.02 0.05 0.1 0.2 0.4)",
    )
    parser.add_argument(
        "--steps",
        type=integer(1),
        default=15,
        metavar="N",
        help=f"repetitions of each point (15); while their spread is above {100 * MOST_SPREAD:g} %%, so many more",
    )
    parser.add_argument(
        "--most-steps", type=integer(1), metavar="N", help="repetitions in all, at most (6 times --steps)"
    )
    parser.add_argument(
        "--force", action="store_true", help=f"keep a fit whose error is above {100 * MOST_ERROR:g} %% too"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"the file of devices (default: ${VARIABLE}, else fedmpi/devices.toml in the user's configuration)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Measure, print the fit with its errors, and write the device."""
    name, densities = arguments.device, sorted(set(arguments.densities))
    check_name(name, "--device")
    if len(densities) < 2:
        raise ConfigError("--densities", f"found {densities}", "at least two")
    output = arguments.output or user_devices_path()
    if output.exists() and not output.is_file():
        raise ConfigError("--output", f"{output} is a folder", "a file")
    model = ModelConfig(arguments.model, tuple(arguments.hidden))
    shape = tuple(arguments.input_shape or _SHAPES.get(model.name, (1, 28, 28)))
    if len(shape) != 3:
        raise ConfigError("--input-shape", f"found {shape}", "channels, height and width")
    classes = arguments.classes or _CLASSES.get(model.name, 62)
    batch = arguments.batch_size
    from fedmpi.calibration import fit, measure  # torch comes with it, and takes seconds

    measured = measure(
        model,
        shape,
        classes,
        batch,
        densities,
        arguments.steps,
        held_out=[float(np.sqrt(low * high)) for low, high in pairwise(densities)],
        most_spread=MOST_SPREAD,
        most_steps=arguments.most_steps or 6 * arguments.steps,
    )
    found = fit(measured.active, measured.seconds)
    for line in _report(model.name, batch, measured, found):
        print(line)
    error = max(found.errors.max(), found.missed(measured.held_out_active, measured.held_out_seconds).max())
    if error > MOST_ERROR and not arguments.force:
        problem = f"the fit misses a measured step by {error:.0%}, and {name} is not kept"
        allowed = f"at most {MOST_ERROR:.0%}, on an idle machine or with more --steps; or --force"
        print(f"fedmpi calibrate: {problem}; allowed: {allowed}", file=sys.stderr)
        return 1
    cost = StepCost(found.constant_s, tuple(found.seconds_per_parameter.tolist()), measured.dense_step_s)
    machine = f"{platform.machine()}, {platform.system()}, one thread"
    source = f"fedmpi {__version__} calibrate, {machine}, {datetime.now(UTC):%Y-%m-%d}"
    add_model(output, Device(name=name, source=source, batch_size=batch, models={model.name: cost}))
    print(f'{output}: device {name}; emulation.compute.profile = "{name}" takes it')
    return 0


def _report(model: str, batch: int, measured: Measured, found: Fit) -> list[str]:
    milli, width = 1e3, max(map(len, measured.layers))
    lines = [
        f"{model}, steps of {batch} samples, medians of {measured.repetitions} at "
        f"{len(measured.seconds) + len(measured.held_out_seconds)} points, one thread",
        f"spread of the measurement: {_spread(measured)}",
        f"dense kernels: {measured.dense_step_s * milli:.3f} ms",
        f"sparse kernels: {found.constant_s * milli:.3f} ms, and for each active parameter of",
    ]
    for name, size, per_parameter in zip(
        measured.layers, measured.sizes, found.seconds_per_parameter, strict=True
    ):
        whole = f"{per_parameter * size * milli:.3f} ms for all {size:,}"
        lines.append(f"  {name:{width}}  {per_parameter * 1e9:>10.3f} ns  ({whole})")
    for what, errors in (("error of the fit", found.errors), ("each point left out", found.left_out)):
        lines.append(f"{what}: median {np.median(errors):.1%}, largest {errors.max():.1%}")
    missed = found.missed(measured.held_out_active, measured.held_out_seconds)
    held_out = zip(measured.held_out_densities, missed, strict=True)
    at = ", ".join(f"{error:.1%} at {density:.3g}" for density, error in held_out)
    lines.append(f"densities that had no part in the fit: {at}")
    density = found.crossover(measured.sizes, measured.dense_step_s)
    if density <= 0.0:
        lines.append("sparse kernels are slower than dense ones at any density")
    elif density >= 1.0:
        lines.append("sparse kernels are faster than dense ones at any density")
    else:
        lines.append(f"sparse kernels are faster than dense ones below a density of {density:.3f}")
    return lines


def _spread(measured: Measured) -> str:
    if measured.spread <= MOST_SPREAD:
        return f"{measured.spread:.1%}"
    return (
        f"{measured.spread:.0%} after {measured.repetitions} repetitions, not under {MOST_SPREAD:.0%}: the machine is "
        f"busy, or the steps are too short"
    )

"""The compute model ``flops``: overhead for each operation, and floating-point work over the device's rate.

seconds of a step of b samples = overhead_s x (b x values + parameters) + 3 b x flops / flops_per_s

``flops`` is the floating-point work of the forward pass of a sample, that of every prunable layer scaled by its
density; the backward pass takes twice as much. An operation is one value that a layer reads or writes, or one parameter
that the step updates: it is that, and not the number of layers, that the time beside the arithmetic grows with, from a
network of some thousand parameters to one of millions. Every part grows with the density, none is negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmpi.emulation.compute import ComputeModel, FloatArray, LocalTraining, Setup, Work
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.profiles import Devices, Figures, StepCost

_PASSES = 3.0
"""Forward, and backward to the layer's input and to its weights; the first layer's input needs none, which is not
deducted."""


def step_cost(figures: Figures, work: Work, batch_size: int) -> StepCost:
    """Seconds of one step of ``batch_size`` samples: a constant, and for each active parameter of each layer."""
    operations = batch_size * work.values + work.parameters
    per_flop_s = _PASSES * batch_size / figures.flops_per_s
    return StepCost(
        constant_s=figures.overhead_s * operations + per_flop_s * work.other_flops,
        seconds_per_parameter=tuple(
            per_flop_s * flops / size for flops, size in zip(work.layer_flops, work.layer_sizes, strict=True)
        ),
    )


@dataclass(frozen=True)
class FlopsCosts:
    """Seconds of one local step at the experiment's batch size, float64 in client order: N clients, L prunable layers.

    ``constant_s`` (N,) and ``seconds_per_parameter`` (N, L); L = 0 while the model's work is not known.
    """

    device_names: tuple[str, ...]
    constant_s: FloatArray
    seconds_per_parameter: FloatArray


def flops_costs(setup: Setup) -> FlopsCosts:
    """The costs of a fleet. Raises EmulationError for a device without ``figures``."""
    devices = Devices.of(setup.devices)
    kinds, which = devices.kinds, devices.which
    for kind, known in enumerate(kinds):
        if known.figures is None:
            raise EmulationError(
                f"emulation.compute.profile: found {known.name!r} for client {devices.first_of(kind)}, of which "
                f'no overhead_s and flops_per_s are known; allowed with model = "flops": another of fedmpi devices, '
                f"or a CSV file with these columns"
            )
    names = tuple(devices.each(lambda device: device.name))
    if setup.work is None:
        return FlopsCosts(names, np.full(len(names), np.nan), np.empty((len(names), 0)))
    costs = [step_cost(d.figures, setup.work, setup.batch_size) for d in kinds if d.figures]
    each = np.array([cost.seconds_per_parameter for cost in costs]).reshape(
        len(kinds), len(setup.work.layer_sizes)
    )
    return FlopsCosts(
        device_names=names,
        constant_s=np.array([cost.constant_s for cost in costs])[which],
        seconds_per_parameter=each[which],
    )


def flops_coefficients(costs: FlopsCosts, training: LocalTraining) -> tuple[FloatArray, FloatArray]:
    """Seconds of one local step: constants (n,), and coefficients per active parameter (n, L).

    Raises EmulationError where the costs are not those of a model of L prunable layers.
    """
    check_layers(costs, training.active.size)
    return costs.constant_s[training.clients], costs.seconds_per_parameter[training.clients]


def flops_seconds(costs: FlopsCosts, training: LocalTraining) -> FloatArray:
    """Steps times (constant + sum over layers of coefficient times active parameters); see ``flops_coefficients``."""
    constant_s, seconds_per_parameter = flops_coefficients(costs, training)
    # A sum along each client's own row: the result of one does not depend on who else takes part.
    return training.steps * (constant_s + (seconds_per_parameter * training.active).sum(axis=1))


def check_layers(costs: FlopsCosts, prunable_layers: int) -> None:
    """EmulationError unless the costs are those of a model of so many prunable layers."""
    found = costs.seconds_per_parameter.shape[1]
    if found != prunable_layers or np.isnan(costs.constant_s).any():
        raise EmulationError(
            f'emulation.compute.model: found "flops" with the work of {found} prunable layers; '
            f"needed: that of the {prunable_layers} of the model"
        )


FLOPS = ComputeModel(
    summary="overhead for each operation, and the model's floating-point work over the device's rate",
    source="figures fitted to the tables of Jiang et al., IEEE TNNLS 2022",
    costs=flops_costs,
    seconds=flops_seconds,
    coefficients=flops_coefficients,
    check=check_layers,
    needs_work=True,
)

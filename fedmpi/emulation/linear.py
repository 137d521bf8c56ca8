"""The compute model ``linear``: PruneFL's time of a step, a constant and seconds for each active parameter of a layer.

Jiang et al., "Model pruning enables efficient federated learning on edge devices", IEEE TNNLS 2022. A device that was
not measured with the experiment's model takes what ``emulation.flops`` makes of the model's floating-point work.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.compute import ComputeModel, FloatArray, LocalTraining, Setup
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.flops import step_cost
from fedmpi.emulation.profiles import Devices, StepCost

DENSE_FROM_DENSITY = 0.9
"""From this density on a model is trained with dense kernels: with so few zeros sparse ones are slower."""


@dataclass(frozen=True)
class LinearCosts:
    """Seconds of one local step at the experiment's batch size, float64 in client order; NaN where nothing is known.

    ``constant_s`` and ``seconds_per_parameter`` (N,): for any model, from a CSV file; ``layer_constant_s`` (N,) and
    ``layer_seconds_per_parameter`` (N, L): of the experiment's model where it was measured or its work is known, else
    L = 0; ``layer_dense_step_s`` (N,): what a measured step of that takes with dense kernels; ``estimated`` (N,):
    whether a client's are estimates from floating-point work.
    """

    device_names: tuple[str, ...]
    constant_s: FloatArray
    seconds_per_parameter: FloatArray
    layer_constant_s: FloatArray
    layer_seconds_per_parameter: FloatArray
    layer_dense_step_s: FloatArray
    estimated: NDArray[np.bool_]

    def has_layers(self, prunable_layers: int) -> bool:
        """Whether the tables of the experiment's model are for a model of so many prunable layers."""
        return self.layer_seconds_per_parameter.shape[1] == prunable_layers


def linear_costs(setup: Setup) -> LinearCosts:
    """The costs of a fleet. Raises EmulationError for a device of which no time of a step of the model is known."""
    name, every = setup.model_name, Devices.of(setup.devices)
    devices, which = every.kinds, every.which
    for kind, known in enumerate(devices):
        if known.generic is None and known.figures is None and name not in known.models:
            client = every.first_of(kind)
            raise EmulationError(
                f"emulation.compute.profile: found {known.name!r} for client {client}, of which no time of a "
                f'step of {name} is known; allowed with model = "linear": any other device, or '
                f"what fedmpi calibrate has measured"
            )
    unknown = StepCost(nan, (nan,))
    generic = [d.generic or unknown for d in devices]
    tables = [d.models.get(name) for d in devices]
    work, estimated = setup.work, np.zeros(len(devices), dtype=bool)
    scale = np.array([setup.batch_size / d.batch_size if d.batch_size else 1.0 for d in devices])
    if work is not None:
        for kind, (d, table) in enumerate(zip(devices, tables, strict=True)):
            fits = table is not None and len(table.seconds_per_parameter) == len(work.layer_sizes)
            if d.figures is not None and d.generic is None and not fits:
                tables[kind] = step_cost(d.figures, work, setup.batch_size)
                estimated[kind], scale[kind] = True, 1.0
    layers = max((len(table.seconds_per_parameter) for table in tables if table), default=0)
    no_table = StepCost(nan, (nan,) * layers)
    measured = [table or no_table for table in tables]
    by_layer = np.array([cost.seconds_per_parameter for cost in measured]).reshape(len(devices), layers)
    dense_step_s = [nan if cost.dense_step_s is None else cost.dense_step_s for cost in measured]
    return LinearCosts(
        device_names=tuple(every.each(lambda device: device.name)),
        constant_s=(scale * [cost.constant_s for cost in generic])[which],
        seconds_per_parameter=(scale * [cost.seconds_per_parameter[0] for cost in generic])[which],
        layer_constant_s=(scale * [cost.constant_s for cost in measured])[which],
        layer_seconds_per_parameter=(scale[:, None] * by_layer)[which],
        layer_dense_step_s=(scale * dense_step_s)[which],
        estimated=estimated[which],
    )


def linear_seconds(costs: LinearCosts, training: LocalTraining) -> FloatArray:
    """Steps times (constant + sum over layers of coefficient times active parameters); see ``linear_coefficients``.

    From ``DENSE_FROM_DENSITY`` on steps are made with dense kernels and take what was measured of those, whatever is
    pruned. Where that is not known the same formula holds. Raises EmulationError as ``require_costs``.
    """
    require_costs(costs, training.active.size)
    constant_s, seconds_per_parameter = linear_coefficients(costs, training)
    # A sum along each client's own row: the result of one does not depend on who else takes part.
    step_s = constant_s + (seconds_per_parameter * training.active).sum(axis=1)
    if training.density >= DENSE_FROM_DENSITY and costs.has_layers(training.active.size):
        dense_step_s = costs.layer_dense_step_s[training.clients]
        step_s = np.where(np.isnan(dense_step_s), step_s, dense_step_s)
    return training.steps * step_s


def linear_coefficients(costs: LinearCosts, training: LocalTraining) -> tuple[FloatArray, FloatArray]:
    """Seconds of one local step with sparse kernels: constants (n,), and coefficients per active parameter (n, L).

    Both at the experiment's batch size. The device's own table for the experiment's model is used when it has L
    entries, or its estimate; else the one coefficient of a CSV file stands for all layers. NaN for devices of which
    none is known. The time T(M) by
    which masks are chosen is made of these alone: what a pruned model will take does not depend on how the model before
    it was trained.
    """
    clients: NDArray[np.int64] = training.clients
    generic = np.repeat(costs.seconds_per_parameter[clients, None], training.active.size, axis=1)
    if not costs.has_layers(training.active.size):
        return costs.constant_s[clients], generic
    has_table = ~np.isnan(costs.layer_constant_s[clients])
    return (
        np.where(has_table, costs.layer_constant_s[clients], costs.constant_s[clients]),
        np.where(has_table[:, None], costs.layer_seconds_per_parameter[clients], generic),
    )


def require_costs(costs: LinearCosts, prunable_layers: int) -> None:
    """EmulationError if the time of a step is not known for a model of so many prunable layers."""
    if costs.has_layers(prunable_layers):
        return
    unknown = np.isnan(costs.constant_s)
    if unknown.any():
        client, layers = int(unknown.argmax()), costs.layer_seconds_per_parameter.shape[1]
        how = f"was measured with a model of {layers} prunable layers, not {prunable_layers}"
        if not layers:
            how = f"was not measured with a model of {prunable_layers} prunable layers"
        raise EmulationError(
            f"emulation.compute.profile: found {costs.device_names[client]!r} for client {client}, which {how}; "
            f"allowed: what fedmpi calibrate has measured for this one"
        )


LINEAR = ComputeModel(
    summary="a step takes a constant and seconds for each active parameter, as measured on a Raspberry Pi 4",
    source="Jiang et al., IEEE TNNLS 2022 (arXiv 1909.12326)",
    costs=linear_costs,
    seconds=linear_seconds,
    coefficients=linear_coefficients,
    check=require_costs,
    needs_work=True,
)

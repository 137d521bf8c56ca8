"""Emulated seconds of local training (time models ``unit``, ``linear``, ``measured`` and ``normalized``)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.errors import EmulationError

FloatArray = NDArray[np.float64]

DENSE_FROM_DENSITY = 0.9
"""From this density on a model is trained with dense kernels: with so few zeros sparse ones are slower."""


def compute_seconds(
    fleet: Fleet,
    participants: NDArray[np.integer],
    steps: ArrayLike,
    active_per_prunable_layer: ArrayLike,
    host_s: ArrayLike | None = None,
    *,
    density: float,
) -> FloatArray:
    """Emulated seconds that each participant trains in a round, float64 (n,).

    ``participants`` (n,) are client numbers, ``steps`` (n,) or a scalar their local steps (a step of fewer
    samples than the batch size counts as that fraction of one), ``active_per_prunable_layer`` (L,) the
    active parameters of each prunable layer, input to output, ``density`` what part of all prunable ones that is,
    ``host_s`` (n,) what training took here (model ``measured`` alone needs it).

    - ``unit``: ``unit_s``, whatever is computed (the cost model of FAB-top-k, Han et al., ICDCS 2020).
    - ``normalized``: 1; the rest of that cost model is in ``emulation.normalized``.
    - ``linear``: steps times (constant + sum over layers of coefficient times active parameters), PruneFL's
      time model (Jiang et al., TNNLS 2022); see ``linear_coefficients``. From ``DENSE_FROM_DENSITY`` on steps are
      made with dense kernels and take what was measured of those, whatever is pruned. Where that is not known the
      same formula holds.
    - ``measured``: host_s times ``slowdown`` over the device's relative speed: ``slowdown`` says how many
      times slower than this host a device of relative speed 1 is (``raspberry-pi-4``, ``reference``, or any
      of a CSV file), and a device of relative speed 2 takes half of that.

    Raises EmulationError when host times are needed and missing, not finite or negative.
    """
    clients = np.asarray(participants)
    if fleet.compute_model == "unit":
        return np.full(clients.shape, fleet.unit_s, dtype=np.float64)
    if fleet.compute_model == "normalized":
        return np.ones(clients.shape)
    if fleet.compute_model == "measured":
        measured = np.full(clients.shape, np.nan) if host_s is None else np.asarray(host_s, dtype=np.float64)
        wrong = ~(np.isfinite(measured) & (measured >= 0.0))
        if wrong.any():
            index = int(wrong.argmax())
            raise EmulationError(
                f"host_s: found {measured[index]} for client {clients[index]}; "
                f"allowed with emulation.compute.model = measured: the seconds that its training took"
            )
        return measured * fleet.slowdown / fleet.relative_speed[clients]
    active = np.asarray(active_per_prunable_layer, dtype=np.float64)
    require_costs(fleet, active.size)
    constant_s, seconds_per_parameter = linear_coefficients(fleet, clients, active.size)
    # A sum along each client's own row: the result of one does not depend on who else takes part.
    step_s = constant_s + (seconds_per_parameter * active).sum(axis=1)
    if density >= DENSE_FROM_DENSITY and _has_layers(fleet, active.size):
        dense_step_s = fleet.layer_dense_step_s[clients]
        step_s = np.where(np.isnan(dense_step_s), step_s, dense_step_s)
    return np.asarray(steps, dtype=np.float64) * step_s


def require_costs(fleet: Fleet, prunable_layers: int) -> None:
    """EmulationError if the time of a step by ``linear`` is not known for a model of so many prunable layers."""
    if fleet.compute_model != "linear" or _has_layers(fleet, prunable_layers):
        return
    unknown = np.isnan(fleet.constant_s)
    if unknown.any():
        client = int(unknown.argmax())
        raise EmulationError(
            f"emulation.compute.profile: found {fleet.device_names[client]!r} for client {client}, which was measured "
            f"with a model of {fleet.layer_seconds_per_parameter.shape[1]} prunable layers, not {prunable_layers}; "
            f"allowed: what fedmpi calibrate has measured for this one"
        )


def linear_coefficients(
    fleet: Fleet, participants: NDArray[np.integer], prunable_layers: int
) -> tuple[FloatArray, FloatArray]:
    """Seconds of one local step with sparse kernels: constants (n,), and coefficients per active parameter (n, L).

    Both at the experiment's batch size. The device's own table for the experiment's model is used when it
    has ``prunable_layers`` = L entries; else its one coefficient stands for all layers. NaN for devices of
    which neither is known. The time T(M) by which masks are chosen is made of these alone: what a pruned model
    will take does not depend on how the model before it was trained.
    """
    clients = np.asarray(participants)
    generic = np.repeat(fleet.seconds_per_parameter[clients, None], prunable_layers, axis=1)
    if not _has_layers(fleet, prunable_layers):
        return fleet.constant_s[clients], generic
    has_table = ~np.isnan(fleet.layer_constant_s[clients])
    return (
        np.where(has_table, fleet.layer_constant_s[clients], fleet.constant_s[clients]),
        np.where(has_table[:, None], fleet.layer_seconds_per_parameter[clients], generic),
    )


def _has_layers(fleet: Fleet, prunable_layers: int) -> bool:
    """Whether the tables of the experiment's model are for a model of so many prunable layers."""
    return fleet.layer_seconds_per_parameter.shape[1] == prunable_layers

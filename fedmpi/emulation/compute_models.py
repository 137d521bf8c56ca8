"""Compute models that know nothing of a model's layers: a constant, host time, and the normalized cost model."""

from __future__ import annotations

import numpy as np

from fedmpi.emulation.compute import ComputeModel, FloatArray, LocalTraining, Setup
from fedmpi.emulation.errors import EmulationError


def unit_seconds(setup: Setup, training: LocalTraining) -> FloatArray:
    """``unit_s``, whatever is computed (the cost model of FAB-top-k, Han et al., ICDCS 2020)."""
    return np.full(training.clients.shape, setup.section.unit_s, dtype=np.float64)


def normalized_seconds(setup: Setup, training: LocalTraining) -> FloatArray:
    """1; the rest of that cost model is in ``emulation.normalized``."""
    del setup
    return np.ones(training.clients.shape)


def measured_seconds(setup: Setup, training: LocalTraining) -> FloatArray:
    """What training took here, times ``slowdown`` over the device's relative speed.

    ``slowdown`` says how many times slower than this host a device of relative speed 1 is (``raspberry-pi-4``,
    ``reference``, or any of a CSV file); a device of relative speed 2 takes half of that. Raises EmulationError when
    host times are missing, not finite or negative.
    """
    wrong = ~(np.isfinite(training.host_s) & (training.host_s >= 0.0))
    if wrong.any():
        index = int(wrong.argmax())
        raise EmulationError(
            f"host_s: found {training.host_s[index]} for client {training.clients[index]}; "
            f"allowed with emulation.compute.model = measured: the seconds that its training took"
        )
    return training.host_s * setup.section.slowdown / setup.relative_speed[training.clients]


UNIT = ComputeModel(
    summary="a round of training takes unit_s, whatever is computed",
    source="Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    seconds=unit_seconds,
)

MEASURED = ComputeModel(
    summary="host seconds times slowdown, over the device's relative speed",
    seconds=measured_seconds,
    needs_host_time=True,
)

NORMALIZED = ComputeModel(
    summary="a round of training takes 1 and an exchange of all parameters beta; links play no role",
    source="Han, Wang, Leung, ICDCS 2020, section V",
    seconds=normalized_seconds,
    prices_rounds=True,
)

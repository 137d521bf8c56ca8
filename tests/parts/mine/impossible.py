"""Parts that can be built and give what cannot be."""

import numpy as np

from fedmpi.emulation.availability import AvailabilityModel
from fedmpi.emulation.compute import ComputeModel
from fedmpi.k_control import Controller, State


def chooses(k: float, k_probe: int = 0) -> Controller:
    """k from round 1 on."""
    return Controller(
        summary="another k",
        init=lambda setup, draw: State(setup.k_initial, 0),
        step=lambda state, seen, draw: State(int(k) if k == int(k) else k, k_probe),
        measures_losses=False,
    )


NEGATIVE = ComputeModel(
    summary="time runs backwards", seconds=lambda setup, training: -np.ones(len(training.clients))
)
OF_ONE = ComputeModel(summary="one number", seconds=lambda setup, training: np.ones(1))
NEVER = AvailabilityModel(
    summary="nobody", available=lambda setup, round_index, start_s: np.zeros(setup.clients, bool)
)

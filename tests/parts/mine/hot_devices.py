"""A compute model: devices slow down with every client number."""

from fedmpi.emulation.compute import ComputeModel


def throttled(step_s: float, per_client: float = 0.1) -> ComputeModel:
    def seconds(setup, training):
        return training.steps * step_s * (1 + per_client * training.clients)

    return ComputeModel(summary="a step takes longer on later clients", seconds=seconds)

"""The controller that a configuration names, at its start."""

from __future__ import annotations

from fedmpi.config.schema import Config
from fedmpi.k_control import CONTROLLERS, Controller, Setup, State
from fedmpi.numerics.streams import Purpose, generator
from fedmpi.sparsification import fixed_k


def start_k_control(config: Config, dimension: int) -> tuple[Controller, State]:
    """The controller of k and its first state, which holds the k of round 0 (dense: all D parameters).

    A run that is resumed keeps the horizon that it began with.
    """
    control = config.k_control
    controller = CONTROLLERS[control.method]
    if control.method == "fixed":
        setup = Setup(k_min=1, k_max=dimension, k_initial=fixed_k(config.sparsification, dimension))
    else:
        setup = Setup.for_dimension(
            dimension,
            control.k_initial_fraction,
            control.k_min_fraction,
            control.horizon_rounds or config.experiment.rounds,
            control.arms,
        )
    draw = generator(config.experiment.seed, Purpose.K_CONTROL, -1).random
    return controller, controller.init(setup, draw)

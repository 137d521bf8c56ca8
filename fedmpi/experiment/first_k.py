"""The first state of a controller, from the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedmpi.config.schema import Config
from fedmpi.k_control.interface import Controller, Setup, State
from fedmpi.learning.flat import Layer
from fedmpi.numerics.streams import Purpose, generator


def start(
    config: Config, controller: Controller, dimension: int, fixed_k: int, layers: Sequence[Layer] = ()
) -> State:
    """The state of round 0 for a model of ``dimension`` parameters, where ``fixed`` takes ``fixed_k``.

    ``layers`` are those of the model. A run that is resumed keeps the horizon that it began with.
    """
    control = config.k_control
    if control.method == "fixed":
        setup = Setup(k_min=1, k_max=dimension, k_initial=fixed_k)
    else:
        setup = Setup.for_dimension(
            dimension,
            control.k_initial_fraction,
            control.k_min_fraction,
            control.horizon_rounds or config.experiment.rounds,
            control.arms,
        )
    setup = replace(
        setup,
        layer_sizes=tuple(layer.stop - layer.start for layer in layers),
        layer_compressed=tuple(len(layer.shape) > 1 for layer in layers),
    )
    return controller.init(setup, generator(config.experiment.seed, Purpose.K_CONTROL, -1).random)

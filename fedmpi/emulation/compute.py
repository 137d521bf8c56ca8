"""What local training takes on emulated devices: the interface of compute models.

A model is one descriptor: pure functions of the ``costs`` that it prepares once for a fleet, and of a round's
``LocalTraining``. To add one, write a file with a ``ComputeModel``; ``BUILT_IN`` gives it a name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.emulation_schema import ComputeConfig
from fedmpi.emulation.profiles import Device, Devices

FloatArray = NDArray[np.float64]

BUILT_IN = {
    "unit": "fedmpi.emulation.compute_models:UNIT",
    "linear": "fedmpi.emulation.linear:LINEAR",
    "flops": "fedmpi.emulation.flops:FLOPS",
    "measured": "fedmpi.emulation.compute_models:MEASURED",
    "normalized": "fedmpi.emulation.compute_models:NORMALIZED",
}


@dataclass(frozen=True)
class Work:
    """What a model computes for one sample, counted on the model itself (``calibration.work``).

    ``layer_flops`` and ``layer_sizes`` (L,): floating-point operations of the forward pass through each prunable layer,
    input to output, and its parameters; ``other_flops``: those of all else; ``values``: how many values layers read and
    write in it; ``parameters``: D.
    """

    layer_flops: tuple[float, ...]
    layer_sizes: tuple[int, ...]
    other_flops: float
    values: float
    parameters: int

    @property
    def flops(self) -> float:
        """Floating-point operations of the forward pass of a sample while nothing is pruned."""
        return sum(self.layer_flops) + self.other_flops


@dataclass(frozen=True)
class Setup:
    """What does not change during a run: ``[emulation.compute]``, each client's device, the model's name, its batches.

    ``work``: of the model, for a compute model that ``needs_work``; None as long as the model is not built.
    ``relative_speed`` float64 (N,): the speed of each client's processor over that of ``raspberry-pi-4``.
    """

    section: ComputeConfig
    devices: Sequence[Device]
    model_name: str
    batch_size: int
    work: Work | None = None

    @property
    def relative_speed(self) -> FloatArray:
        return np.array(Devices.of(self.devices).each(lambda device: device.relative_speed))


@dataclass(frozen=True)
class LocalTraining:
    """The local training of the n participants of a round.

    ``clients`` int64 (n,); ``steps`` float64 (n,): local steps of each, a step of fewer samples than the batch size
    being that fraction of one; ``active`` float64 (L,): active parameters of each prunable layer, input to output;
    ``density``: what part of all prunable ones that is; ``host_s`` float64 (n,): what training took here, NaN where it
    was not measured.
    """

    clients: NDArray[np.int64]
    steps: FloatArray
    active: FloatArray
    density: float
    host_s: FloatArray

    @classmethod
    def of(
        cls,
        clients: NDArray[np.integer],
        steps: Any,
        active: Any,
        *,
        density: float,
        host_s: Any = np.nan,
    ) -> LocalTraining:
        """From scalars or sequences, where one number stands for all clients."""
        which = np.asarray(clients, dtype=np.int64)
        return cls(
            clients=which,
            steps=np.broadcast_to(np.asarray(steps, dtype=np.float64), which.shape),
            active=np.asarray(active, dtype=np.float64),
            density=density,
            host_s=np.broadcast_to(np.asarray(host_s, dtype=np.float64), which.shape),
        )


def _setup_itself(setup: Setup) -> Setup:
    return setup


@dataclass(frozen=True, kw_only=True)
class ComputeModel:
    """A compute model. ``summary``: one sentence; ``source``: the publication.

    ``costs(setup)``: whatever the functions need of a fleet, prepared once and never changed: arrays, numbers, and
    objects of them, by which a resumed run is compared with the one before; by default the ``Setup`` itself.
    ``seconds(costs, training)``: emulated seconds of local training, float64 (n,).
    ``coefficients(costs, training)``: seconds of one step as constants (n,) and a part for each active parameter of
    each prunable layer (n, L), on which masks are chosen; None: a step takes what it takes, whatever is pruned.
    ``check(costs, L)`` raises EmulationError for a model whose training cannot be timed.
    ``needs_work``: ``Setup.work`` is asked for. ``needs_host_time``: ``training.host_s`` must be measured.
    ``prices_rounds``: a round has a cost model of its own instead of links (``emulation.normalized``).
    """

    summary: str
    source: str = ""
    costs: Callable[[Setup], Any] = _setup_itself
    seconds: Callable[[Any, LocalTraining], FloatArray]
    coefficients: Callable[[Any, LocalTraining], tuple[FloatArray, FloatArray]] | None = None
    check: Callable[[Any, int], None] | None = None
    needs_work: bool = False
    needs_host_time: bool = False
    prices_rounds: bool = False


@dataclass(frozen=True)
class Compute:
    """A compute model with the costs of a fleet, all of whose devices train ``speed`` times faster than it says."""

    model: ComputeModel
    costs: Any
    speed: float = 1.0

    def seconds(self, training: LocalTraining) -> FloatArray:
        """Emulated seconds that each participant trains in a round, float64 (n,)."""
        return self.model.seconds(self.costs, training) / self.speed

    def step_coefficients(self, training: LocalTraining) -> tuple[FloatArray, FloatArray]:
        """Seconds of one step: constants (n,) and coefficients per active parameter of each prunable layer (n, L).

        Raises ValueError for a model without coefficients.
        """
        if self.model.coefficients is None:
            raise ValueError(f"the compute model has no coefficients ({self.model.summary})")
        constant_s, seconds_per_parameter = self.model.coefficients(self.costs, training)
        return constant_s / self.speed, seconds_per_parameter / self.speed

    def check(self, prunable_layers: int) -> None:
        """EmulationError if the training of a model of so many prunable layers cannot be timed."""
        if self.model.check is not None:
            self.model.check(self.costs, prunable_layers)

"""What in a run depends on how long its rounds take: where nothing does, the run can be timed again from its trace.

Nothing here needs torch or MPI.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from fedmpi.config import Config, ConfigError, parts
from fedmpi.config.errors import shown_value
from fedmpi.config.parts import is_reference
from fedmpi.emulation.compute import ComputeModel
from fedmpi.experiment.parts import sketch_of
from fedmpi.experiment.recorded import Recorded
from fedmpi.k_control import Controller
from fedmpi.pruning import Method
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH, MagnitudeSketch


@dataclass(frozen=True)
class Decision:
    """Something in a run that depended on emulated time: the ``key`` that asks for it, and what it did."""

    key: str
    what: str

    def refusal(self) -> ConfigError:
        return ConfigError(
            self.key, self.what, "--approximate, which keeps what was recorded, or a run of its own"
        )


def decisions_by_time(config: Config) -> list[Decision]:
    """What of a run with this configuration depends on how long its rounds take, in the order in which it matters."""
    found = []
    name = config.k_control.method
    if is_reference(name) or controller_of(config).by_time:
        found.append(Decision("k_control.method", f"{shown_value(name)} chose k by the time of rounds"))
    name = config.pruning.method
    if is_reference(name) or pruning_of(config).by_time:
        found.append(Decision("pruning.method", f"{shown_value(name)} chose masks by the time of rounds"))
    federation, availability = config.federation, config.emulation.availability
    if config.pruning.initial.where != "none":
        found.append(
            Decision(
                "pruning.initial.where",
                f"{shown_value(config.pruning.initial.where)}: masks were chosen by the time of rounds",
            )
        )
    if federation.deadline_s < inf:
        found.append(
            Decision("federation.deadline_s", f"{federation.deadline_s:g}: who was late was left out")
        )
    if federation.over_selection:
        what = f"{federation.over_selection:g}: the first arrivals were taken"
        found.append(Decision("federation.over_selection", what))
    if availability.model != "always":
        what = f"{shown_value(availability.model)} said who was available when a round began"
        found.append(Decision("emulation.availability.model", what))
    if availability.dropout_probability:
        what = (
            f"{availability.dropout_probability:g}: participants vanished at a fraction of their round's time"
        )
        found.append(Decision("emulation.availability.dropout_probability", what))
    if config.experiment.stop_at_emulated_s is not None:
        what = f"{config.experiment.stop_at_emulated_s:g}: the run was to end at a time"
        found.append(Decision("experiment.stop_at_emulated_s", what))
    if compute_needs_host_time(config):
        what = f"{shown_value(config.emulation.compute.model)}: training took what it took on the host"
        found.append(Decision("emulation.compute.model", what))
    return found


def controller_of(config: Config) -> Controller:
    """The controller of k, built in."""
    section = config.k_control
    return parts.build("k_control.method", section.method, section.options, Controller)


def recorded_sketch(recorded: Recorded, config: Config) -> MagnitudeSketch:
    """What the messages of a run of ``config`` stated of magnitudes, while nothing was pruned."""
    if is_reference(config.k_control.method):
        return NO_SKETCH
    return sketch_of(config, controller_of(config), int(recorded.attributes["parameters"]))


def pruning_of(config: Config) -> Method:
    """The pruning method, built in."""
    section = config.pruning
    return parts.build("pruning.method", section.method, section.options, Method)


def compute_needs_host_time(config: Config) -> bool:
    """Whether training is timed here, by a built-in compute model."""
    section = config.emulation.compute
    if is_reference(section.model):
        return False
    built = parts.build("emulation.compute.model", section.model, section.options, ComputeModel)
    return built.needs_host_time

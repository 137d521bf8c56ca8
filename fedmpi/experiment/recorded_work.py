"""What a trace says of the work of its model, so that its training can be timed again without the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import Config, ConfigError, parts
from fedmpi.config.emulation_schema import AvailabilityConfig
from fedmpi.config.errors import shown_value
from fedmpi.config.schema import value_of
from fedmpi.emulation.compute import Work
from fedmpi.emulation.devices import Fleet, assign
from fedmpi.pruning.mask import LayerSlice
from fedmpi.trace import TraceError

ATTRIBUTE = "model_work"

GIVEN, TRUSTED = "{key}={name} among the arguments", "--trust {key}"
"""How a caller names code of one's own that a trace may not."""


@dataclass(frozen=True)
class ModelWork:
    """``prunable`` int64 (L,): positions of the prunable layers among all; ``work``: of a sample, None: not counted."""

    prunable: NDArray[np.int64]
    work: Work | None

    @classmethod
    def of(cls, layers: Sequence[LayerSlice], work: Work | None) -> ModelWork:
        """That of a model with these ``layers``."""
        return cls(np.flatnonzero([layer.prunable for layer in layers]), work)

    def to_text(self) -> str:
        """JSON, for the root attribute ATTRIBUTE of a trace; numbers come back bit for bit."""
        work = None if self.work is None else asdict(self.work)
        return json.dumps({"prunable": self.prunable.tolist(), "work": work})

    @classmethod
    def of_attributes(cls, attributes: Mapping[str, Any], path: object) -> ModelWork | None:
        """What ``to_text`` wrote; None: the trace is of a fedmpi that did not. TraceError where it is damaged."""
        text = attributes.get(ATTRIBUTE)
        if text is None:
            return None
        try:
            values = json.loads(text)
            prunable, found = np.array(values["prunable"], dtype=np.int64), values["work"]
            if found is None:
                return cls(prunable, None)
            tuples = {name: tuple(found[name]) for name in ("layer_flops", "layer_sizes")}
            return cls(prunable, Work(**{**found, **tuples}))
        except (LookupError, TypeError, ValueError, RecursionError) as error:
            raise TraceError(f"{path}: the attribute {ATTRIBUTE} is damaged ({error})") from None


def fleet_of(config: Config, model: ModelWork | None) -> Fleet:
    """The devices and links of a recorded run, whose participants are known: everybody is available.

    Raises ConfigError or EmulationError for what cannot be emulated or cannot be known from a trace.
    """
    # The recorded one is not even read: the name of a module in a trace is only a name.
    everybody = replace(config.emulation, availability=AvailabilityConfig())
    config = replace(config, emulation=everybody)
    fleet = assign(config, config.experiment.seed, None if model is None else model.work)
    compute, key = fleet.compute.model, "emulation.compute.model"
    known = model is not None and (model.work is not None or not compute.needs_work)
    if (compute.needs_work or compute.coefficients is not None) and not known:
        problem = f"found {shown_value(config.emulation.compute.model)}, and the trace does not say what the work of "
        allowed = '"unit" or "normalized", or the trace of a new run'
        raise ConfigError(key, f"{problem}model {config.model.name} is", allowed)
    if model is not None:
        fleet.compute.check(len(model.prunable))
    return fleet


def refuse_foreign(config: Config, keys: Sequence[str], given: Sequence[str] = (), how: str = GIVEN) -> None:
    """ConfigError for a part among ``keys`` that is code of one's own, which a trace is not trusted to name.

    ``given``: keys that the caller named, who may, and ``how``: GIVEN or TRUSTED.
    """
    for key in keys:
        name = str(value_of(config, key))
        if parts.is_reference(name) and key not in given:
            problem = f"found {shown_value(name)}, code that a trace is not trusted to name"
            raise ConfigError(key, problem, f"{how.format(key=key, name=name)}, or a built-in name")

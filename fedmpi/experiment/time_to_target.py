"""The emulated time to an accuracy on other devices and links, from a trace alone and without writing one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import nan

import numpy as np

from fedmpi.config import Config, ConfigError
from fedmpi.experiment.recorded import Recorded
from fedmpi.experiment.retiming import Source, charger_of, retimings_of


def rounds_to(recorded: Recorded, accuracy: float) -> int | None:
    """Rows of ``rounds`` up to the first evaluation with at least this test accuracy; None: there was none."""
    reached = recorded.rounds["test_accuracy"] >= accuracy
    return int(reached.argmax()) + 1 if reached.any() else None


def seconds_to(
    source: Source,
    accuracy: float,
    configs: Iterable[Config],
    approximate: bool = False,
    trusted: Sequence[str] = (),
) -> list[float]:
    """Emulated seconds to the first evaluation with at least this accuracy, with the devices and links of each config.

    They are those that a real rerun of ``source`` would take, to the last bit, or with ``approximate`` those of the
    recorded decisions; NaN where a run that is complete did not reach the accuracy. ``trusted``: keys that may name
    code of the user's. Raises ConfigError as
    ``retiming.prepare`` does, and for a run that ended too early to tell.
    """
    rounds = rounds_to(source.recorded, accuracy)
    if rounds is None:
        _refuse_unfinished(source, accuracy)
        return [nan for _ in configs]
    recorded = source.recorded.first(rounds)
    retimings = retimings_of(source, configs, trusted, approximate)
    return [charger_of(retiming, recorded).end_s() for retiming in retimings]


def _refuse_unfinished(source: Source, accuracy: float) -> None:
    path, experiment = source.recorded.path, source.before.experiment
    status = source.recorded.attributes["status"]
    stopped = experiment.stop_at_accuracy is not None and experiment.stop_at_accuracy < accuracy
    if np.isnan(source.recorded.rounds["test_accuracy"]).all():
        problem = f"the model of {path} was never evaluated"
    elif status != "completed":
        problem = f"{path} is {status} and had not reached {accuracy:g}"
    elif stopped:
        problem = f"{path} was to stop at the accuracy {experiment.stop_at_accuracy:g}, before {accuracy:g}"
    else:
        return
    raise ConfigError("--target", problem, "a target that the run reached, or one that is complete")

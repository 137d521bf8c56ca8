"""When a run stops: all rounds are done, a limit is reached, it was asked to stop, or it cannot be recorded."""

from __future__ import annotations

from dataclasses import dataclass

from fedmpi.config.schema import ExperimentConfig
from fedmpi.federation.messages import Action


@dataclass
class Stopping:
    """Whether a run stops at the next boundary between rounds, and why.

    ``reason``: in words, why it has come to its end; "" while it has not. ``preempted``: some rank was signalled to
    stop, and the run may go on later. ``abandoned``: it cannot be recorded any more.
    """

    reason: str = ""
    preempted: bool = False
    abandoned: bool = False

    @property
    def action(self) -> Action:
        """STOP, with a checkpoint unless the run was abandoned; NONE while it goes on."""
        if self.abandoned:
            return Action.STOP
        return Action.STOP | Action.CHECKPOINT if self.preempted or self.reason else Action.NONE

    def preempt_if(self, signalled: bool) -> None:
        """Stop with a checkpoint, if some rank was ``signalled`` to."""
        self.preempted = self.preempted or signalled

    def check_limits(
        self, experiment: ExperimentConfig, test_accuracy: float, emulated_s: float, host_s: float
    ) -> None:
        """Stop if a limit of ``experiment`` is reached; the first that is gives the reason."""
        limits = (
            ("test accuracy", experiment.stop_at_accuracy, test_accuracy, ""),
            ("emulated time", experiment.stop_at_emulated_s, emulated_s, " s"),
            ("host time", experiment.stop_at_host_s, host_s, " s"),
        )
        for what, limit, reached, unit in limits:
            if limit is not None and reached >= limit:
                self.reason = f"{what} reached {limit:g}{unit}"
                return

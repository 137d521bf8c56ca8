"""What a run says at once, even when it is quiet: rejected updates, and a real-time clock that was not kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fedmpi.emulation.clock import tolerated_overrun_s


class Watch:
    """Counts what went wrong in the rounds of one run, and warns with ``warn`` the first time of each kind.

    ``updates`` and ``rejected`` are counted over the whole run, from those before it was resumed. Since then
    ``late`` of ``times`` a participant of a round got or sent a message too late, at worst by ``late_s`` host seconds.
    """

    def __init__(self, warn: Callable[[str], None], updates: int = 0, rejected: int = 0) -> None:
        self._warn = warn
        self._warned_of_some = self._warned_of_all = False
        self.updates = updates
        self.rejected = rejected
        self.times = 0
        self.late = 0
        self.late_s = 0.0

    def judged(self, round_index: int, not_finite: np.ndarray) -> None:
        """Whose updates in a round were rejected as they are not finite, bool (participants,)."""
        rejected = int(np.count_nonzero(not_finite))
        self.updates += len(not_finite)
        self.rejected += rejected
        if not rejected or self._warned_of_all:
            return
        if rejected == len(not_finite):
            self._warned_of_some = self._warned_of_all = True
            self._warn(
                f"round {round_index}: all {rejected} updates are not finite and were rejected, so the model stays as "
                f"it is; training diverges where training.learning_rate is too large"
            )
        elif not self._warned_of_some:
            self._warned_of_some = True
            self._warn(
                f"round {round_index}: {rejected} of {len(not_finite)} updates are not finite and were rejected; where "
                f"this goes on, training diverges: see status in the trace, and training.learning_rate"
            )

    def timed(
        self,
        where: str,
        what: str,
        round_host_s: ArrayLike,
        overrun_s: np.ndarray,
        unready_s: np.ndarray | None = None,
    ) -> tuple[str, dict[str, Any]]:
        """What an event is to say of moments that were missed, in words and as facts; nothing where none was.

        ``overrun_s`` (n,): host seconds by which each was missed, NaN where that is not measured; ``unready_s`` (n,):
        by how many because training took too long. ``where`` and ``what`` name the round and the n moments in words.
        ``round_host_s`` (n,) or one for all: host seconds that the round's emulated time lasts.
        """
        tolerated_s = tolerated_overrun_s(round_host_s)
        late = overrun_s > tolerated_s
        count = int(np.count_nonzero(late))
        self.times += int(np.count_nonzero(~np.isnan(overrun_s)))
        if not count:
            return "", {}
        worst_s = float(overrun_s[late].max())
        detail = f"{count} of {len(late)} {what} too late, the worst by {worst_s:.3g} s of host time"
        unready = 0 if unready_s is None else int(np.count_nonzero(unready_s > tolerated_s))
        if unready:
            detail += f"; training took too long for {unready} of them"
        if not self.late:
            self._warn(
                f"emulation was not honoured in {where}: {detail}; see overrun_s in the trace, and raise "
                f"emulation.time_scale or use more cores"
            )
        self.late += count
        self.late_s = max(self.late_s, worst_s)
        facts = {"late": count, "of": len(late), "worst_host_s": worst_s, "training_too_long": unready}
        return detail, facts

    def summary(self) -> list[str]:
        """What the end of a run says of the whole of it."""
        lines = []
        if self.rejected:
            lines.append(f"{self.rejected:,} of {self.updates:,} updates were not finite and were rejected")
        if self.late:
            lines.append(
                f"emulation was not honoured {self.late:,} of {self.times:,} times, the worst by {self.late_s:.3g} s "
                f"of host time"
            )
        return lines

"""What a round with fewer entries would have cost (Han, Wang, Leung, ICDCS 2020, section IV)."""

from __future__ import annotations

from math import isfinite


def estimated_cost(
    cost_of_probe_round: float, loss_prev: float, loss: float, loss_probe: float
) -> float | None:
    """tau'(k'): time (s) in which rounds at k' would have lowered the loss as far as the round at k did.

    ``cost_of_probe_round`` (s) is that of one round at k'; the losses are those of w(m - 1), of w(m), and of
    w'(m) that the probe would have given. None where either loss did not fall, or one is not finite.
    """
    fall, fall_probe = loss_prev - loss, loss_prev - loss_probe
    if not (isfinite(fall) and isfinite(fall_probe) and fall > 0 and fall_probe > 0):
        return None
    return cost_of_probe_round * fall / fall_probe

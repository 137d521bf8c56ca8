"""The time of a round as a function of the mask, T(M) = c + sum over prunable layers of n_l t_l.

(Jiang et al., IEEE TNNLS 2022: n_l active parameters of layer l, t_l communication seconds plus local steps times
compute seconds of each.)
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class RoundTime:
    """``constant_s`` is c; ``seconds_per_parameter`` float64 (L,) holds t_l of each prunable layer.

    ``present_s``: what a round takes with the mask under which it ran. It is less than T of that where so much is
    active that steps are made with dense kernels; NaN where it is not known.
    """

    constant_s: float
    seconds_per_parameter: NDArray[np.float64]
    present_s: float = nan

    def seconds(self, active: ArrayLike) -> float:
        """T with ``active`` (L,) parameters in the prunable layers."""
        return self.constant_s + float((self.seconds_per_parameter * np.asarray(active)).sum())


def slowest_client(
    steps: ArrayLike,
    step_constant_s: NDArray[np.float64],
    step_seconds_per_parameter: NDArray[np.float64],
    exchange_constant_s: NDArray[np.float64],
    exchange_seconds_per_parameter: NDArray[np.float64],
    active: ArrayLike,
    compute_s: ArrayLike = nan,
) -> RoundTime:
    """The time of a round of n clients, which is that of the client that takes longest with the present mask.

    A client makes ``steps`` (n,) or a scalar local steps of ``step_constant_s`` (n,) plus
    ``step_seconds_per_parameter`` (n, L) times its ``active`` (L,) parameters. Its messages take
    ``exchange_constant_s`` (n,) whatever the mask (latency, headers, what is not prunable, entries of a
    sparsified exchange), and ``exchange_seconds_per_parameter`` (n,) for every active prunable parameter.
    ``compute_s`` (n,): what its steps took with the present mask, of which ``present_s`` is made.
    Among equals the first client counts. Raises ValueError without clients, or where a time is negative or
    not finite.
    """
    count = np.broadcast_to(np.asarray(steps, dtype=np.float64), step_constant_s.shape)
    constant_s = count * step_constant_s + exchange_constant_s
    per_parameter = count[:, None] * step_seconds_per_parameter + exchange_seconds_per_parameter[:, None]
    if not constant_s.size:
        raise ValueError("a round without clients has no time")
    for name, values in (("constant", constant_s), ("time per parameter", per_parameter)):
        if not (np.isfinite(values) & (values >= 0.0)).all():
            raise ValueError(f"the {name} of a client's round is negative or not finite: {values.tolist()}")
    slowest = int((constant_s + (per_parameter * np.asarray(active)).sum(axis=1)).argmax())
    exchange_s = exchange_constant_s + exchange_seconds_per_parameter * np.asarray(active).sum()
    present_s = float((np.asarray(compute_s) + exchange_s).max())
    return RoundTime(float(constant_s[slowest]), per_parameter[slowest], present_s)

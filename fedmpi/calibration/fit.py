"""The linear time model fitted to measured steps: seconds = constant + sum over layers of coefficient x active.

(Jiang et al., IEEE TNNLS 2022, who fit it to steps of a Raspberry Pi 4.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """``constant_s`` and ``seconds_per_parameter`` (L,), none negative.

    ``errors`` (n,): relative error of the fit at each measured point; ``left_out`` (n,): that of the fit to all
    others.
    """

    constant_s: float
    seconds_per_parameter: FloatArray
    errors: FloatArray
    left_out: FloatArray

    def seconds(self, active: ArrayLike) -> float:
        """The seconds of a step with ``active`` (L,) parameters in the prunable layers."""
        return self.constant_s + float((self.seconds_per_parameter * np.asarray(active)).sum())

    def missed(self, active: ArrayLike, seconds: ArrayLike) -> FloatArray:
        """Relative errors (m,) at ``active`` (m, L) that had no part in the fit, where steps take ``seconds`` (m,)."""
        counts = np.asarray(active, dtype=np.float64)
        found = self.constant_s + (self.seconds_per_parameter * counts).sum(axis=1)
        missed: FloatArray = np.abs(found / np.asarray(seconds, dtype=np.float64) - 1.0)
        return missed

    def crossover(self, sizes: ArrayLike, dense_s: float) -> float:
        """The density, alike in layers of ``sizes`` (L,), at which a step takes as long as one with dense kernels.

        Negative where sparse kernels are slower at any density, above 1 (or inf) where they never are.
        """
        whole = float((self.seconds_per_parameter * np.asarray(sizes)).sum())
        return (
            (dense_s - self.constant_s) / whole if whole else np.copysign(np.inf, dense_s - self.constant_s)
        )


def fit(active: ArrayLike, seconds: ArrayLike) -> Fit:
    """Least squares of relative errors, without negative coefficients.

    ``active`` (n, L): active parameters of each prunable layer at the measured points; ``seconds`` (n,), above 0.
    Raises ValueError for fewer points than coefficients, or other seconds.
    """
    counts, measured = np.asarray(active, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
    if not (np.isfinite(measured) & (measured > 0.0)).all():
        raise ValueError(f"seconds of steps are above 0, found {measured.tolist()}")
    if len(counts) <= counts.shape[1]:
        raise ValueError(f"{len(counts)} points do not tell {counts.shape[1] + 1} coefficients")
    rows = np.column_stack([np.ones(len(counts)), counts])
    coefficients = _solved(rows, measured)
    left_out = np.empty(len(rows))
    for index in range(len(rows)):
        others = np.arange(len(rows)) != index
        left_out[index] = rows[index] @ _solved(rows[others], measured[others]) / measured[index] - 1.0
    errors = rows @ coefficients / measured - 1.0
    return Fit(float(coefficients[0]), coefficients[1:], np.abs(errors), np.abs(left_out))


def _solved(rows: FloatArray, measured: FloatArray) -> FloatArray:
    scale = np.maximum(rows.max(axis=0), 1.0)  # columns of like size: parameters count in millions
    solution: FloatArray = nnls(rows / scale / measured[:, None], np.ones(len(rows)))[0]
    return solution / scale

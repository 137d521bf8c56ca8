"""A device's ``Figures`` fitted to tables of measured steps, and how well tables that were left out are predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from fedmpi.emulation.compute import Work
from fedmpi.emulation.flops import step_cost
from fedmpi.emulation.profiles import Figures, StepCost

FloatArray = NDArray[np.float64]

DENSITIES = (1.0, 0.5, 0.2, 0.1, 0.05)
"""Where tables and figures are compared, alike in all layers; 1: with dense kernels."""


@dataclass(frozen=True)
class Table:
    """The ``cost`` of a step of ``batch_size`` samples of a model that was measured, and the model's ``work``."""

    cost: StepCost
    work: Work
    batch_size: int

    def seconds(self, cost: StepCost, density: float) -> float:
        """A step at ``density`` in all layers by ``cost``; with dense kernels at 1, where that is known."""
        if density == 1.0 and cost.dense_step_s is not None:
            return cost.dense_step_s
        sizes = np.array(self.work.layer_sizes)
        return cost.constant_s + float((np.array(cost.seconds_per_parameter) * sizes).sum()) * density

    def ratios(self, figures: Figures, densities: int = len(DENSITIES)) -> FloatArray:
        """Predicted over measured seconds at the first so many of ``DENSITIES``."""
        predicted = step_cost(figures, self.work, self.batch_size)
        return np.array(
            [self.seconds(predicted, d) / self.seconds(self.cost, d) for d in DENSITIES[:densities]]
        )


def fit_figures(tables: Sequence[Table], densities: int = len(DENSITIES)) -> Figures:
    """The figures with the least squared logarithms of predicted over measured seconds, every table counting alike.

    At the first so many of ``DENSITIES``. Neither figure is negative.
    """
    rows, measured = [], []
    for table in tables:
        overhead = step_cost(Figures(1.0, inf), table.work, table.batch_size)
        flops = step_cost(Figures(0.0, 1.0), table.work, table.batch_size)
        for density in DENSITIES[:densities]:
            rows.append((table.seconds(overhead, density), table.seconds(flops, density)))
            measured.append(table.seconds(table.cost, density))
    matrix, seconds = np.array(rows), np.array(measured)
    scale = np.exp(np.log(matrix / seconds[:, None]).mean(axis=0))  # parts of like size for the solver

    def residuals(parts: FloatArray) -> FloatArray:
        logarithms: FloatArray = np.log(matrix @ (parts / scale) / seconds)
        return logarithms

    found = least_squares(residuals, (0.5, 0.5), bounds=(0.0, inf), xtol=1e-12, ftol=1e-12, gtol=1e-12)
    overhead_s, per_flop_s = found.x / scale
    return Figures(float(overhead_s), float(1.0 / per_flop_s))


def left_out(tables: Mapping[str, Table], densities: int = len(DENSITIES)) -> dict[str, FloatArray]:
    """For each table, its ``ratios`` by the figures fitted to all others."""
    return {
        name: table.ratios(
            fit_figures([other for key, other in tables.items() if key != name], densities), densities
        )
        for name, table in tables.items()
    }


def factor(ratios: FloatArray) -> float:
    """The factor, 1 or more, by which predictions are off: the root mean square of the logarithms of ``ratios``."""
    return float(np.exp(np.sqrt((np.log(ratios) ** 2).mean())))

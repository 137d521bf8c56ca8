"""Evaluation of the global model, spread over all ranks in fixed blocks of the test set."""

from __future__ import annotations

import numpy as np
import torch

from fedmpi.federation.client import ClientHost
from fedmpi.learning.evaluation import block_slices, evaluate_blocks
from fedmpi.mpi.collectives import Ranks
from fedmpi.numerics.streams import Purpose, torch_seed

_SUMS = np.dtype([("block", np.int64), ("loss", np.float64), ("correct", np.float64), ("count", np.float64)])


class Evaluator:
    """Block b of the test set is always evaluated by rank b mod P; sums are taken in block order.

    A model that draws random numbers in evaluation gets the same ones for a block in every round.

    ``x`` (n, ...) and ``y`` (n,) are the whole test set, in memory that the group shares.
    """

    def __init__(self, ranks: Ranks, x: np.ndarray, y: np.ndarray, block_size: int) -> None:
        self.ranks = ranks
        blocks = block_slices(len(y), block_size)
        self._numbers = [np.arange(rank, len(blocks), ranks.size) for rank in range(ranks.size)]
        self._blocks = [
            (torch.from_numpy(x[at]), torch.from_numpy(y[at])) for at in blocks[ranks.rank :: ranks.size]
        ]

    def evaluate(self, host: ClientHost) -> tuple[float, float]:
        """Mean loss and accuracy of the global model on the server; NaN elsewhere."""
        host.load(host.weights)
        mine = self._numbers[self.ranks.rank]
        rows = np.zeros(len(mine), dtype=_SUMS)
        rows["block"] = mine
        if len(mine):
            seeds = []
            if not host.model.known:
                seed = host.config.experiment.seed
                seeds = [torch_seed(seed, Purpose.EVALUATION, client=int(block)) for block in mine]
            sums = evaluate_blocks(host.model, self._blocks, host.config.training.loss, seeds)
            rows["loss"], rows["correct"], rows["count"] = sums.T
        gathered = self.ranks.gather_rows(rows, [len(numbers) for numbers in self._numbers])
        if gathered is None:
            return float("nan"), float("nan")
        ordered = np.sort(gathered, order="block")
        count = ordered["count"].sum()
        return float(ordered["loss"].sum() / count), float(ordered["correct"].sum() / count)

"""Evaluation on every rank: of the global model on the test set, and of several weights on single training samples.

The losses of single samples are those on which k and the size of a model are chosen (Han, Wang, Leung, "Adaptive
gradient sparsification for efficient federated learning: an online learning approach", ICDCS 2020, section IV: one
random sample of each participant's first minibatch).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.federation.client import ClientHost
from fedmpi.federation.messages import LOSSES
from fedmpi.learning.evaluation import block_slices, evaluate_blocks
from fedmpi.mpi.collectives import Ranks
from fedmpi.numerics.streams import Purpose, torch_seed
from fedmpi.pruning.mask import Mask

_SUMS = np.dtype([("block", np.int64), ("loss", np.float64), ("correct", np.float64), ("count", np.float64)])

LossColumn = Literal["previous", "current", "probe", "pruned"]
"""Under which weights a loss was measured: see ``messages.LOSSES``."""


class Evaluator:
    """Block b of the test set is always evaluated by rank b mod P; sums are taken in block order.

    A model that draws random numbers in evaluation gets the same ones for a block in every round.

    ``x`` (n, ...) and ``y`` (n,) are the whole test set, in memory that the group shares.
    """

    def __init__(self, ranks: Ranks, x: NDArray[Any], y: NDArray[np.int64], block_size: int) -> None:
        self.ranks = ranks
        blocks = block_slices(len(y), block_size)
        self._numbers = [np.arange(rank, len(blocks), ranks.size) for rank in range(ranks.size)]
        self._blocks = [
            (torch.from_numpy(x[at]), torch.from_numpy(y[at])) for at in blocks[ranks.rank :: ranks.size]
        ]

    def evaluate(self, host: ClientHost) -> tuple[float, float]:
        """Mean loss and accuracy of the global model on the server; NaN elsewhere."""
        host.load(host.masked.weights)
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


@dataclass(frozen=True)
class Measured:
    """``records``: the LOSSES of all accepted participants; ``tried``: the mask of ``pruned``, None without one."""

    records: NDArray[np.void]
    tried: Mask | None

    def weighted(self, sizes: NDArray[np.int64]) -> tuple[float, float, float, float]:
        """Each of the four losses over them, previous, current, probe and pruned, weighted by their samples.

        ``sizes`` (N,) are all clients' numbers of samples.
        """
        ordered = np.sort(self.records, order="client")
        weights = sizes[ordered["client"]]
        previous, current, probe, pruned = (
            float(np.average(ordered[name], weights=weights))
            for name in ("previous", "current", "probe", "pruned")
        )
        return previous, current, probe, pruned


def sample_losses(
    host: ClientHost,
    clients: Sequence[int],
    samples: Mapping[int, int],
    tried: Iterable[tuple[LossColumn, torch.Tensor]],
) -> NDArray[np.void]:
    """The LOSSES of ``clients``, each on its own one of ``samples``.

    ``tried`` names columns, and gives the weights (D + B,) of each; a vector may be changed for the next. Columns that
    it does not name are zero.
    """
    losses = np.zeros(len(clients), dtype=LOSSES)
    losses["client"] = clients
    if clients:
        for column, vector in tried:
            host.load(vector)
            losses[column] = [host.loss_of_sample(client, samples[client]) for client in clients]
    return losses

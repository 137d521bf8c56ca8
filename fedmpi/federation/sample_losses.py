"""The losses of the participants' probe samples under several weights, on which k and the size of a model are chosen.

Han, Wang, Leung, "Adaptive gradient sparsification for efficient federated learning: an online learning approach",
ICDCS 2020, section IV: one random sample of each participant's first minibatch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from fedmpi.federation.client import ClientHost
from fedmpi.federation.records import LOSSES
from fedmpi.pruning.mask import Mask


@dataclass(frozen=True)
class Measured:
    """``records``: the LOSSES of all accepted participants; ``tried``: the mask of ``pruned``, None without one."""

    records: np.ndarray
    tried: Mask | None


def sample_losses(
    host: ClientHost, clients: list[int], samples: dict[int, int], tried: Iterable[tuple[str, torch.Tensor]]
) -> np.ndarray:
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

"""Evaluation of the global model on each client's own test samples, every client at home on its rank."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import Config
from fedmpi.federation.client import ClientData, ClientHost
from fedmpi.federation.distribution import DataFacts, ServerData, distribute_training
from fedmpi.learning.division import Division
from fedmpi.learning.evaluation import block_slices, evaluate_blocks
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.numerics.streams import Purpose, torch_seed

CLIENT_TEST = np.dtype(
    [("client", np.int64), ("samples", np.int64), ("loss", np.float64), ("accuracy", np.float64)]
)
"""One client: its own test samples, and mean loss and accuracy on them, NaN where it has none."""


def distribute_own_tests(
    config: Config,
    ranks: Ranks,
    memory: GroupMemory,
    placement: Placement,
    facts: DataFacts,
    data: ServerData | None,
) -> ClientData:
    """Hand every group the own test samples of its clients, by the way of training samples."""
    held_back = config.data.client_test_fraction > 0
    facts = replace(
        facts,
        sizes=facts.own_test_sizes,
        common=facts.common and held_back,
        train_samples=facts.train_samples if held_back else facts.test_samples,
    )
    if data is not None:
        source = data.dataset
        if not data.held_back:
            source = replace(source, train_x=source.test_x, train_y=source.test_y)
        data = ServerData(source, Division.of([]) if data.own_tests is None else data.own_tests)
    return distribute_training(ranks, memory, placement, facts, data)


class ClientTests:
    """Each rank evaluates the clients that are at home on it, one after the other, in blocks of at most ``block_size``.

    What a client gives depends on its samples and the model alone. A model that draws random numbers in evaluation
    gets the same ones for a block of a client in every round.
    """

    def __init__(self, ranks: Ranks, placement: Placement, data: ClientData, block_size: int) -> None:
        self._ranks = ranks
        self._clients = placement.blocks
        self._data = data
        self._block_size = block_size

    def evaluate(self, host: ClientHost) -> NDArray[np.void] | None:
        """CLIENT_TEST rows (N,) of the global model, in client order, on the server; None elsewhere; collective."""
        host.load(host.masked.weights)
        mine = self._clients[self._ranks.rank]
        rows = np.zeros(len(mine), dtype=CLIENT_TEST)
        for position, client in enumerate(mine):
            rows[position] = (client, *self._evaluate(host, client))
        gathered = self._ranks.gather_rows(rows, [len(clients) for clients in self._clients])
        return None if gathered is None else np.sort(gathered, order="client")

    def _evaluate(self, host: ClientHost, client: int) -> tuple[int, float, float]:
        x, y = self._data.of(client)
        if not len(y):
            return 0, float("nan"), float("nan")
        device = host.model.vector.device
        at = block_slices(len(y), self._block_size)
        blocks = [(x[block].to(device), y[block].to(device)) for block in at]
        seeds: list[int] = []
        if not host.model.known:
            seed = host.config.experiment.seed
            seeds = [
                torch_seed(seed, Purpose.CLIENT_EVALUATION, number, client) for number in range(len(blocks))
            ]
        loss, correct, count = evaluate_blocks(host.model, blocks, host.config.training.loss, seeds).sum(
            axis=0
        )
        return int(count), loss / count, correct / count

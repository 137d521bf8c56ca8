"""The memory of ranks, by hand."""

import numpy as np

from fedmpi.cli import memory_footprint
from fedmpi.config import loads
from fedmpi.experiment.parts import resolve
from fedmpi.federation.distribution import ServerData
from fedmpi.learning.activations import Activations
from fedmpi.learning.datasets import Dataset
from fedmpi.learning.division import Division
from fedmpi.learning.minibatches import CONVERTED_BYTES


def test_memory_grows_with_what_a_rank_holds(small_model):
    model = small_model
    x, y = np.zeros((1000, 1, 32, 32), np.float32), np.zeros(1000, np.int64)
    dataset = Dataset(x, y, None, x[:10], y[:10], classes=2)
    data = ServerData(dataset, Division.of(np.split(np.arange(1000), 10)))
    layers = Activations(kept=1e4, largest=3e4)
    dense = loads("", ["clients.count=10", "training.batch_size=7"])
    sparse = loads("", ["clients.count=10", "sparsification.method=fab", "sparsification.k=1"])
    fedavg = loads("", ["clients.count=10", "sparsification.method=fedavg", "sparsification.k_fraction=0.1"])
    blocks = [range(0), range(3), range(3, 4), range(4, 10)]

    def memory(config, rank, blocks=blocks):
        return memory_footprint.memory_bytes(resolve(config), model, data, layers, blocks, rank)

    one_client, sample = 100 * (4096 + 8), 4096 + 8
    parameters, vector = 4 * model.parameter_count, 4 * model.vector.numel()
    assert memory(sparse, 1) - memory(sparse, 2) == 2 * (one_client + parameters)
    assert memory(dense, 1) - memory(dense, 2) == 2 * one_client
    assert memory(fedavg, 1) - memory(fedavg, 2) == 2 * (one_client + vector)
    # three ranks train ten clients: four updates at most, in two steps' gradients and 7 converted samples
    test, shared = 10 * sample, 2 * vector + 2 * vector + vector // 4
    of_training = 2 * parameters + 4 * vector + 7 * 4096
    expected = (
        memory_footprint.libraries_bytes(4)[0]
        + test // 4
        + one_client
        + shared
        + of_training
        + 2 * 10 * 30_000
    )
    assert memory(dense, 2) == expected
    whole = 5 * 2**20 + 2 * 1000 * sample + 2 * test + 10 * memory_footprint.PER_CLIENT_BYTES
    assert memory(dense, 0) == memory_footprint.libraries_bytes(4)[0] + whole + shared + 10 * 30_000
    more_kept = Activations(kept=1e6, largest=3e4)
    assert memory_footprint.memory_bytes(
        resolve(dense), model, data, more_kept, blocks, 2
    ) == expected + 2 * (7 * 10**6 - 10 * 30_000)
    on_disk = loads(
        "", ["clients.count=10", "clients.state=disk", "sparsification.method=fab", "sparsification.k=1"]
    )
    assert memory(sparse, 1) - memory(on_disk, 1) == 3 * parameters
    twice = ServerData(dataset, Division.of([np.arange(n, n + 400) for n in range(0, 600, 60)]))
    shared_once = memory_footprint.memory_bytes(resolve(dense), model, twice, layers, blocks, 3)
    assert shared_once - memory(dense, 3) == 400 * sample + 6 * 400 * 8
    prunefl = loads("", ["clients.count=10", "training.batch_size=7", "pruning.method=prunefl"])
    # four updates at most again, one client of its own, and sums in int64 and float64
    assert memory(prunefl, 2) - memory(dense, 2) == (4 + 1 + 6) * parameters + parameters // 4
    assert memory(prunefl, 0) - memory(dense, 0) == 6 * parameters + parameters // 4
    with_fab = [
        "clients.count=10",
        "sparsification.method=fab",
        "sparsification.k=1",
        "pruning.method=prunefl",
    ]
    received, sketch = (
        loads("", [*with_fab, f"pruning.importance={form}"]) for form in ("received", "sketch")
    )
    # a message on its way; the server's sums in float64; of a sketch what the client keeps besides
    assert memory(received, 2) - memory(sparse, 2) == 2 * parameters
    assert memory(received, 0) - memory(sparse, 0) == (2 + 7) * parameters
    assert memory(sketch, 2) - memory(sparse, 2) == (2 + 1) * parameters
    assert memory(sketch, 0) - memory(sparse, 0) == 7 * parameters
    steps = loads("", ["clients.count=10", "training.batch_size=7", "training.local_steps=1000"])
    assert memory(steps, 2) - memory(dense, 2) == CONVERTED_BYTES - 7 * 4096


def test_memory_of_the_server_has_the_state_of_the_aggregator_and_the_updates_that_it_needs(small_model):
    model = small_model
    x, y = np.zeros((1000, 1, 32, 32), np.float32), np.zeros(1000, np.int64)
    data = ServerData(
        Dataset(x, y, None, x[:10], y[:10], classes=2), Division.of(np.split(np.arange(1000), 10))
    )
    layers = Activations(kept=1e4, largest=3e4)

    def memory(rank, *overrides):
        config = loads("", [f"federation.aggregator={name}" for name in overrides[:1]] + list(overrides[1:]))
        return memory_footprint.memory_bytes(
            resolve(config), model, data, layers, [range(0), range(10)], rank
        )

    parameters = model.parameter_count
    assert memory(1, "fedadam") == memory(1, "mean")
    assert memory(0, "fedadam") - memory(0, "mean") == 16 * parameters
    assert memory(0, "fedavgm") - memory(0, "mean") == 8 * parameters
    assert memory(0, "trimmed_mean") - memory(0, "mean") == 10 * 4 * parameters
    assert memory(0, "trimmed_mean", "clients.per_round=3") - memory(0, "mean") == 3 * 4 * parameters

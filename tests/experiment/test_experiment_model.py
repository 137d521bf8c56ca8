"""The model of an experiment, and the sizes of the batches on which it is tried."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config import ConfigError, loads
from fedmpi.config.schema import TrainingConfig
from fedmpi.experiment.model import evaluation_batches, make_model, training_batches
from fedmpi.experiment.parts import resolve
from fedmpi.federation.distribution import DataFacts
from fedmpi.learning.evaluation import block_slices
from fedmpi.learning.minibatches import batch_order
from fedmpi.numerics.streams import Purpose, generator


@given(
    samples=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    batch=st.integers(1, 40),
    epochs=st.integers(0, 2),
)
def test_the_sizes_of_training_are_those_of_the_steps(samples: list[int], batch: int, epochs: int) -> None:
    config = loads("", [f"training.batch_size={batch}", f"training.local_epochs={epochs}"])
    training = TrainingConfig(batch_size=batch, local_epochs=epochs)
    expected = set()
    for count in samples:
        _, bounds = batch_order(count, training, generator(0, Purpose.BATCHES))
        expected |= {stop - first for first, stop in bounds}
    assert training_batches(config, samples) == expected


@given(samples=st.integers(1, 600), size=st.integers(1, 300))
def test_the_sizes_of_evaluation_are_those_of_its_blocks(samples: int, size: int) -> None:
    config = loads("", [f"training.evaluation_batch_size={size}"])
    blocks = {block.stop - block.start for block in block_slices(samples, size)}
    assert evaluation_batches(resolve(config), samples) == blocks
    for changes in (["sparsification.method=fab", "k_control.method=ogd_sign"], ["pruning.method=online"]):
        alone = loads("", [f"training.evaluation_batch_size={size}", *changes])
        assert evaluation_batches(resolve(alone), samples) == blocks | {1}


def test_initial_pruning_has_batches_of_its_own() -> None:
    pruning = ["training.batch_size=64", "pruning.initial.where=client", "pruning.initial.client=1"]
    assert training_batches(loads("", pruning), [100, 33, 500]) == {64, 33, 20, 13}
    server = ["training.batch_size=64", "pruning.initial.where=server"]
    assert training_batches(loads("", server), [100, 33, 500]) == {64, 33, 20}


@pytest.fixture
def facts() -> DataFacts:
    return DataFacts(
        (1, 2, 2), 3, sizes=np.array([9, 12]), train_samples=21, test_samples=7, dtype="|u1", common=False
    )


def test_a_model_of_which_nothing_can_be_pruned_is_refused_where_something_should(
    facts: DataFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models_of_vectors.py").write_text(
        "import torch\n"
        "class Scaled(torch.nn.Module):\n"
        "    def __init__(self, shape, classes):\n"
        "        super().__init__()\n"
        "        self.scale = torch.nn.Parameter(torch.ones(classes))\n"
        "    def forward(self, x):\n"
        "        return x.flatten(1)[:, :len(self.scale)] * self.scale\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = ["model.name=models_of_vectors:Scaled", "pruning.target_density=0.5"]
    make_model(resolve(loads("", given)), facts, 1)
    for method in ("feddst", "fedtiny", "online", "prunefl"):
        with pytest.raises(
            ConfigError, match=f'method: found "{method}", and no parameter of model "models_of'
        ):
            make_model(resolve(loads("", [*given, f"pruning.method={method}"])), facts, 1)


def test_a_density_that_biases_alone_reach_is_refused(facts: DataFacts) -> None:
    """Of 4 x 64 + 64 + 64 x 3 + 3 = 515 parameters 67 are never pruned."""
    fedtiny = ["pruning.method=fedtiny", "pruning.target_density=0.13"]
    expected = (
        r"target_density: found 0\.13, and 67 of 515 parameters are never pruned.*; allowed: above 0\.132"
    )
    with pytest.raises(ConfigError, match=expected):
        make_model(resolve(loads("", fedtiny)), facts, 1)
    make_model(resolve(loads("", [*fedtiny[:1], "pruning.target_density=0.133"])), facts, 1)


def test_a_users_model_is_tried(facts: DataFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models_to_try.py").write_text(
        "import numpy as np\n"
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = nn.Linear(4, 3)\n"
        "    def forward(self, x):\n"
        "        print(self.training, len(x))\n"
        "        return self.layer(x.flatten(1))\n"
        "def fine(shape, classes):\n"
        "    return Net()\n"
        "def few(shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(4, classes - 1))\n"
        "def unseeded(shape, classes):\n"
        "    net = Net()\n"
        "    net.layer.bias.data[0] = float(np.random.default_rng().random())\n"
        "    return net\n"
        "def seeded(shape, classes):\n"
        "    net = Net()\n"
        "    net.layer.bias.data[0] = float(np.random.rand())\n"
        "    return net\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)

    def made(factory: str) -> list[float]:
        config = loads(
            "", [f"model.name=models_to_try:{factory}", "training.local_epochs=1", "clients.count=2"]
        )
        return make_model(resolve(config), facts, 1).vector.tolist()

    assert made("fine") == made("fine")
    assert made("seeded") == made("seeded")
    with pytest.raises(ConfigError, match=r"gives torch.float32 outputs of shape \(9, 2\) for a batch of 9"):
        made("few")
    with pytest.raises(ConfigError, match=r"gives layer.bias other values when it is called again"):
        made("unseeded")


def test_a_built_in_model_is_tried_on_the_smallest_batch(facts: DataFacts) -> None:
    overrides = ["model.name=resnet18", "training.batch_size=8", "clients.count=2"]
    assert make_model(resolve(loads("", overrides)), facts, 1).buffer_count == 9600
    with pytest.raises(ConfigError, match='"resnet18" fails in a training step on a batch of 1 of 1 x 2 x 2'):
        make_model(resolve(loads("", [*overrides, "training.local_epochs=1"])), facts, 1)

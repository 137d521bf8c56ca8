"""Models: sizes, initial weights, user factories."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import ModelConfig
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import MODELS, build
from fedmpi.learning.models.local_response import LocalResponseNorm

FEMNIST = ((1, 28, 28), 62)


def _build(name: str, seed: int = 0) -> FlatModel:
    return FlatModel(build(ModelConfig(name, hidden=(20, 10)), *FEMNIST, seed))


def _prunable(model: FlatModel) -> int:
    return sum(layer.stop - layer.start for layer in model.layers if layer.prunable)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("logistic", 784 * 62 + 62),
        ("mlp", 784 * 20 + 20 + 20 * 10 + 10 + 10 * 62 + 62),
        ("cnn", 444_062),
        ("conv2", 6_603_710),
    ],
)
def test_number_of_parameters(name: str, parameters: int) -> None:
    assert _build(name).parameter_count == parameters


def test_prunable_parameters_of_conv2() -> None:
    model = _build("conv2")
    assert _prunable(model) == 6_601_504
    assert [layer.name for layer in model.layers if layer.prunable] == [
        "conv1.weight",
        "conv2.weight",
        "fc1.weight",
        "fc2.weight",
    ]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("input_shape", "classes"), [((1, 28, 28), 10), ((3, 32, 32), 10), ((1, 8, 8), 7)])
def test_logits_have_one_column_for_each_class(
    name: str, input_shape: tuple[int, int, int], classes: int
) -> None:
    module = build(ModelConfig(name), input_shape, classes, seed=0)
    assert module(torch.rand(3, *input_shape)).shape == (3, classes)
    assert module.training


@pytest.mark.parametrize("name", MODELS)
def test_initial_weights_hang_on_the_seed_alone(name: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = _build(name, seed=4).vector
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(_build(name, seed=4).vector, first)
    assert not torch.equal(_build(name, seed=5).vector, first)


def test_initial_weights_of_cnn() -> None:
    module = _build("cnn").module
    weight = module.get_parameter("fc1.weight").detach()
    assert weight.abs().max() <= 0.2
    # the standard deviation of a normal variable truncated at two of its own
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    mass = math.erf(2 / math.sqrt(2))
    assert weight.std().item() == pytest.approx(0.1 * math.sqrt(1 - 4 * density / mass), rel=0.01)
    for name in ("conv1", "conv2", "fc1", "fc2"):
        assert torch.equal(
            module.get_parameter(f"{name}.bias"), torch.full_like(module.get_parameter(f"{name}.bias"), 0.1)
        )


def test_initial_weights_of_conv2() -> None:
    module = _build("conv2").module
    for name, fan_in, fan_out in (("fc1", 3136, 2048), ("fc2", 2048, 62)):
        weight = module.get_parameter(f"{name}.weight").detach()
        bound = math.sqrt(2) * math.sqrt(3 / fan_out)
        assert 0.99 * bound < weight.abs().max().item() <= bound * (1 + 1e-6)
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert module.get_parameter(f"{name}.bias").abs().max().item() <= 1 / math.sqrt(fan_in)
    conv = module.get_parameter("conv2.weight").detach()
    assert 0.99 / math.sqrt(800) < conv.abs().max().item() <= 1 / math.sqrt(800) * (1 + 1e-6)


@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_local_response_norm_equals_torchs(beta: float) -> None:
    ours = LocalResponseNorm(channels=32, depth_radius=4, bias=1.5, alpha=0.3, beta=beta)
    torchs = nn.LocalResponseNorm(9, alpha=0.3 * 9, beta=beta, k=1.5)
    x = torch.randn(2, 32, 5, 6, requires_grad=True)
    upstream = torch.randn(2, 32, 5, 6)
    found, expected = ours(x), torchs(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, x, upstream), torch.autograd.grad(expected, x, upstream)
    )


@pytest.mark.parametrize("name", ["cnn", "conv2"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_order_in_memory_does_not_change_the_function(name: str, channels: int) -> None:
    module = build(ModelConfig(name), (channels, 12, 8), 10, seed=0)
    x = torch.rand(5, channels, 12, 8)
    children = dict(module.named_children())
    turned = children.pop("channels_last")(x)
    assert torch.equal(turned, x)
    assert turned.stride() == (channels * 96, 1, channels * 8, channels)
    torch.testing.assert_close(nn.Sequential(*children.values())(x), module(x))
    assert children["conv1"](turned).is_contiguous(memory_format=torch.channels_last)


def test_local_response_norm_by_hand() -> None:
    norm = LocalResponseNorm(channels=4, depth_radius=1, bias=1.0, alpha=1.0, beta=0.75)
    found = norm(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)).flatten().tolist()
    sums = [1 + 4, 1 + 4 + 9, 4 + 9 + 16, 9 + 16]
    assert found == pytest.approx([x / (1 + s) ** 0.75 for x, s in zip((1, 2, 3, 4), sums, strict=True)])


def test_images_too_small_for_pooling_are_refused() -> None:
    for name in ("cnn", "conv2"):
        with pytest.raises(ConfigError, match="3 x 28"):
            build(ModelConfig(name), (1, 3, 28), 10, seed=0)


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_own_models.py").write_text(
        "import math\n"
        "from torch import nn\n"
        "def small(input_shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))\n"
        "def wrong(input_shape, classes):\n"
        "    return 3\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "users_own_models"


def test_a_users_factory_is_called_under_the_seed(user_module: str) -> None:
    state = torch.get_rng_state()
    config = ModelConfig(f"{user_module}:small")
    first = FlatModel(build(config, (1, 2, 3), 5, seed=1))
    assert first.parameter_count == 6 * 5 + 5
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(FlatModel(build(config, (1, 2, 3), 5, seed=1)).vector, first.vector)
    assert not torch.equal(FlatModel(build(config, (1, 2, 3), 5, seed=2)).vector, first.vector)


def test_factories_that_cannot_be_used_are_refused(user_module: str) -> None:
    for name, message in (
        (f"{user_module}:wrong", "gave a int"),
        (f"{user_module}:missing", "no function 'missing'"),
        ("no_such_module_here:factory", "cannot be imported"),
        (":factory", "names no module"),
        ("resnet", "there is no model 'resnet'.*allowed: mlp, logistic, cnn, conv2, or module:factory"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(ModelConfig(name), (1, 2, 3), 5, seed=1)

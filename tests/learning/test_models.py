"""Models: sizes, initial weights, user factories."""

import math
import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import ModelConfig, TrainingConfig
from fedmpi.emulation.catalogue import device
from fedmpi.emulation.profiles import MEASURED_DEVICE
from fedmpi.learning.evaluation import evaluate_blocks
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import MODELS, build, build_flat
from fedmpi.learning.models.local_response import LocalResponseNorm
from fedmpi.learning.training import LocalTask, train

FEMNIST = ((1, 28, 28), 62)
EXPERIMENTS = {
    "conv2": ("conv2_femnist", *FEMNIST),
    "vgg11": ("vgg11_cifar10", (3, 32, 32), 10),
    "resnet18": ("resnet18_imagenet100", (3, 168, 168), 100),
    "conv4": ("conv4_celeba", (3, 84, 84), 2),
}
"""PruneFL's models: the name of their measured costs, and what they are trained on."""

DIVIDING_BY_32 = ("vgg11",)


def _build(name: str, seed: int = 0) -> FlatModel:
    shape = (1, 32, 32) if name in DIVIDING_BY_32 else (1, 28, 28)
    return FlatModel(build(ModelConfig(name, hidden=(20, 10)), shape, 62, seed))


def _of_experiment(name: str) -> FlatModel:
    _, shape, classes = EXPERIMENTS[name]
    return FlatModel(build(ModelConfig(name), shape, classes, seed=0))


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
    assert _prunable(_build("conv2")) == 6_601_504


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("logistic", "flatten fc1"),
        ("mlp", "flatten fc1 relu1 fc2 relu2 fc3"),
        (
            "cnn",
            "channels_last conv1 pool1 relu1 norm1 conv2 relu2 norm2 pool2 flatten fc1 relu3 fc2",
        ),
        ("conv2", "channels_last conv1 pool1 relu1 conv2 pool2 relu2 flatten fc1 relu3 fc2"),
        (
            "conv4",
            "channels_last conv1 norm1 pool1 relu1 conv2 norm2 pool2 relu2 conv3 norm3 pool3 relu3 "
            "conv4 norm4 pool4 relu4 flatten fc",
        ),
        (
            "vgg11",
            "channels_last conv1_1 pool1 relu1_1 conv2_1 pool2 relu2_1 conv3_1 relu3_1 conv3_2 pool3 relu3_2 "
            "conv4_1 relu4_1 conv4_2 pool4 relu4_2 conv5_1 relu5_1 conv5_2 pool5 relu5_2 "
            "flatten fc1 relu6 fc2 relu7 fc3",
        ),
    ],
)
def test_layers_one_after_the_other(name: str, layers: str) -> None:
    """The last is linear, without a ReLU. Traces and exported models name prunable layers so."""
    model, names = _build(name), layers.split()
    assert [child for child, _ in model.module.named_children()] == names
    prunable = [f"{child}.weight" for child in names if child.startswith(("conv", "fc"))]
    assert [layer.name for layer in model.layers if layer.prunable] == prunable


def test_number_of_parameters_of_vgg11_by_formula() -> None:
    widths = (3, 64, 128, 256, 256, 512, 512, 512, 512)
    convolutions = sum(9 * before * after + after for before, after in pairwise(widths))
    assert convolutions + 2 * (512 * 512 + 512) + 512 * 10 + 10 == 9_750_922
    model = _of_experiment("vgg11")
    assert (model.parameter_count, model.buffer_count) == (9_750_922, 0)


def test_number_of_parameters_of_conv4_by_formula() -> None:
    model = _of_experiment("conv4")
    convolutions = 9 * 3 * 32 + 3 * 9 * 32 * 32 + 4 * 32
    assert model.parameter_count == convolutions + 4 * 2 * 32 + 1152 * 2 + 2 == 31_202
    assert model.buffer_count == 4 * 2 * 32


def test_number_of_parameters_of_resnet18_by_formula() -> None:
    model = _of_experiment("resnet18")
    convolutions, channels = 49 * 3 * 64, 64
    for width in (64, 128, 256, 512):
        projection = channels * width if channels != width else 0
        convolutions += 9 * channels * width + 3 * 9 * width * width + projection
        channels = width
    normalised = 64 + 4 * (64 + 128 + 256 + 512) + (128 + 256 + 512)
    assert model.parameter_count == convolutions + 2 * normalised + 512 * 100 + 100 == 11_227_812
    assert model.buffer_count == 2 * normalised == 9_600


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_prunable_layer_has_its_measured_cost(name: str, golden_dir: Path) -> None:
    table = tomllib.loads((golden_dir / "prunefl_profiles.toml").read_text(encoding="utf-8"))
    prunable = [layer for layer in _of_experiment(name).layers if layer.prunable]
    assert len(prunable) == len(table[EXPERIMENTS[name][0]]["compute_seconds_per_parameter"])
    assert len(prunable) == len(device(MEASURED_DEVICE).models[name].seconds_per_parameter)


def test_prunable_layers_of_resnet18_are_in_the_order_of_computation() -> None:
    model = _of_experiment("resnet18")
    names = [layer.name for layer in model.layers if layer.prunable]
    blocks = [f"block{stage}_{number}" for stage in (1, 2, 3, 4) for number in (1, 2)]
    inner = [f"{block}.conv{number}.weight" for block in blocks for number in (1, 2)]
    assert names == ["conv1.weight", *inner, "fc.weight"]
    projections = [layer for layer in model.layers if layer.shape[2:] == (1, 1)]
    assert len(projections) == 3
    assert not any(layer.prunable for layer in projections)


def test_vgg11_prunes_its_convolutions_first() -> None:
    dimensions = [len(layer.shape) for layer in _of_experiment("vgg11").layers if layer.prunable]
    assert dimensions == [4] * 8 + [2] * 3


def test_resnet18_halves_images_five_times() -> None:
    sides, x = {}, torch.zeros(1, 3, 168, 168)
    for name, layer in _of_experiment("resnet18").module.eval().named_children():
        x = layer(x)
        sides[name] = x.shape[-1]
    names = ("conv1", "pool1", *(f"block{stage}_{number}" for stage in (1, 2, 3, 4) for number in (1, 2)))
    assert [sides[name] for name in names] == [84, 42, 42, 42, 21, 21, 11, 11, 6, 6]


@pytest.mark.parametrize("name", ["vgg11", "conv4", "resnet18"])
def test_the_gradient_is_the_slope_of_the_loss(name: str) -> None:
    model = FlatModel(build(ModelConfig(name), (3, 32, 32), 4, seed=0))
    start = model.vector.clone()
    draw = np.random.default_rng(0)
    x, y = torch.from_numpy(draw.random((8, 3, 32, 32), dtype=np.float32)), torch.arange(8) % 4
    gradient = torch.empty(model.parameter_count)
    result = train(
        model, start, (x, y), LocalTask(TrainingConfig(batch_size=8), 0.1, draw, direction_sum=gradient)
    )
    assert torch.isfinite(gradient).all()
    assert all(gradient[layer.start : layer.stop].any() for layer in model.layers)

    norm = gradient.norm().item()
    step = 0.005 / norm  # which changes the loss by about 0.005
    losses = []
    for moved in (-step, 0.0, step):
        model.load(start[: model.parameter_count].add(gradient, alpha=moved / norm))
        with torch.no_grad():
            losses.append(torch.nn.functional.cross_entropy(model.module(x), y).item())
    assert losses[1] == pytest.approx(result.loss, rel=1e-4)
    assert (losses[2] - losses[0]) / (2 * step) == pytest.approx(norm, rel=0.05)


@pytest.mark.parametrize("name", ["conv4", "resnet18"])
def test_batch_norm_statistics_lie_in_the_vector(name: str) -> None:
    model = FlatModel(build(ModelConfig(name), (3, 32, 32), 4, seed=0))
    start = model.vector.clone()
    x, y = torch.rand(8, 3, 32, 32), torch.arange(8) % 4
    fresh = evaluate_blocks(model, [(x, y)], "cross_entropy")
    train(model, start, (x, y), LocalTask(TrainingConfig(batch_size=8), 0.1, np.random.default_rng(0)))
    after = evaluate_blocks(model, [(x, y)], "cross_entropy")
    statistics = model.vector[model.parameter_count :]
    assert not torch.equal(statistics, start[model.parameter_count :])
    other = FlatModel(build(ModelConfig(name), (3, 32, 32), 4, seed=5))
    other.load(model.vector)
    assert np.array_equal(evaluate_blocks(other, [(x, y)], "cross_entropy"), after)
    other.load(start)
    assert np.array_equal(evaluate_blocks(other, [(x, y)], "cross_entropy"), fresh)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("input_shape", "classes"), [((1, 28, 28), 10), ((3, 32, 32), 10), ((1, 8, 8), 7)])
def test_logits_have_one_column_for_each_class(
    name: str, input_shape: tuple[int, int, int], classes: int
) -> None:
    if name in DIVIDING_BY_32 and input_shape[1] < 32:
        pytest.skip(f"{name} halves images five times")
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


def test_initial_weights_of_vgg11() -> None:
    module = _of_experiment("vgg11").module
    for name, slope, fan, fan_in in (
        ("fc1", 0.0, 512, 512),
        ("fc2", 0.0, 512, 512),
        ("fc3", 1.5, 10, 512),
    ):
        weight = module.get_parameter(f"{name}.weight").detach()
        bound = math.sqrt(2 / (1 + slope**2)) * math.sqrt(3 / fan)
        assert 0.99 * bound < weight.abs().max().item() <= bound * (1 + 1e-6)
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert module.get_parameter(f"{name}.bias").abs().max().item() <= 1 / math.sqrt(fan_in)
    conv = module.get_parameter("conv5_2.weight").detach()
    assert 0.99 / math.sqrt(4608) < conv.abs().max().item() <= 1 / math.sqrt(4608) * (1 + 1e-6)


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


@pytest.mark.parametrize("name", ["cnn", *EXPERIMENTS])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_order_in_memory_does_not_change_the_function(name: str, channels: int) -> None:
    module = build(ModelConfig(name), (channels, 36, 32), 10, seed=0)
    x = torch.rand(5, channels, 36, 32)
    children = dict(module.named_children())
    turned = children.pop("channels_last")(x)
    assert torch.equal(turned, x)
    assert turned.stride() == (channels * 36 * 32, 1, channels * 32, channels)
    torch.testing.assert_close(nn.Sequential(*children.values())(x), module(x), rtol=1e-4, atol=1e-4)
    first = next(child for child in children.values() if isinstance(child, nn.Conv2d))
    assert first(turned).is_contiguous(memory_format=torch.channels_last)


def test_local_response_norm_by_hand() -> None:
    norm = LocalResponseNorm(channels=4, depth_radius=1, bias=1.0, alpha=1.0, beta=0.75)
    found = norm(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)).flatten().tolist()
    sums = [1 + 4, 1 + 4 + 9, 4 + 9 + 16, 9 + 16]
    assert found == pytest.approx([x / (1 + s) ** 0.75 for x, s in zip((1, 2, 3, 4), sums, strict=True)])


def test_images_too_small_for_pooling_are_refused() -> None:
    for name in ("cnn", "conv2"):
        with pytest.raises(ConfigError, match="3 x 28"):
            build(ModelConfig(name), (1, 3, 28), 10, seed=0)
    with pytest.raises(ConfigError, match="vgg11 got images of 31 x 40; allowed: at least 32 x 32 pixels"):
        build(ModelConfig("vgg11"), (3, 31, 40), 10, seed=0)
    with pytest.raises(ConfigError, match="conv4 got images of 3 x 9; allowed: at least 4 x 4 pixels"):
        build(ModelConfig("conv4"), (3, 3, 9), 10, seed=0)


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "users_own_models.py").write_text(
        "import math\n"
        "from torch import nn\n"
        "def small(input_shape, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))\n"
        "def leaves(input_shape, classes):\n"
        "    raise SystemExit(3)\n"
        "def odd(input_shape):\n"
        "    pass\n"
        "def shared(input_shape, classes):\n"
        "    layer = nn.Linear(2, 2)\n"
        "    return nn.Sequential(layer, nn.ModuleList([layer]))\n"
        "def broken(input_shape, classes):\n"
        "    return [][classes]\n"
        "def wrong(input_shape, classes):\n"
        "    return 3\n",
        encoding="utf-8",
    )
    (tmp_path / "users_broken_module.py").write_text("1 / 0\n", encoding="utf-8")
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
        (f"{user_module}:missing", "has no 'missing'"),
        (f"{user_module}:leaves", r"cannot be called .*: SystemExit: 3 \(users_own_models.py, line 6\)"),
        (f"{user_module}:odd", "cannot be called .*: TypeError: .* takes 1 positional argument"),
        (f"{user_module}:broken", r"IndexError: list index out of range \(users_own_models.py, line 13\)"),
        ("users_broken_module:factory", "cannot be imported: ZeroDivisionError: "),
        ("no_such_module_here:factory", "cannot be imported"),
        (":factory", "or module:attribute"),
        ("resnet", 'found "resnet"; did you mean resnet18\\? allowed: mlp, .*resnet18, or module:attribute'),
    ):
        with pytest.raises(ConfigError, match=message):
            build(ModelConfig(name), (1, 2, 3), 5, seed=1)


def test_a_model_that_has_no_place_in_a_vector_is_refused(user_module: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"name: \"users_own_models:shared\": [\w.]+ and [\w.]+ of the model share one parameter",
    ):
        build_flat(ModelConfig(f"{user_module}:shared"), (1, 2, 3), 5, seed=1)


def test_a_model_larger_than_memory_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"model: mlp has D = 1152929201194532869 parameters; allowed: at most"
    ):
        build(ModelConfig("mlp", (2**40, 2**20)), (1, 2, 3), 5, seed=1)

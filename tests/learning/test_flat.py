"""Flat models."""

import pytest
import torch
from torch import nn

from fedmpi.learning.flat import FlatModel


def _batch_norm_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 36, 4))


def test_parameters_come_first_then_float_buffers() -> None:
    module = _batch_norm_net()
    expected = torch.cat([p.detach().flatten().clone() for p in module.parameters()])
    model = FlatModel(module)
    assert model.parameter_count == expected.numel() == 27 + 3 + 3 + 3 + 3 * 36 * 4 + 4
    assert model.buffer_count == 6
    assert torch.equal(model.vector[: model.parameter_count], expected)
    assert torch.equal(model.vector[model.parameter_count :], torch.tensor([0.0, 0, 0, 1, 1, 1]))


def test_module_and_vector_are_one_memory() -> None:
    module = _batch_norm_net()
    model = FlatModel(module)
    model.vector.zero_()
    assert all(not p.detach().any() for p in module.parameters())
    assert not module.get_buffer("1.running_var").any()
    module.get_buffer("1.running_mean").fill_(2.0)
    with torch.no_grad():
        module.get_parameter("3.bias").fill_(3.0)
    assert model.vector[model.parameter_count : model.parameter_count + 3].tolist() == [2.0] * 3
    assert model.vector[model.parameter_count - 4 : model.parameter_count].tolist() == [3.0] * 4


def test_a_forward_pass_writes_its_statistics_into_the_vector() -> None:
    model = FlatModel(_batch_norm_net())
    before = model.vector[model.parameter_count :].clone()
    model.module(torch.rand(5, 1, 8, 8))
    assert not torch.equal(model.vector[model.parameter_count :], before)
    assert model.module.get_buffer("1.num_batches_tracked").item() == 1


def test_vector_is_aligned() -> None:
    for size in (1, 7, 1000):
        assert FlatModel(nn.Linear(size, 3)).vector.data_ptr() % 64 == 0


def test_layers_name_every_parameter_and_its_slice() -> None:
    model = FlatModel(_batch_norm_net())
    assert [layer.name for layer in model.layers] == [n for n, _ in model.module.named_parameters()]
    assert [layer.prunable for layer in model.layers] == [True, False, False, False, True, False]
    assert model.layers[0].start == 0
    assert model.layers[-1].stop == model.parameter_count
    for (_, parameter), layer, view in zip(
        model.module.named_parameters(), model.layers, model.views, strict=True
    ):
        assert layer.shape == tuple(parameter.shape)
        assert torch.equal(model.vector[layer.start : layer.stop].view(layer.shape), parameter)
        assert view.data_ptr() == parameter.data_ptr()


def test_a_marked_module_is_not_prunable() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 2, 3))
    module[0].prunable = False  # type: ignore[assignment]
    assert [layer.prunable for layer in FlatModel(module).layers] == [False, False, True, False]


def test_gradients_flow_to_the_views() -> None:
    model = FlatModel(nn.Linear(3, 2))
    gradients = torch.autograd.grad(model.module(torch.ones(1, 3)).sum(), model.parameters)
    assert torch.equal(gradients[0], torch.ones(2, 3))
    assert torch.equal(gradients[1], torch.ones(2))


def test_load_takes_all_or_the_parameters_alone() -> None:
    model = FlatModel(_batch_norm_net())
    total = model.vector.numel()
    model.load(torch.full((total,), 5.0))
    assert torch.equal(model.vector, torch.full((total,), 5.0))
    model.load(torch.full((model.parameter_count,), 6.0))
    assert model.vector[model.parameter_count - 1] == 6.0
    assert model.vector[model.parameter_count] == 5.0
    with pytest.raises(ValueError, match=f"{total - 1} entries .* {model.parameter_count} parameters"):
        model.load(torch.zeros(total - 1))


def test_frozen_parameters_and_helper_buffers_stay_outside() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    module[0].weight.requires_grad_(False)
    module.register_buffer("table", torch.ones(9), persistent=False)
    model = FlatModel(module)
    assert model.parameter_count == 3 + 12 + 4
    assert model.buffer_count == 0


def test_shared_parameters_are_refused() -> None:
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    with pytest.raises(ValueError, match=r"1\.weight and 0\.weight of the model share"):
        FlatModel(nn.Sequential(first, second))


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"1\.weight of the model is torch\.float64"):
        FlatModel(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()))
    with pytest.raises(ValueError, match=r"weight of the model is torch\.bfloat16"):
        FlatModel(nn.Linear(2, 2).bfloat16())


def test_a_model_without_values_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^weight of the model is on the meta device, where it has no values$"
    ):
        FlatModel(nn.Linear(2, 2, device="meta"))


def test_a_model_without_parameters_is_refused() -> None:
    with pytest.raises(ValueError, match="no trainable parameters"):
        FlatModel(nn.ReLU())


def test_cumulative_batch_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="1 is batch norm with momentum=None"):
        FlatModel(nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, momentum=None)))


class _Users(nn.Linear):
    """Others' code: nothing is known of what it does."""


@pytest.mark.parametrize(
    ("module", "draws"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), True),
        (nn.Sequential(nn.Linear(2, 2), nn.RReLU()), True),
        (nn.GRU(2, 2, num_layers=2, dropout=0.5), True),
        (nn.MultiheadAttention(4, 2), True),
        (nn.Sequential(nn.Linear(2, 2), _Users(2, 2)), True),
        (nn.GRU(2, 2), False),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2)), False),
    ],
)
def test_models_that_may_draw_are_known(module: nn.Module, draws: bool) -> None:
    assert FlatModel(module).draws is draws


class _Stateful(nn.Module):
    """State of every kind outside of the vector, and a float buffer that is bound anew."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("flags", torch.zeros(2, dtype=torch.bool))
        self.register_buffer("helper", torch.zeros(1).expand(4), persistent=False)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.frozen += 1
            self.steps += 1
            self.flags[0] = True
            self.helper[:1] += 2
        self.mean = self.mean + x.mean(0)
        self.calls += 1
        self.layer.eval()
        return self.layer(x)


def test_all_outside_of_the_vector_is_put_back() -> None:
    model = FlatModel(_Stateful())
    module = model.module
    for _ in range(2):
        model.vector[model.parameter_count :] = 1.0
        module(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        module(torch.zeros(1, 2))
        assert model.buffers.tolist() == [1.0, 1.0]
        model.take_buffers()
        assert model.buffers.tolist() == [3.0, 4.0]
        model.put_back()
        assert module.frozen.tolist() == [1.0] * 3
        assert (module.steps.item(), module.flags.any().item(), module.helper.any().item()) == (
            0,
            False,
            False,
        )
        assert module.calls == 0
        assert module.layer.training
        assert module.get_buffer("mean").data_ptr() == model.buffers.data_ptr()


def test_a_float_buffer_of_another_shape_is_refused() -> None:
    model = FlatModel(_Stateful())
    model.module.mean = torch.zeros(3)
    with pytest.raises(ValueError, match=r"mean of the model became \(3,\): \(2,\) is expected"):
        model.take_buffers()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("inside", [False, True])
def test_torchscript_is_refused(inside: bool) -> None:
    script = torch.jit.trace(nn.Linear(4, 3), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=rf"^{'1' if inside else 'the model'} is a TorchScript module"):
        FlatModel(nn.Sequential(nn.Linear(4, 4), script) if inside else script)


class Averaging(nn.Module):
    """Two batch norms, and an average of its own that it changes in place after the first of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.first(x)
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * normed.detach().mean(0))
        found: torch.Tensor = self.second(normed * self.first.weight)
        return found


def test_buffers_may_be_changed_in_place_between_layers_that_keep_theirs() -> None:
    x = torch.rand(5, 3, generator=torch.Generator().manual_seed(1))
    alone, flat = Averaging(), FlatModel(Averaging())
    found = []
    for module in (alone, flat.module):
        parameters = list(module.parameters())
        found.append(torch.autograd.grad(module(x).square().sum(), parameters))
    assert all(map(torch.equal, *found))
    count = flat.parameter_count
    buffers = [b.flatten() for b in alone.buffers() if b.dtype == torch.float32]
    assert torch.equal(flat.vector[count:], torch.cat(buffers))

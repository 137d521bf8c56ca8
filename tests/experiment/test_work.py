"""Floating-point work that is counted on models."""

import numpy as np
import pytest
import torch
from torch import nn

from fedmpi.config.schema import ModelConfig
from fedmpi.experiment.work import _flops_of_layers_on_gpus, count_work
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build_flat


def test_a_network_of_two_layers():
    work = count_work(build_flat(ModelConfig("mlp", (64,)), (1, 8, 8), 10, 0), (1, 8, 8), 3)
    assert work.layer_flops == (2 * 64 * 64, 2 * 64 * 10)
    assert work.layer_sizes == (64 * 64, 64 * 10)
    assert work.other_flops == 0
    assert work.values == (64 + 64) + (64 + 64) + (64 + 64) + (64 + 10)  # flatten, linear, relu, linear
    assert work.parameters == 4810
    assert work.flops == 2 * (64 * 64 + 64 * 10)


def test_convolutions_strides_groups_and_batch_norm():
    module = nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2, bias=False), nn.BatchNorm2d(8), nn.Flatten()
    )
    work = count_work(FlatModel(module), (4, 6, 6), 5)
    assert work.layer_flops == (2 * (8 * 3 * 3) * (2 * 3 * 3),)
    assert work.other_flops == 4 * (8 * 3 * 3)
    assert work.values == (4 * 36 + 8 * 9) + 2 * (8 * 9) + 2 * (8 * 9)


def test_a_transposed_convolution_works_on_every_input():
    module = nn.Sequential(nn.ConvTranspose2d(2, 3, 2, stride=2, bias=False), nn.Flatten())
    work = count_work(FlatModel(module), (2, 4, 4), 1)
    assert work.layer_flops == ()
    assert work.flops == 2 * (4 * 4) * 2 * (3 * 2 * 2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return self.out(mixed.mean(1))


def test_attention_is_counted_and_grows_with_the_square_of_tokens():
    def others(side):
        return count_work(FlatModel(Attention()), (8, side, side), 2).other_flops

    tokens = 16
    projections = 2 * tokens * 8 * (3 * 8) + 2 * tokens * 8 * 8
    products = 2 * (2 * tokens * tokens * 8)
    assert others(4) == projections + products
    assert others(8) == 4 * projections + 16 * products
    work = count_work(FlatModel(Attention()), (8, 4, 4), 2)
    assert work.layer_flops == (0, 2 * 8 * 3)  # its output projection is read, not called


class Recurrent(nn.Module):
    def __init__(self, kind, layers, bidirectional):
        super().__init__()
        self.cells = kind(8, 16, layers, batch_first=True, bidirectional=bidirectional)

    def forward(self, x):
        return self.cells(x[:, 0])[0][:, -1]


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (2, 2)])
def test_every_gate_of_a_recurrent_layer_is_counted_at_every_step(kind, gates, layers, directions):
    steps = 8
    work = count_work(FlatModel(Recurrent(kind, layers, directions == 2)), (1, steps, 8), 4)
    inputs = [8 + 16] + [directions * 16 + 16] * (layers - 1)
    assert work.other_flops == sum(2 * steps * directions * gates * 16 * each for each in inputs)


def test_what_gpus_count_in_recurrent_layers_are_their_weights_without_biases():
    weights = [(12, 3), (12, 3), (12,), (12,), (12, 6), (12, 3)]  # two layers of an LSTM of three units
    assert _flops_of_layers_on_gpus((4, 5, 3), weights, None) == 2 * (4 * 5) * 12 * (3 + 3 + 6 + 3)


class TwoHalves(nn.Module):
    """A bilinear form of the two halves of the input's last dimension, at every place of the others."""

    def __init__(self):
        super().__init__()
        self.form = nn.Bilinear(3, 5, 7)

    def forward(self, x):
        return self.form(x[..., :3].contiguous(), x[..., 3:].contiguous())


@pytest.mark.parametrize("places", [(), (4, 2)])
def test_a_bilinear_form_is_counted_at_every_place(places):
    work = count_work(FlatModel(TwoHalves()), (*places, 8), 6)
    assert work.flops == 2 * np.prod(places, dtype=int) * 3 * 5 * 7


def test_code_beside_layers_is_counted():
    work = count_work(build_flat(ModelConfig("cnn"), (1, 28, 28), 62, 0), (1, 28, 28), 2)
    norm = 2 * (14 * 14 * 32 * 32) + 2 * (14 * 14 * 32 * 32)  # two products with the band matrix
    assert work.other_flops == norm


@pytest.mark.parametrize(
    ("name", "shape", "classes", "gflops"),
    [("resnet18", (3, 224, 224), 1000, 3.63), ("vgg11", (3, 32, 32), 10, 0.307)],
)
def test_known_networks(name, shape, classes, gflops):
    """ResNet-18 on 224 x 224: 1.81 billion multiply-adds (torchvision); VGG-11's convolutions on 32 x 32: 0.153."""
    work = count_work(build_flat(ModelConfig(name), shape, classes, 0), shape, 2)
    assert work.flops / 1e9 == pytest.approx(gflops, rel=0.02)


def test_the_model_stays_as_it_was():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Flatten())
    model = FlatModel(module)
    before, state = model.vector.clone(), torch.get_rng_state()
    count_work(model, (1, 5, 5), 4)
    assert torch.equal(model.vector, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.module[1].num_batches_tracked == 0
    assert not any(child._forward_hooks for child in model.module.modules())
    assert model.module.training

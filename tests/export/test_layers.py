"""A module with sparse layers computes and learns what the same module with zeros does."""

import copy

import pytest
import torch
from torch import nn

from fedmpi.config.schema import ModelConfig
from fedmpi.export.csr import Pattern
from fedmpi.export.layers import SparseConv2d, SparseLinear, sparsify
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build

MODELS = {
    "mlp": (1, 8, 8),
    "cnn": (1, 12, 12),
    "conv2": (1, 8, 8),
    "conv4": (3, 16, 16),
    "vgg11": (3, 32, 32),
    "resnet18": (3, 40, 40),
}


def pruned(module: nn.Module, names: list[str], density: float) -> dict[str, tuple[Pattern, torch.Tensor]]:
    """Zeros at random in the weights called ``names``; what is left of them."""
    draw = torch.Generator().manual_seed(1)
    weights = {}
    for name in names:
        weight = module.get_parameter(name).data.flatten(1)
        active = torch.rand(weight.shape, generator=draw) < density
        weight *= active
        weights[name] = (Pattern.of(active), weight[active])
    return weights


@pytest.mark.parametrize("kernels", ["sparse", "auto", "dense"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_predicts_and_learns_alike(name, kernels):
    shape = MODELS[name]
    dense = build(ModelConfig(name), shape, 5, seed=3)
    names = [layer.name for layer in FlatModel(dense).layers if layer.prunable]
    weights = pruned(dense, names, 0.15)
    sparse = sparsify(copy.deepcopy(dense), weights, kernels)
    draw = torch.Generator().manual_seed(2)
    x, y = torch.rand((4, *shape), generator=draw), torch.tensor([0, 1, 2, 3])
    kinds = {type(child) for child in sparse.modules()}
    assert (SparseLinear in kinds) == (kernels != "dense")
    if name != "mlp":
        assert (SparseConv2d in kinds) == (kernels == "sparse")
    torch.testing.assert_close(sparse(x), dense(x), rtol=1e-3, atol=1e-3)
    masks = {key: pattern.dense(torch.ones(pattern.count)) for key, (pattern, _) in weights.items()}
    gradients = {}
    for module in (dense, sparse):
        loss = nn.functional.cross_entropy(module(x), y)
        found = torch.autograd.grad(loss, list(module.parameters()))
        gradients[module] = dict(zip((key for key, _ in module.named_parameters()), found, strict=True))
    for key, expected in gradients[dense].items():
        if key not in weights:
            of_same = gradients[sparse][key]
        else:
            expected = expected.flatten(1) * masks[key]
            owner = key.removesuffix("weight")
            if key in gradients[sparse]:
                of_same = gradients[sparse][key].flatten(1)
            else:
                of_same = weights[key][0].dense(gradients[sparse][f"{owner}values"])
        scale = float(expected.abs().max())
        torch.testing.assert_close(of_same, expected, rtol=1e-3, atol=1e-3 * scale + 1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0)),
        nn.Conv2d(3, 4, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(3, 4, 1, stride=3),
    ],
)
@pytest.mark.parametrize("n", [1, 3])
def test_convolutions_of_every_geometry(layer, n):
    module = nn.Sequential(layer)
    sparse = sparsify(copy.deepcopy(module), pruned(module, ["0.weight"], 0.5), "sparse")
    assert isinstance(sparse[0], SparseConv2d)
    inputs = [
        torch.randn(n, 3, 9, 8, generator=torch.Generator().manual_seed(5)).requires_grad_() for _ in "ab"
    ]
    outputs = [m(x) for m, x in zip((sparse, module), inputs, strict=True)]
    torch.testing.assert_close(*outputs)
    weight = torch.randn(outputs[0].shape, generator=torch.Generator().manual_seed(6))
    of_inputs = [torch.autograd.grad(y, x, weight)[0] for y, x in zip(outputs, inputs, strict=True)]
    torch.testing.assert_close(*of_inputs)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, groups=2),
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 4, 3, padding="same"),
        Doubled(5, 4),
    ],
)
def test_layers_of_their_own_kind_stay_dense(layer):
    module = nn.Sequential(layer)
    kept = sparsify(copy.deepcopy(module), pruned(module, ["0.weight"], 0.5), "sparse")
    assert type(kept[0]) is type(layer)
    x = torch.rand(1, 5) if isinstance(layer, nn.Linear) else torch.rand(1, 2, 6, 6)
    assert torch.equal(kept(x), module(x))


def test_a_layer_of_which_nothing_is_left_gives_its_bias():
    module = nn.Linear(3, 2)
    sparse = sparsify(module, {"weight": (Pattern.of(torch.zeros(2, 3, dtype=torch.bool)), torch.zeros(0))})
    assert isinstance(sparse, SparseLinear)
    assert torch.equal(sparse(torch.ones(4, 3)), module.bias.expand(4, 2))


def test_weights_that_the_model_has_not_are_refused():
    pattern = Pattern.of(torch.ones(2, 3, dtype=torch.bool))
    for name in ("0.weight", "1.weight"):
        with pytest.raises(ValueError, match=f"the model has no {name}"):
            sparsify(nn.Sequential(nn.Linear(4, 2)), {name: (pattern, torch.ones(6))})
    with pytest.raises(ValueError, match="kernels is 'fast', allowed are auto, sparse, dense"):
        sparsify(nn.Sequential(), {}, "fast")


class Users(nn.Module):
    """Two layers, of which the second's weight may be used in some other way."""

    def __init__(self, use):
        super().__init__()
        self.use = use
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        if use == "hook":
            self.second.register_forward_hook(lambda layer, _, y: 2 * y)

    def forward(self, x):
        self.calls += 1
        y = torch.dropout(self.first(x), 0.5, self.training)
        if self.use == "normalized":
            y = nn.functional.linear(y, nn.functional.normalize(self.second.weight))
        elif self.use == "in training":
            y = self.second(y) + (self.second.weight.sum() if self.training else 0)
        elif self.use == "mean of all":
            y = self.second(y) + sum(parameter.mean() for parameter in self.parameters())
        else:
            y = self.second(y)
        y = self.attention(y, y, y, need_weights=False)[0]
        return self.norm(y.mean(1))


@pytest.mark.parametrize("use", ["plain", "hook", "normalized", "in training", "mean of all"])
@pytest.mark.parametrize("kernels", ["auto", "sparse", "dense"])
@pytest.mark.parametrize("tried", [True, False])
def test_a_layer_whose_weight_something_else_uses_stays_dense(use, kernels, tried):
    torch.manual_seed(0)
    dense = Users(use).train()
    names = ["first.weight", "second.weight", "attention.out_proj.weight"]
    weights = pruned(dense, names, 0.2)
    sample = torch.rand(3, 4, 6) if tried else None
    state = torch.get_rng_state()
    sparse = sparsify(copy.deepcopy(dense), weights, kernels, sample)
    assert torch.equal(torch.get_rng_state(), state)
    found = [type(sparse.get_submodule(name.removesuffix(".weight"))) for name in names]
    could = tried and kernels != "dense"
    assert (found[0] is SparseLinear) == (could and use != "mean of all")
    assert (found[1] is SparseLinear) == (could and use == "plain")
    assert found[2] is type(dense.attention.out_proj)
    for name, tensor in dense.state_dict().items():
        if name in sparse.state_dict():
            assert torch.equal(tensor, sparse.state_dict()[name])
    x, results = torch.rand(5, 4, 6), []
    for module in (dense, sparse):
        for child in module.modules():
            assert child.training
        torch.manual_seed(1)
        y = module(x)
        keep = {name: pattern.dense(torch.ones(pattern.count)) for name, (pattern, _) in weights.items()}
        named = dict(module.named_parameters())
        found = torch.autograd.grad(
            y.square().sum(), list(named.values()), allow_unused=True, materialize_grads=True
        )
        gradients = dict(zip(named, found, strict=True))
        for name, (pattern, _) in weights.items():
            if name in gradients:
                gradients[name] = gradients[name] * keep[name]
            else:
                gradients[name] = pattern.dense(gradients.pop(name.removesuffix("weight") + "values"))
        results.append((y, gradients))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, rtol=1e-3, atol=1e-3)

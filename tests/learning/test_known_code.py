"""Which models consist of known code alone."""

import pytest
import torch
from torch import nn

from fedmpi.config.schema import ModelConfig
from fedmpi.learning.known_code import is_known
from fedmpi.learning.models import MODELS, build


@pytest.mark.parametrize("name", MODELS)
def test_built_in_models_are_known(name: str) -> None:
    assert is_known(build(ModelConfig(name), (3, 32, 32), 10, seed=0))


def a_net(inner: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Sequential(inner or nn.Linear(4, 3), nn.BatchNorm1d(3)))


class Users(nn.Linear):
    pass


class Chain(nn.Sequential):
    pass


def test_layers_in_sequence_are_known() -> None:
    assert is_known(a_net())
    assert is_known(nn.Linear(2, 2))


@pytest.mark.parametrize(
    "module",
    [
        a_net(Users(4, 3)),
        Chain(nn.Linear(4, 3)),
        nn.MultiheadAttention(4, 2),
        nn.ModuleList([nn.Linear(2, 2)]),
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
    ],
)
def test_other_classes_are_not(module: nn.Module) -> None:
    assert not is_known(module)


def test_hooks_and_other_forwards_are_not() -> None:
    def nothing(*_: object) -> None:
        pass

    for register in (
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ):
        module = a_net()
        getattr(module[1][0], register)(nothing)
        assert not is_known(module), register
    module = a_net()
    module[1][0].weight.register_hook(nothing)
    assert not is_known(module)
    module = a_net()
    module[1].forward = nothing
    assert not is_known(module)
    module = a_net()
    module[1][0].register_buffer("other", nn.Buffer(torch.ones(1)).as_subclass(_Kind))
    assert not is_known(module)


class _Kind(torch.Tensor):
    pass


@pytest.mark.parametrize(
    "register",
    [
        "register_module_forward_hook",
        "register_module_forward_pre_hook",
        "register_module_full_backward_hook",
        "register_module_full_backward_pre_hook",
    ],
)
def test_hooks_of_all_modules_are_others_code(register: str) -> None:
    handle = getattr(nn.modules.module, register)(lambda *arguments: None)
    try:
        assert not is_known(nn.Linear(2, 2))
    finally:
        handle.remove()
    assert is_known(nn.Linear(2, 2))

"""Models of which it is known what their code does: torch's own layers, one after the other, and fedmpi's models.

Of such a model every weight is used by the forward pass of its own layer alone, nothing but training changes
parameters, buffers other than batch norm's statistics do not change, and only layers that are known for it draw random
numbers. Of code that others wrote nothing is assumed.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

_OURS = "fedmpi.learning.models."
_TORCHS = "torch.nn.modules."
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def is_known(module: nn.Module) -> bool:
    """Whether ``module`` consists of torch's layers without children in ``nn.Sequential``, and of fedmpi's own models.

    Hooks, of a module or of all, parametrizations, other kinds of tensors and a ``forward`` that was replaced are
    others' code.
    """
    hooked = any(getattr(torch_modules, f"_global{hooks}", None) for hooks in _HOOKS)
    return not hooked and all(map(_is_known, module.modules()))


def _is_known(module: nn.Module) -> bool:
    kind = type(module)
    is_layer = kind.__module__.startswith(_TORCHS) and not any(module.children())
    if not (is_layer or kind is nn.Sequential or kind.__module__.startswith(_OURS)):
        return False
    if "forward" in vars(module) or any(vars(module)[hooks] for hooks in _HOOKS):
        return False
    tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
    return all(type(tensor) in (nn.Parameter, Tensor) and not tensor._backward_hooks for tensor in tensors)

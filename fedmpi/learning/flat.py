"""A model whose parameters are views of one flat float32 vector.

Sparse code works on the vector and never sees layers; pruning sees layers as slices of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from fedmpi.learning.known_code import is_known
from fedmpi.learning.own_state import OwnState

_ALIGNMENT_BYTES = 64
_PRUNABLE_MODULES = (nn.Linear, nn.Conv2d)
_RANDOM_MODULES = (_DropoutNd, nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)


@dataclass(frozen=True)
class Layer:
    """One parameter tensor: ``vector[start:stop]`` viewed as ``shape``."""

    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    prunable: bool


class FlatModel:
    """A module, and the one vector that holds its trainable parameters and its float buffers.

    The vector lies on the module's device.

    ``vector`` is float32 of length D + B, 64-byte aligned: the D trainable parameters in the order of
    ``named_parameters``, then the B entries of the persistent float buffers (batch-norm statistics) in the
    order of ``named_buffers``. Writing to it changes the module, and the other way round. Integer and
    non-persistent buffers, and parameters with ``requires_grad=False``, are no part of it and are not exchanged:
    every client's training, and every evaluation of a block of samples, starts from the values that they had when the
    model was built (``put_back``). A counter of steps in an integer buffer counts those of one client in one round.

    Prunable are the weights of ``nn.Linear`` and ``nn.Conv2d``, unless the module carries the attribute
    ``prunable = False``. ``known`` says that nobody else's code runs in the module (``fedmpi.learning.known_code``);
    ``draws``, that it may draw random numbers in training: all code that is not known may.

    Raises ValueError for what has no place in the vector: no trainable parameters, shared parameters, TorchScript,
    other types than float32, tensors on several devices or without values, and batch norm with ``momentum=None``, whose
    average depends on how many batches this process has seen.
    """

    def __init__(self, module: nn.Module) -> None:
        _refuse_compiled(module)
        _refuse_shared_parameters(module)
        _refuse_cumulative_batch_norm(module)
        parameters = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        buffers = _persistent_float_buffers(module)
        if not parameters:
            raise ValueError("the model has no trainable parameters")
        device = parameters[0][1].device
        if device.type == "meta":
            raise ValueError(f"{parameters[0][0]} of the model is on the meta device, where it has no values")
        for name, tensor in (*parameters, *buffers):
            if tensor.dtype != torch.float32 or tensor.device != device:
                raise ValueError(
                    f"{name} of the model is {tensor.dtype} on {tensor.device}:"
                    f" torch.float32 on {device} is expected"
                )
        self.module = module
        self.parameter_count = sum(p.numel() for _, p in parameters)
        self.buffer_count = sum(b.numel() for _, b in buffers)
        self.buffer_shapes = tuple((name, tuple(b.shape)) for name, b in buffers)
        self.vector = _aligned_vector(self.parameter_count + self.buffer_count, device)
        self.known = is_known(module)
        self.layers = self._adopt_parameters(parameters)
        self._buffers = self._adopt_buffers(buffers)
        self.parameters: tuple[nn.Parameter, ...] = tuple(p for _, p in parameters)
        self.views = self.parameter_views(self.vector)
        self.draws = not self.known or any(_draws(m) for m in module.modules())
        inside = (*self.parameters, *(view for *_, view in self._buffers))
        self._own_state = OwnState(module, inside, attributes=not self.known)

    def load(self, vector: Tensor) -> None:
        """Copy a float32 vector of length D + B, or of length D (the buffers stay), into the model."""
        if vector is self.vector:
            return
        if vector.numel() == self.vector.numel():
            self.vector.copy_(vector)
        elif vector.numel() == self.parameter_count:
            self.vector[: self.parameter_count].copy_(vector)
        else:
            raise ValueError(
                f"a vector of {vector.numel()} entries was given to a model of {self.parameter_count}"
                f" parameters and {self.buffer_count} buffer entries"
            )

    @property
    def buffers(self) -> Tensor:
        """The last B entries of ``vector``, a view."""
        return self.vector[self.parameter_count :]

    def put_back(self) -> None:
        """Give the module all that it holds outside of ``vector`` as it was built (see ``OwnState``)."""
        self._own_state.put_back()

    def take_buffers(self) -> None:
        """Copy float buffers that the module's code has bound anew, ``self.mean = ...``, into ``vector``.

        ValueError where one has lost its shape.
        """
        if self.known:
            return
        for owner, attribute, view in self._buffers:
            found = owner._buffers.get(attribute)
            if found is view:
                continue
            if found is None or found.shape != view.shape:
                shape = None if found is None else tuple(found.shape)
                raise ValueError(
                    f"the buffer {attribute} of the model became {shape}: {tuple(view.shape)} is expected"
                )
            view.copy_(found.detach())

    def parameter_views(self, vector: Tensor) -> tuple[Tensor, ...]:
        """Views of a contiguous vector (length at least D), one of each parameter's shape, in layer order.

        They do not require gradients, so in-place arithmetic on them needs no ``no_grad``.
        """
        return tuple(vector[layer.start : layer.stop].view(layer.shape) for layer in self.layers)

    def _adopt_parameters(self, parameters: list[tuple[str, nn.Parameter]]) -> tuple[Layer, ...]:
        prunable = _prunable_names(self.module)
        layers = []
        start = 0
        for name, parameter in parameters:
            stop = start + parameter.numel()
            view = self.vector[start:stop].view(parameter.shape)
            view.copy_(parameter.data)
            parameter.data = view
            layers.append(Layer(name, start, stop, tuple(parameter.shape), name in prunable))
            start = stop
        return tuple(layers)

    def _adopt_buffers(self, buffers: list[tuple[str, Tensor]]) -> list[tuple[nn.Module, str, Tensor]]:
        adopted = []
        start = self.parameter_count
        for name, buffer in buffers:
            stop = start + buffer.numel()
            # Versions of its own, as before: autograd would take a change of one buffer for one of all.
            view = self.vector[start:stop].view(buffer.shape).data
            view.copy_(buffer)
            path, _, attribute = name.rpartition(".")
            owner = self.module.get_submodule(path)
            setattr(owner, attribute, view)
            adopted.append((owner, attribute, view))
            start = stop
        return adopted


def _aligned_vector(length: int, device: torch.device) -> Tensor:
    """Zeros; torch allocates aligned, which is checked because sums may hang on it in their last bits."""
    vector = torch.zeros(length, dtype=torch.float32, device=device)
    if vector.data_ptr() % _ALIGNMENT_BYTES:
        raise MemoryError(f"torch did not allocate {length} floats aligned to {_ALIGNMENT_BYTES} bytes")
    return vector


def _refuse_compiled(module: nn.Module) -> None:
    for name, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            raise ValueError(
                f"{name or 'the model'} is a TorchScript module, whose state cannot be put back: Python is needed"
            )


def _refuse_shared_parameters(module: nn.Module) -> None:
    first_name: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if id(parameter) in first_name:
            raise ValueError(f"{name} and {first_name[id(parameter)]} of the model share one parameter")
        first_name[id(parameter)] = name


def _refuse_cumulative_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_modules():
        if isinstance(child, _BatchNorm) and child.track_running_stats and child.momentum is None:
            raise ValueError(f"{name or 'the model'} is batch norm with momentum=None: a number is needed")


def _persistent_float_buffers(module: nn.Module) -> list[tuple[str, Tensor]]:
    persistent = module.state_dict().keys()
    return [(name, b) for name, b in module.named_buffers() if b.is_floating_point() and name in persistent]


def _prunable_names(module: nn.Module) -> set[str]:
    return {
        f"{name}.weight" if name else "weight"
        for name, child in module.named_modules()
        if isinstance(child, _PRUNABLE_MODULES) and getattr(child, "prunable", True)
    }


def _draws(module: nn.Module) -> bool:
    if isinstance(module, _RANDOM_MODULES):
        return True
    dropout = getattr(module, "dropout", 0.0)  # recurrent layers and attention hold a probability
    return isinstance(dropout, float) and dropout > 0.0

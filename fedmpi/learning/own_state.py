"""What a module holds outside of its flat vector: how it was built, and put back.

Nothing that one client's training leaves there may reach another client: which clients a rank trains, and in which
order, must not show in the results.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from fedmpi.learning.held_objects import memory_of, put_back_of


class OwnState:
    """The state of ``module`` apart from the tensors ``inside`` its vector, as it is now.

    It holds the values of all other parameters and buffers, of any type and persistent or not, and with
    ``attributes`` what the attributes of every module are bound to (which tensors are its buffers, numbers that it
    counts, whether it is in training mode) and what is inside them (``held_objects``). Attributes of classes, global
    variables, and what objects of other packages hold are not covered.
    """

    def __init__(self, module: nn.Module, inside: Iterable[Tensor], attributes: bool) -> None:
        vector = tuple(inside)
        modules = tuple(module.modules())
        tensors = (*module.parameters(), *module.buffers())
        in_vector = {id(tensor) for tensor in vector}
        others = [t for t in tensors if id(t) not in in_vector]
        memory = {t.untyped_storage().data_ptr(): memory_of(t) for t in others if t.layout == torch.strided}
        self._memory = list(memory.values())
        self._values = [part.clone() for part in self._memory]
        self._held = put_back_of(map(vars, modules), modules, (*tensors, *vector)) if attributes else []

    def put_back(self) -> None:
        """Give the module the state that it had."""
        for put_back in self._held:
            put_back()
        if self._memory:
            torch._foreach_copy_(self._memory, self._values)

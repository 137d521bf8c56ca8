"""What a module holds outside of its flat vector: how it was built, and put back.

Nothing that one client's training leaves there may reach another client: which clients a rank trains, and in which
order, must not show in the results.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class OwnState:
    """The state of ``module`` apart from the tensors ``inside`` its vector, as it is now.

    It holds the values of all other parameters and buffers, of any type and persistent or not, and with
    ``attributes`` what the attributes of every module are bound to (which tensors are its buffers, numbers that it
    counts, whether it is in training mode). What is inside a list, a dictionary or an array that a module holds is not
    covered, nor are global variables.
    """

    def __init__(self, module: nn.Module, inside: Iterable[Tensor], attributes: bool) -> None:
        vector = {id(tensor) for tensor in inside}
        others = [t for t in (*module.parameters(), *module.buffers()) if id(t) not in vector]
        memory = {t.untyped_storage().data_ptr(): _bytes(t) for t in others if t.layout == torch.strided}
        self._memory = list(memory.values())
        self._values = [part.clone() for part in self._memory]
        self._attributes: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for child in module.modules() if attributes else ():
            bound = vars(child)
            for names in (bound, child._parameters, child._buffers, child._modules):
                self._attributes.append((names, dict(names)))

    def put_back(self) -> None:
        """Give the module the state that it had."""
        for names, first in self._attributes:
            names.clear()
            names.update(first)
        if self._memory:
            torch._foreach_copy_(self._memory, self._values)


def _bytes(tensor: Tensor) -> Tensor:
    """All memory behind ``tensor``, which may be a view of a part of it or show an entry many times."""
    storage = tensor.untyped_storage()
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)

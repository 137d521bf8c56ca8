"""One step of SGD on the views of a model's vector.

It is that of ``torch.optim.SGD`` (no dampening, no Nesterov), written without an optimizer object: the gradients of
``torch.autograd.grad`` are used where they lie, so that a plain step passes over the parameters once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.summed_linear import Total

Tensors = tuple[Tensor, ...] | list[Tensor]


class SgdStep:
    """One SGD step on the views of a model's vector; holds the momentum of one client's round.

    ``totals`` (see ``summed_linear``) are the layers whose directions add themselves up: their weights follow from
    ``start`` and the sum.
    """

    def __init__(
        self,
        model: FlatModel,
        training: TrainingConfig,
        learning_rate: float,
        sums: Tensors | None,
        mask_views: Tensors | None,
        start: Tensor,
        totals: Mapping[int, Total],
    ) -> None:
        self.parameters = model.parameters
        self._rate = learning_rate
        self._momentum = training.momentum
        self._decay = training.weight_decay
        self._proximal_mu = training.proximal_mu
        self._others = [position for position in range(len(model.views)) if position not in totals]
        self._weights = self._of_others(model.views)
        self._sums = None if sums is None else self._of_others(sums)
        self._mask = None if mask_views is None else self._of_others(mask_views)
        starts = model.parameter_views(start)
        self._starts = self._of_others(starts)
        self._summed = [
            (
                total,
                starts[position],
                None if mask_views is None else mask_views[position],
                model.views[position],
            )
            for position, total in totals.items()
        ]
        self._velocity: list[Tensor] = []
        self._first = True
        self._unsummed: Tensors = ()

    def _of_others(self, tensors: Tensors) -> list[Tensor]:
        return [tensors[position] for position in self._others]

    def directions(self, loss: Tensor) -> list[Tensor]:
        """The gradients of ``loss`` that do not add themselves up, zeros for parameters on which it does not depend."""
        gradients = self._of_others(torch.autograd.grad(loss, self.parameters, allow_unused=True))
        return [
            torch.zeros_like(weights) if gradient is None else gradient
            for gradient, weights in zip(gradients, self._weights, strict=True)
        ]

    def take(self, directions: Tensors, write: bool) -> None:
        """Add ``directions`` (the gradients) to the sums and, if ``write``, move the weights along them."""
        if self._decay:
            directions = torch._foreach_add(directions, self._weights, alpha=self._decay)
        if self._proximal_mu and not self._first:  # at the start there is no distance yet
            distance = torch._foreach_sub(self._weights, self._starts)
            directions = torch._foreach_add(directions, distance, alpha=self._proximal_mu)
        if self._momentum:
            directions = self._with_momentum(directions)
        if self._sums is not None:
            self._sum(self._sums, directions)
        self._first = False
        if not write:
            return
        if self._mask is None:
            torch._foreach_add_(self._weights, directions, alpha=-self._rate)
        else:
            torch._foreach_addcmul_(self._weights, directions, self._mask, value=-self._rate)
        for total, start, mask, weights in self._summed:
            if total.fresh:
                continue
            if mask is None:
                torch.add(start, total.total, alpha=-self._rate, out=weights)
            else:
                torch.addcmul(start, total.total, mask, value=-self._rate, out=weights)

    def finish(self) -> None:
        """Complete the sums after the last step."""
        if self._unsummed and self._sums is not None:
            torch._foreach_copy_(self._sums, self._unsummed)
        for total, *_ in self._summed:
            if total.fresh:
                total.total.zero_()

    def _sum(self, sums: Tensors, directions: Tensors) -> None:
        """Add up; the first directions wait for the second, which saves a pass, unless momentum will change them."""
        if self._first and self._momentum:
            torch._foreach_copy_(sums, directions)
        elif self._first:
            self._unsummed = directions
        elif self._unsummed:
            for first, second, total in zip(self._unsummed, directions, sums, strict=True):
                torch.add(first, second, out=total)
            self._unsummed = ()
        else:
            torch._foreach_add_(sums, directions)

    def _with_momentum(self, directions: Tensors) -> list[Tensor]:
        if self._first:
            self._velocity = [direction.clone() for direction in directions]
        else:
            torch._foreach_mul_(self._velocity, self._momentum)
            torch._foreach_add_(self._velocity, directions)
        return self._velocity

"""Products with a matrix in compressed sparse row form (CSR), and their gradients at its active positions alone."""

from __future__ import annotations

import warnings
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor


class Pattern:
    """Where a matrix of ``rows`` x ``columns`` is active: CSR indices, int32, columns rising within a row.

    ``crow_indices`` (rows + 1,) and ``col_indices`` (active,), as in ``torch.sparse_csr_tensor``. The values
    are kept elsewhere, float32 (active,), row after row.
    """

    def __init__(self, crow_indices: Tensor, col_indices: Tensor, rows: int, columns: int) -> None:
        """ValueError when the indices are none of such a matrix."""
        if crow_indices.dtype != torch.int32 or col_indices.dtype != torch.int32:
            raise ValueError(f"CSR indices are int32, found {crow_indices.dtype} and {col_indices.dtype}")
        self.crow_indices = crow_indices
        self.col_indices = col_indices
        self.shape = (rows, columns)
        try:  # torch checks lengths, bounds, and that columns rise within a row
            self._matrix(torch.zeros(len(col_indices)), check=True)
        except RuntimeError as error:
            raise ValueError(f"no CSR indices of a matrix of {rows} x {columns}: {error}") from error

    @classmethod
    def of(cls, active: Tensor) -> Self:
        """The pattern of a bool matrix (rows, columns)."""
        rows, columns = active.shape
        counts = active.sum(dim=1, dtype=torch.int64)
        crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(crow.to(torch.int32), active.nonzero()[:, 1].to(torch.int32), rows, columns)

    @property
    def count(self) -> int:
        """The number of active positions."""
        return len(self.col_indices)

    @property
    def density(self) -> float:
        """Active over all positions."""
        return self.count / (self.shape[0] * self.shape[1])

    @cached_property
    def positions(self) -> Tensor:
        """The active positions in the flat matrix, int64 (active,), rising."""
        rows = torch.repeat_interleave(
            torch.arange(self.shape[0]), self.crow_indices.diff().long(), output_size=self.count
        )
        return rows * self.shape[1] + self.col_indices

    @cached_property
    def transposed(self) -> tuple[Pattern, Tensor]:
        """The pattern of the transposed matrix, and the order int64 (active,) that gathers its values.

        Products with it are many times faster than those that ask torch to transpose.
        """
        rows, columns = self.shape
        row, column = self.positions // columns, self.col_indices.long()
        order = torch.argsort(column * rows + row)
        counts = torch.bincount(column, minlength=columns)
        crow = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)
        return Pattern(crow, row[order].to(torch.int32), columns, rows), order

    def dense(self, values: Tensor) -> Tensor:
        """The matrix (rows, columns) with ``values`` at the active positions and zeros elsewhere."""
        flat = values.new_zeros(self.shape[0] * self.shape[1])
        return flat.index_copy_(0, self.positions, values).view(self.shape)

    def product(self, values: Tensor, right: Tensor) -> Tensor:
        """The matrix with ``values`` times ``right`` (columns, n): (rows, n), without a gradient."""
        if not self.count:
            return right.new_zeros(self.shape[0], right.shape[1])
        if right.shape[1] == 1:  # torch's product with a vector is faster than that with one column
            return torch.mv(self._matrix(values), right[:, 0]).unsqueeze(1)
        return torch.mm(self._matrix(values), right)

    def sampled_product(self, left: Tensor, right: Tensor) -> Tensor:
        """``left`` (rows, n) times ``right`` (n, columns) at the active positions alone: (active,)."""
        if not self.count:
            return left.new_zeros(0)
        zeros = self._matrix(left.new_zeros(self.count))
        sampled: Tensor = torch.sparse.sampled_addmm(zeros, left, right, beta=0.0)
        return sampled.values()

    def _matrix(self, values: Tensor, check: bool = False) -> Tensor:
        return torch.sparse_csr_tensor(
            self.crow_indices, self.col_indices, values, self.shape, check_invariants=check
        )


def multiply(pattern: Pattern, values: Tensor, right: Tensor) -> Tensor:
    """The matrix with ``values`` times ``right`` (columns, n): (rows, n), with gradients of both.

    The gradient of ``values`` is computed where the matrix is active and nowhere else.
    """
    result: Tensor = _Multiply.apply(values, right, pattern)
    return result


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, right: Tensor, pattern: Pattern) -> Tensor:
        ctx.save_for_backward(values, right)
        ctx.pattern = pattern
        return pattern.product(values, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, right = ctx.saved_tensors
        pattern: Pattern = ctx.pattern
        of_result = gradients[0].contiguous()
        of_values = pattern.sampled_product(of_result, right.t()) if ctx.needs_input_grad[0] else None
        of_right = None
        if ctx.needs_input_grad[1]:
            transposed, order = pattern.transposed
            of_right = transposed.product(values.index_select(0, order), of_result)
        return of_values, of_right, None


def _use_once() -> None:
    """Torch warns once that its CSR tensors are new; later warnings would be about something else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.eye(1).to_sparse_csr()


_use_once()

"""Products with sparse matrices are those with the dense ones, and so are their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.export.csr import Pattern, multiply


def masked(rows: int, columns: int, density: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    active = torch.rand(rows, columns, generator=draw) < density
    return torch.randn(rows, columns, generator=draw) * active, active


@settings(max_examples=40)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    n=st.integers(1, 4),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_product_and_gradients_are_those_of_the_dense_matrix(rows, columns, n, density, seed):
    matrix, active = masked(rows, columns, density, seed)
    pattern = Pattern.of(active)
    assert pattern.count == int(active.sum())
    draw = torch.Generator().manual_seed(seed + 1)
    right, weight = torch.randn(columns, n, generator=draw), torch.randn(rows, n, generator=draw)
    values = matrix[active].requires_grad_()
    sparse_right, dense_right = right.clone().requires_grad_(), right.clone().requires_grad_()
    matrix.requires_grad_()
    sparse, dense = multiply(pattern, values, sparse_right), matrix @ dense_right
    torch.testing.assert_close(sparse, dense)
    of_values, of_sparse_right = torch.autograd.grad(sparse, (values, sparse_right), weight)
    of_matrix, of_dense_right = torch.autograd.grad(dense, (matrix, dense_right), weight)
    torch.testing.assert_close(of_values, of_matrix[active])
    torch.testing.assert_close(of_sparse_right, of_dense_right)


def test_the_dense_matrix_is_made_of_pattern_and_values():
    matrix, active = masked(7, 5, 0.4, seed=3)
    pattern = Pattern.of(active)
    assert torch.equal(pattern.dense(matrix[active]), matrix)
    assert pattern.density == int(active.sum()) / 35
    transposed, order = pattern.transposed
    assert torch.equal(transposed.dense(matrix[active][order]), matrix.t())


@pytest.mark.parametrize(
    ("crow", "col"),
    [
        ([0, 1, 3], [0, 1, 2]),  # column 2 of 2
        ([0, 1, 2], [0, 1, 1]),  # more columns than the rows say
        ([0, 2, 1, 3], [0, 1, 1]),  # one row too many
        ([0, 2, 3], [1, 0, 1]),  # columns fall within a row
    ],
)
def test_indices_of_no_such_matrix_are_refused(crow, col):
    with pytest.raises(ValueError, match="no CSR indices of a matrix of 2 x 2"):
        Pattern(torch.tensor(crow, dtype=torch.int32), torch.tensor(col, dtype=torch.int32), 2, 2)


def test_indices_of_another_type_are_refused():
    with pytest.raises(ValueError, match=r"int32, found torch\.int64"):
        Pattern(torch.tensor([0, 1]), torch.tensor([0]), 1, 1)

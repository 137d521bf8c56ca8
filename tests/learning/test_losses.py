"""Losses against their definitions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.learning.losses import LOSSES, _negative_means

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
LABELS = torch.tensor([0, 2])


def test_cross_entropy_is_the_negative_log_likelihood() -> None:
    probabilities = LOGITS.double().softmax(1)
    expected = -torch.log(torch.stack([probabilities[0, 0], probabilities[1, 2]]))
    assert LOSSES["cross_entropy"].per_sample(LOGITS, LABELS).tolist() == pytest.approx(expected.tolist())


def test_bce_one_hot_is_the_mean_over_classes() -> None:
    probabilities = LOGITS.double().sigmoid()
    targets = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]], dtype=torch.float64)
    terms = -(targets * probabilities.log() + (1 - targets) * (1 - probabilities).log())
    per_sample = LOSSES["bce_one_hot"].per_sample(LOGITS, LABELS)
    assert per_sample.tolist() == pytest.approx(terms.mean(1).tolist())


@pytest.mark.parametrize("name", LOSSES)
def test_the_trained_loss_is_the_mean_over_samples(name: str) -> None:
    loss = LOSSES[name]
    mean = loss.mean(LOGITS, LABELS)
    assert mean.shape == ()
    assert mean.item() == pytest.approx(loss.per_sample(LOGITS, LABELS).mean().item())


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(LOSSES)),
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 40),
    st.integers(2, 70),
)
def test_losses_of_many_have_the_bits_of_each(
    name: str, seed: int, clients: int, count: int, classes: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(clients, count * classes + 5, generator=draw)[:, :-5]
    logits = logits.view(clients, count, classes)
    labels = torch.randint(0, classes, (clients, count), generator=draw)
    gradient = torch.full_like(logits, torch.nan)
    found = LOSSES[name].of_many(logits, labels, gradient)
    for each, own_labels, own, loss in zip(logits, labels, gradient, found, strict=True):
        leaf = each.clone().requires_grad_()
        mean = LOSSES[name].mean(leaf, own_labels)
        assert mean.item() == loss
        assert torch.equal(torch.autograd.grad(mean, leaf)[0], own)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 255, 256, 257, 4097])
def test_means_are_added_up_as_torch_does(count: int) -> None:
    draw = torch.Generator().manual_seed(count)
    log_p = 3 * torch.randn(4, count, generator=draw)
    expected = [F.nll_loss(row.unsqueeze(1), torch.zeros(count, dtype=torch.int64)).item() for row in log_p]
    np.testing.assert_array_equal(_negative_means(log_p.numpy()), np.array(expected, np.float32))

"""Losses against their definitions."""

import pytest
import torch

from fedmpi.learning.losses import LOSSES

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

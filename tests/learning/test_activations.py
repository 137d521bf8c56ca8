"""The memory of activations."""

import torch
from torch import nn

from fedmpi.learning.activations import Activations, activations
from fedmpi.learning.flat import FlatModel


def test_by_hand() -> None:
    """Floats of a sample: 12 in, 12 of Flatten, 5, 5 and 3."""
    model = FlatModel(nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3)))
    for batch in (1, 4):
        assert activations(model, (3, 2, 2), batch) == Activations(kept=4 * (12 + 5 + 5 + 3), largest=4 * 24)
    assert not any(module._forward_hooks for module in model.module.modules())


def test_outputs_may_be_many_and_the_model_stays_as_it_was() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRU(4, 6, batch_first=True)
            self.head = nn.Linear(6, 3)
            self.register_buffer("calls", torch.zeros((), dtype=torch.long))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.head(self.cell(x[:, 0])[0][:, -1])

    model = FlatModel(Recurrent())
    found = activations(model, (1, 5, 4), 2)
    assert found.kept == 4 * (5 * 6 + 6 + 3)
    assert found.largest == 4 * (5 * 4 + 5 * 6 + 6)
    assert model.module.calls.item() == 0
    assert model.module.training

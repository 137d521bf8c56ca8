"""What rounds are charged by, without devices: local steps, and messages of losses."""

import numpy as np
import pytest

from fedmpi.config import loads
from fedmpi.federation.round_cost import local_steps, loss_report_bytes


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ("training.local_steps=3", [3.0, 3.0, 1.5]),
        ("training.local_epochs=2", [2.0, 6.0, 1.0]),
    ],
)
def test_local_steps_are_counted_in_whole_batches(training: str, expected: list[float]) -> None:
    """A batch is 20 samples; a client of ten makes steps of half a batch."""
    config = loads("", ["training.batch_size=20", training])
    assert local_steps(config, np.array([20, 60, 10])).tolist() == expected


def test_a_message_of_losses_has_a_header_and_float32() -> None:
    assert [loss_report_bytes(losses) for losses in (2, 3)] == [16 + 8, 16 + 12]

"""Bytes and times of rounds that have not been run, by hand."""

import numpy as np
import pytest

from fedmpi.cli import estimate
from fedmpi.config import loads
from fedmpi.emulation.devices import assign
from fedmpi.experiment.parts import resolve
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build


@pytest.mark.parametrize(
    ("overrides", "k"),
    [
        ([], 1000),
        (["sparsification.method=fab", "sparsification.k=7"], 7),
        (["sparsification.method=fab", "sparsification.k_fraction=0.25"], 250),
        (["sparsification.method=fab", "sparsification.k_fraction=1e-9"], 1),
        (["sparsification.method=fab", "k_control.method=ogd_sign"], 500),
    ],
)
def test_the_first_k(overrides, k):
    assert estimate.first_k(resolve(loads("", overrides)), 1000) == k


def test_steps_are_counted_in_full_batches():
    sizes = np.array([10, 20, 50])
    steps = loads("", ["training.batch_size=20", "training.local_steps=4"])
    epochs = loads("", ["training.batch_size=20", "training.local_epochs=2"])
    assert estimate.local_steps(steps, sizes).tolist() == [2.0, 4.0, 4.0]
    assert estimate.local_steps(epochs, sizes).tolist() == [1.0, 2.0, 5.0]


def test_a_first_round_by_hand(small_model):
    config = loads(
        "[clients]\ncount = 2\n[sparsification]\nmethod = 'fab'\nk = 5\nwire = 'coo'\n"
        "[emulation.compute]\nmodel = 'unit'\nunit_s = 3.0\n"
        "[emulation.network]\nuplink_mbit_per_s = 0.008\ndownlink_mbit_per_s = 0.004\nlatency_s = 0.5"
    )
    model = small_model
    tail = 4 * model.buffer_count
    first = estimate.first_round(resolve(config), model, assign(config, 0), np.array([10, 10]))
    assert first.bytes_down == 16 + 4 * model.parameter_count + tail
    assert first.bytes_up == 16 + 5 * 8 + tail
    assert first.timeline.download_s == pytest.approx([0.5 + first.bytes_down / 500] * 2)
    assert first.timeline.upload_s == pytest.approx([0.5 + first.bytes_up / 1000] * 2)
    assert first.timeline.duration_s == pytest.approx(4.0 + first.bytes_down / 500 + first.bytes_up / 1000)


def test_an_unpruned_round_of_conv2_on_raspberry_pis():
    """The published dense step, five times, and all parameters down and up."""
    config = loads(
        "[clients]\ncount = 10\n[model]\nname = 'conv2'\n[training]\nlocal_steps = 5\nbatch_size = 20\n"
        "[emulation.compute]\nmodel = 'linear'\nprofile = 'raspberry-pi-4'\n"
        "[emulation.network]\nuplink_mbit_per_s = 'device'\ndownlink_mbit_per_s = 'device'",
    )
    model = FlatModel(build(config.model, (1, 28, 28), 62, 0))
    first = estimate.first_round(resolve(config), model, assign(config, 0), np.full(10, 100))
    compute_s, message = 5 * 2.2486449218005875, 16 + 4 * 6_603_710
    assert first.bytes_down == first.bytes_up == message
    np.testing.assert_array_equal(first.timeline.compute_s, compute_s)
    exchange_s = 5.561621025626998e-06 * message / 4
    assert first.timeline.duration_s == pytest.approx(compute_s + exchange_s, rel=1e-12)

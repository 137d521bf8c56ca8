"""Random changes of training images."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config.limits import CHOICES
from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.augmentation import AUGMENTATIONS, FlipCrop, augmenter
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.minibatches import batch_order
from fedmpi.learning.training import LocalTask, train


def _possible(image: torch.Tensor) -> list[torch.Tensor]:
    """All 2 x 9 x 9 results that one image can have, by another way."""
    _, height, width = image.shape
    padded = torch.zeros(image.shape[0], height + 8, width + 8, dtype=image.dtype)
    padded[:, 4:-4, 4:-4] = image
    crops = [padded[:, t : t + height, left : left + width] for t in range(9) for left in range(9)]
    return [result for crop in crops for result in (crop, crop.flip(2))]


@given(
    count=st.integers(1, 6),
    channels=st.integers(1, 3),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    seed=st.integers(0, 999),
    as_bytes=st.booleans(),
)
def test_every_result_is_a_mirrored_crop_of_its_own_image(
    count: int, channels: int, height: int, width: int, seed: int, as_bytes: bool
) -> None:
    draw = np.random.default_rng(seed)
    x = torch.from_numpy(draw.integers(1, 256, (count, channels, height, width), dtype=np.uint8))
    x = x if as_bytes else x.to(torch.float32) / 255
    before = x.clone()
    found = FlipCrop.draw(len(x), np.random.default_rng(seed))(x, 0)
    assert torch.equal(x, before)
    assert (found.dtype, found.shape) == (x.dtype, x.shape)
    assert found.is_contiguous()
    for image, result in zip(x, found, strict=True):
        assert any(torch.equal(result, candidate) for candidate in _possible(image))
    assert torch.equal(FlipCrop.draw(len(x), np.random.default_rng(seed))(x, 0), found)


def test_all_places_and_both_sides_are_equally_likely() -> None:
    image = torch.zeros(1, 20, 20)
    image[0, 8, 7] = 1.0  # ends in one of 9 x 18 places, those of the mirrored crops being others
    found = FlipCrop.draw(162 * 60, np.random.default_rng(1))(image.expand(162 * 60, 1, 20, 20), 0)
    counts = found.sum(0)[0]
    assert int(counts.sum()) == 162 * 60
    assert set(torch.nonzero(counts)[:, 0].tolist()) == set(range(4, 13))
    assert set(torch.nonzero(counts)[:, 1].tolist()) == {*range(3, 12), *range(8, 17)}
    mirrored = FlipCrop.draw(20_000, np.random.default_rng(2)).mirrored
    assert abs(mirrored.double().mean() - 0.5) < 0.015  # 4 standard deviations are 0.0141
    once = counts[4:13, [*range(3, 8), *range(12, 17)]]
    assert 30 < once.min() <= once.max() < 95
    twice = counts[4:13, 8:12]
    assert 75 < twice.min() <= twice.max() < 170


def test_a_name_and_the_place_of_a_client_give_the_draws() -> None:
    x = torch.rand(8, 3, 12, 12)

    def changed(*place: int) -> torch.Tensor:
        augment = augmenter("flip_crop", *place)
        assert augment is not None
        return augment(len(x))(x, 0)

    assert torch.equal(changed(3, 5, 7), changed(3, 5, 7))
    for other in ((4, 5, 7), (3, 6, 7), (3, 5, 8), (3, -5, 7)):
        assert not torch.equal(changed(*other), changed(3, 5, 7))
    assert augmenter("none", 3, 5, 7) is None


@given(count=st.integers(1, 12), cut=st.integers(1, 12), seed=st.integers(0, 99))
def test_samples_may_be_changed_in_pieces(count: int, cut: int, seed: int) -> None:
    x = torch.rand(count, 1, 7, 6, generator=torch.Generator().manual_seed(seed))
    augment = FlipCrop.draw(count, np.random.default_rng(seed))
    pieces = [augment(x[first : first + cut], first) for first in range(0, count, cut)]
    assert torch.equal(torch.cat(pieces), augment(x, 0))


def test_the_configuration_knows_the_same_names() -> None:
    assert set(CHOICES["data.augmentation"]) == {"none", *AUGMENTATIONS}


@pytest.mark.parametrize("as_bytes", [True, False])
def test_training_takes_the_changed_samples(as_bytes: bool) -> None:
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.integers(0, 256, (10, 1, 6, 6), dtype=np.uint8))
    x = x if as_bytes else x.to(torch.float32) / 255
    y = torch.arange(10) % 3
    training = TrainingConfig(local_steps=3, batch_size=4)
    order, _ = batch_order(10, training, np.random.default_rng(2))

    def trained(samples: torch.Tensor, labels: torch.Tensor, changed: bool) -> tuple[float, torch.Tensor]:
        torch.manual_seed(0)
        model = FlatModel(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3)))
        augment = augmenter("flip_crop", 0, 1, 2) if changed else None
        rng = np.random.default_rng(2)
        result = train(model, model.vector, (samples, labels), LocalTask(training, 0.1, rng, augment=augment))
        return result.loss, model.vector.clone()

    loss, weights = trained(x, y, changed=True)
    assert loss != trained(x, y, changed=False)[0]

    # the same by changing beforehand the samples that will be taken
    augment = augmenter("flip_crop", 0, 1, 2)
    assert augment is not None
    taken = augment(len(order))(x[order], 0)
    torch.manual_seed(0)
    reference = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    values = taken.to(torch.float32) / 255 if as_bytes else taken
    for first in (0, 4, 8):
        optimizer.zero_grad()
        batch = slice(first, first + 4)
        torch.nn.functional.cross_entropy(reference(values[batch]), y[order][batch]).backward()
        optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in reference.parameters()])
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=1e-6)

"""Random streams of many clients at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.numerics.streams import Purpose, generator, generators, torch_seed


@given(
    st.one_of(st.integers(0, 2**33), st.integers(0, 2**140)),
    st.sampled_from(list(Purpose)),
    st.integers(-(2**31), 2**31 - 1),
    st.lists(st.integers(0, 2**32 - 1), max_size=5),
)
def test_every_client_has_its_own_stream(
    seed: int, purpose: Purpose, round_index: int, clients: list
) -> None:
    many = list(generators(seed, purpose, round_index, np.array(clients, dtype=np.int64)))
    assert len(many) == len(clients)
    for client, found in zip(clients, many, strict=True):
        alone = generator(seed, purpose, round_index, client)
        assert found.bit_generator.state == alone.bit_generator.state
        np.testing.assert_array_equal(found.permutation(9), alone.permutation(9))


def test_a_known_state_is_no_other(  # numpy asks for what PCG64 needs, and nothing else is there
) -> None:
    (found,) = generators(1, Purpose.BATCHES, 0, np.array([2]))
    with pytest.raises(ValueError, match="allowed are 4 of uint64"):
        found.bit_generator.seed_seq.generate_state(8)


def test_streams_keep_their_numbers() -> None:
    """What was drawn for a purpose in earlier versions is drawn again: results depend on these numbers."""
    assert [purpose.name for purpose in sorted(Purpose)] == [
        *("PARTITION", "INITIAL_WEIGHTS", "PARTICIPANTS", "BATCHES", "AUGMENTATION", "K_CONTROL"),
        *("PROBE_SAMPLE", "DEVICES", "LINKS", "JITTER", "AVAILABILITY", "SPARSIFICATION", "PRUNING"),
        *("DROPOUT", "TEST_SPLIT", "INITIAL_PRUNING", "EVALUATION", "PROBE_LOSS", "VANISHING"),
        *("CLIENT_TESTS", "CLIENT_EVALUATION"),
    ]
    assert [int(purpose) for purpose in sorted(Purpose)] == [*range(1, 20), 30, 31]
    assert len(Purpose.__members__) == 21


def test_seeds_of_torch_keep_their_numbers() -> None:
    seeds = [torch_seed(5, Purpose.DROPOUT, *place) for place in ((), (1,), (0, 1), (-1, 2))]
    assert seeds == [
        3_773_718_799_086_426_375,
        4_938_277_861_839_652_308,
        1_666_249_820_918_446_924,
        4_645_243_754_932_380_105,
    ]

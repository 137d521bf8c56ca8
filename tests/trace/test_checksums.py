from __future__ import annotations

import io

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.trace.checksums import CHECKSUM_CHARACTERS, RowDigests, fletcher32


def checksum_of_hdf5(data: bytes) -> int:
    """What HDF5 itself stores behind a chunk of these bytes."""
    with h5py.File(io.BytesIO(), "w") as file:
        dataset = file.create_dataset("data", (len(data),), "u1", chunks=(len(data),), fletcher32=True)
        dataset[:] = np.frombuffer(data, np.uint8)
        _, stored = dataset.id.read_direct_chunk((0,))
    return int.from_bytes(stored[len(data) :], "little")


@given(st.binary(min_size=1, max_size=3000))
def test_the_checksum_is_that_of_hdf5(data):
    assert fletcher32(data) == checksum_of_hdf5(data)


@pytest.mark.parametrize("byte", [0x00, 0x01, 0xFF])
@pytest.mark.parametrize("size", [1, 2, 719, 720, 721, 722, 131_070, 200_001])
def test_sums_that_are_multiples_of_the_modulus(byte, size):
    data = bytes([byte]) * size
    assert fletcher32(data) == checksum_of_hdf5(data)


ATTRIBUTES = {"seed": 7, "status": "completed", "layer_names": ["a", "b"]}


def checksum(attributes=ATTRIBUTES, clients=b"12", rounds=b"") -> str:
    digests = RowDigests()
    digests.update("clients", memoryview(clients[:1]))
    digests.update("clients", memoryview(clients[1:]))
    digests.update("rounds", memoryview(rounds))
    return digests.checksum(attributes)


def test_the_checksum_of_a_file_covers_rows_and_attributes_of_fedmpi_alone():
    same = [checksum(), checksum({**ATTRIBUTES, "note": 1}), checksum(dict(reversed(ATTRIBUTES.items())))]
    assert len(set(same)) == 1
    other = [
        checksum({**ATTRIBUTES, "seed": 8}),
        checksum({"seed": 7, "status": "completed"}),
        checksum(clients=b"13"),
        checksum(clients=b"1"),
        checksum(rounds=b"1"),
        checksum(clients=b"", rounds=b"12"),
    ]
    assert len({*same, *other}) == len(other) + 1
    assert {len(text) for text in (*same, *other)} == {CHECKSUM_CHARACTERS}

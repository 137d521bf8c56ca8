import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config import parts
from fedmpi.numerics.topk import top_k
from fedmpi.sparsification import SparseMethod, Uploads, WireCodec
from fedmpi.sparsification.probe_message import decode_probe, encode_probe
from fedmpi.sparsification.wire import decode, encode, message_bytes


@pytest.mark.parametrize("method", ["fab", "fub_flat", "fub_tree", "unidirectional"])
@given(data=st.data())
def test_a_probe_is_told_by_its_differences(method: str, data: st.DataObject) -> None:
    clients, dimension = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 60))
    k = data.draw(st.integers(2, dimension))
    k_probe = data.draw(st.integers(1, k - 1))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows = rng.standard_normal((clients, dimension)).astype(np.float32)
    indices = [top_k(row, k) for row in rows]
    values = [row[j] for row, j in zip(rows, indices, strict=True)]
    uploads = Uploads(tuple(indices), tuple(values), np.full(clients, 1 / clients), dimension)
    select, codec = parts.build("sparsification.method", method, {}, SparseMethod).select, WireCodec("auto")
    selection = select(uploads, k)
    probe = select(uploads.truncated(k_probe), k_probe)
    told = decode(
        encode("auto", selection.indices, selection.values.astype(np.float32), dimension).data, dimension
    )
    sent = encode_probe(codec, selection, probe, probe.values.astype(np.float32), dimension)
    read = decode_probe(codec, sent, told, dimension)
    np.testing.assert_array_equal(read.indices, probe.indices)
    np.testing.assert_array_equal(read.values, probe.values.astype(np.float32))
    b = dict(zip(selection.indices.tolist(), selection.values.tolist(), strict=True))
    differing = sum(
        b.get(j) != value for j, value in zip(probe.indices.tolist(), probe.values.tolist(), strict=True)
    )
    assert len(sent) == message_bytes("auto", differing, dimension) + -(-len(b) // 8)

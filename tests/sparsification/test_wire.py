"""Messages: what they weigh, and that everything arrives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.sparsification.wire import (
    FORMS,
    HEADER_BYTES,
    VALUE_BYTES,
    WireError,
    bytes_by_dimension,
    decode,
    decode_rows,
    encode,
    encode_rows,
    form_in_use,
    message_bytes,
)


@pytest.mark.parametrize(
    ("form", "entries", "dimension", "payload"),
    [
        ("coo", 100, 1001, 800),
        ("bitmap", 100, 1001, 126 + 400),
        ("values", 100, 1001, 400),
        ("dense", 100, 1001, 4004),
        ("auto", 100, 1001, 526),
        ("auto", 10, 1001, 80),
        ("auto", 1000, 1001, 4004),
        ("auto", 0, 0, 0),
    ],
)
def test_payload_and_header(form: str, entries: int, dimension: int, payload: int) -> None:
    assert message_bytes(form, entries, dimension) == HEADER_BYTES + payload


@pytest.mark.parametrize(
    ("form", "payload"), [("coo", 600), ("bitmap", 126 + 200), ("values", 200), ("dense", 2002)]
)
def test_float16_halves_the_values(form: str, payload: int) -> None:
    assert message_bytes(form, 100, 1001, "float16") == HEADER_BYTES + payload


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_auto_is_never_larger_than_a_form_that_tells_the_positions(entries: int, more: int) -> None:
    dimension = entries + more
    automatic = message_bytes("auto", entries, dimension)
    assert automatic == min(message_bytes(form, entries, dimension) for form in ("coo", "bitmap", "dense"))
    assert automatic >= message_bytes("values", entries, dimension)


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="'csr', allowed are auto, coo"):
        message_bytes("csr", 1, 2)
    with pytest.raises(ValueError, match="'int8', allowed are float32, float16"):
        message_bytes("coo", 1, 2, "int8")
    for form in FORMS:
        with pytest.raises(ValueError, match="allowed are 0 to 2"):
            message_bytes(form, 3, 2)
    one = np.zeros(1, np.int32)
    for value in (np.inf, np.nan):
        with pytest.raises(ValueError, match="finite"):
            encode("coo", one, np.full(1, value, np.float32), 2, value_type="float16")


@st.composite
def vectors(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Indices, values (zeros among them, of any magnitude), dimension and tail."""
    dimension = draw(st.integers(0, 200))
    entries = draw(st.integers(0, dimension))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    indices = np.sort(rng.choice(dimension, entries, replace=False)).astype(np.int32)
    values = rng.standard_normal(entries) * 10.0 ** draw(st.integers(-40, 37))
    values[rng.random(entries) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = 0.0
    tail = rng.standard_normal(draw(st.integers(0, 5))).astype(np.float32)
    return indices, values.astype(np.float32), dimension, tail


@given(vectors(), st.sampled_from(FORMS), st.sampled_from(list(VALUE_BYTES)))
def test_what_is_sent_arrives(
    case: tuple[np.ndarray, np.ndarray, int, np.ndarray], form: str, value_type: str
) -> None:
    indices, values, dimension, tail = case
    message = encode(form, indices, values, dimension, value_type=value_type, tail=tail)
    assert len(message.data) == message_bytes(form, len(indices), dimension, value_type) + 4 * len(tail)
    positions = indices if form == "values" else None
    read = decode(message.data, dimension, tail_length=len(tail), positions=positions)
    np.testing.assert_array_equal(read.indices, indices)
    np.testing.assert_array_equal(read.values, message.values)
    np.testing.assert_array_equal(read.tail, tail)
    assert read.indices.dtype == np.int32
    assert read.values.dtype == message.values.dtype == np.float32
    if value_type == "float32":
        np.testing.assert_array_equal(read.values, values)
    else:  # half a unit in the last place of each, or of the smallest that a scaled message holds
        largest = np.abs(values).max(initial=0.0).astype(np.float64)
        error = np.abs(read.values.astype(np.float64) - values)
        assert (error <= np.maximum(np.abs(values) * 2.0**-11, max(largest * 2.0**-38, 2.0**-149))).all()


@given(st.lists(vectors(), min_size=1, max_size=5), st.sampled_from(FORMS), st.data())
def test_messages_are_read_from_anywhere_in_a_buffer(cases, form: str, data: st.DataObject) -> None:
    """As the server gets them: one buffer, in which messages begin at any byte."""
    dimension, tail = 200, np.arange(3, dtype=np.float32)
    positions = cases[0][0] if form == "values" else None
    if form == "values":
        cases = [cases[0]] * len(cases)
    sent = [
        encode(form, indices, values, dimension, tail=tail + n)
        for n, (indices, values, *_) in enumerate(cases)
    ]
    shift = data.draw(st.integers(0, 7))
    buffer = np.concatenate([np.zeros(shift, np.uint8), *(message.data for message in sent)])
    stops = shift + np.cumsum([len(message.data) for message in sent])
    pieces = [buffer[stop - len(message.data) : stop] for stop, message in zip(stops, sent, strict=True)]
    for n, (piece, (indices, values, *_)) in enumerate(zip(pieces, cases, strict=True)):
        read = decode(piece, dimension, tail_length=3, positions=positions)
        np.testing.assert_array_equal(read.indices, indices)
        np.testing.assert_array_equal(read.values, values)
        np.testing.assert_array_equal(read.tail, tail + n)
        assert all(array.flags.aligned for array in read)


@pytest.mark.parametrize(
    ("form", "views"),
    [("coo", [True, True, True]), ("values", [False, True, True]), ("bitmap", [False, True, True])],
)
def test_what_needs_no_conversion_is_not_copied(form: str, views: list[bool]) -> None:
    """Indices, values and tail of ``coo``; ``values`` has the indices of the receiver."""
    positions = np.arange(0, 30, 3, dtype=np.int32)
    tail = np.ones(3, np.float32)
    data = encode(form, positions, np.ones(10, np.float32), 32, tail=tail).data
    read = decode(data, 32, tail_length=3, positions=positions)
    assert (read.indices is positions) == (form == "values")
    assert [np.shares_memory(array, data) for array in read] == views


def test_float16_never_overflows() -> None:
    values = np.array([3e38, -3.4e38, 1e-45], np.float32)
    message = encode("coo", np.arange(3, dtype=np.int32), values, 3, value_type="float16")
    np.testing.assert_allclose(message.values[:2], values[:2], rtol=2.0**-11)
    assert message.values[2] == 0


def damaged(change) -> np.ndarray:
    message = encode("bitmap", np.array([1, 5], np.int32), np.ones(2, np.float32), 9)
    data = message.data.copy()
    return change(data)


def set_byte(data: np.ndarray, position: int, value: int) -> np.ndarray:
    data[position] = value
    return data


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (np.zeros(3, np.uint8), "shorter than its header"),
        (np.zeros(20, np.uint8), "no message begins with 0000"),
        (damaged(lambda data: set_byte(data, 4, 9)), "no message begins with 666d706909"),
        (damaged(lambda data: data[:-1]), "25 bytes were found, 26 and 0 values of a tail"),
        (damaged(lambda data: set_byte(data, 12, 10)), "2 among 10 coordinates was found, 9 are expected"),
        (damaged(lambda data: set_byte(data, 16, 0)), "2 entries were announced, and there are 0"),
        (encode("values", np.arange(2, dtype=np.int32), np.ones(2, np.float32), 9).data, "without positions"),
    ],
)
def test_bytes_that_are_no_message_are_refused(data: np.ndarray, problem: str) -> None:
    with pytest.raises(WireError, match=problem):
        decode(data, 9)


@given(
    st.sampled_from(["coo", "bitmap", "values", "dense", "auto"]),
    st.integers(0, 300),
    st.integers(0, 3000),
    st.sampled_from(["float32", "float16"]),
)
def test_bytes_by_dimension_are_those_of_the_message(form: str, entries: int, more: int, of: str) -> None:
    dimension = entries + more
    fixed, each = bytes_by_dimension(form, entries, dimension, of)
    assert 0 <= message_bytes(form, entries, dimension, of) - (fixed + each * dimension) < 1


def test_what_a_coordinate_costs_in_each_form() -> None:
    """Entries with indices cost the same whatever else there is; bits and zeros do not."""
    assert bytes_by_dimension("coo", 10, 1000) == (16 + 80, 0.0)
    assert bytes_by_dimension("bitmap", 10, 1000) == (16 + 40, 0.125)
    assert bytes_by_dimension("dense", 10, 1000, "float16") == (16, 2)
    assert [form_in_use("auto", entries, 1000) for entries in (10, 100, 990)] == ["coo", "bitmap", "dense"]
    assert bytes_by_dimension("auto", 10, 1000) == bytes_by_dimension("coo", 10, 1000)
    assert bytes_by_dimension("auto", 100, 1000) == (16 + 400, 0.125)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
    st.integers(1, 90),
    st.sampled_from(["auto", "coo", "bitmap", "dense"]),
    st.data(),
)
def test_rows_are_the_messages_of_each(
    seed: int, rows: int, dimension: int, form: str, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    entries = data.draw(st.integers(0, dimension))
    drawn = [rng.choice(dimension, entries, replace=False) for _ in range(rows)]
    indices = np.sort(np.array(drawn, np.int32).reshape(rows, entries), axis=1)
    values = rng.standard_normal((rows, entries)).astype(np.float32)
    messages = np.stack([encode(form, *each, dimension).data for each in zip(indices, values, strict=True)])
    encoded = encode_rows(form, indices, values, dimension)
    shortcut = entries > 0 and form_in_use(form, entries, dimension) != "dense"
    assert (encoded is not None) == shortcut
    if encoded is not None:
        np.testing.assert_array_equal(encoded, messages)
    tail = rng.standard_normal((rows, 3)).astype(np.float32)
    read = decode_rows(np.concatenate((messages, tail.view(np.uint8)), axis=1), dimension, tail_length=3)
    assert shortcut <= (read is not None)
    for number, each in enumerate(read or ()):
        np.testing.assert_array_equal(each.indices, indices[number])
        np.testing.assert_array_equal(each.values, values[number])
        np.testing.assert_array_equal(each.tail, tail[number])
        assert each.indices.dtype == np.int32


def test_rows_that_differ_are_read_one_by_one() -> None:
    indices, values = np.array([1, 4], np.int32), np.array([1.0, 2.0], np.float32)
    coo = encode("coo", indices, values, 9).data
    bitmap = encode("bitmap", indices[:1], values[:1], 9).data
    long_bitmap = encode("bitmap", indices, values, 9).data
    other = encode("coo", indices, values, 10).data
    assert decode_rows(np.stack((coo, other)), 9) is None
    broken = np.stack((long_bitmap, long_bitmap))
    broken[1, HEADER_BYTES] |= 0x80  # a third position
    assert decode_rows(broken, 9) is None
    with pytest.raises(WireError, match="3 positions"):
        decode(broken[1], 9)
    with pytest.raises(WireError):
        decode_rows(bitmap[None, :-1], 9)
    float16 = encode("coo", indices, values, 9, value_type="float16").data
    assert decode_rows(float16[None], 9) is None

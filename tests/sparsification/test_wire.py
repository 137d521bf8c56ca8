"""Bytes of the wire forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.sparsification.wire import FORMS, HEADER_BYTES, message_bytes


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


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_auto_is_never_larger_than_a_form_that_tells_the_positions(entries: int, more: int) -> None:
    dimension = entries + more
    automatic = message_bytes("auto", entries, dimension)
    assert automatic == min(message_bytes(form, entries, dimension) for form in ("coo", "bitmap", "dense"))
    assert automatic >= message_bytes("values", entries, dimension)


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="'csr', allowed are auto, coo"):
        message_bytes("csr", 1, 2)
    for form in FORMS:
        with pytest.raises(ValueError, match="allowed are 0 to 2"):
            message_bytes(form, 3, 2)

"""Every method, in every form of messages: nothing gets lost between what is accumulated, sent and used."""

from __future__ import annotations

import numpy as np
import pytest

from fedmpi.config import parts
from fedmpi.sparsification import BUILT_IN, Method, SparseMethod, WireCodec
from fedmpi.sparsification.error_feedback import take_out
from fedmpi.sparsification.wire import VALUE_BYTES
from fedmpi.testing import check_sparsification

METHODS = {
    name: part
    for name in BUILT_IN
    if isinstance(part := parts.build("sparsification.method", name, {}, Method), SparseMethod)
}
OWN_FORM = [name for name, method in METHODS.items() if method.codec is not None]
METHODS["threshold"] = parts.build("sparsification.method", "threshold", {"value": 2000.0}, SparseMethod)


@pytest.mark.parametrize("value_type", VALUE_BYTES)
@pytest.mark.parametrize("form", ["auto", "coo", "bitmap", "dense"])
@pytest.mark.parametrize("name", [name for name in METHODS if name not in OWN_FORM])
def test_a_method_keeps_its_accounts(name: str, form: str, value_type: str) -> None:
    form = "values" if METHODS[name].coordinates is not None else form
    check_sparsification(METHODS[name], WireCodec(form, value_type), examples=20)


@pytest.mark.parametrize("name", OWN_FORM)
def test_a_method_with_a_form_of_its_own_keeps_its_accounts(name: str) -> None:
    check_sparsification(METHODS[name])


def test_what_was_used_is_taken_out_and_nothing_else() -> None:
    accumulated = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    indices, arrived = np.array([0, 2, 3], np.int32), np.array([1.0, 2.5, 4.0], np.float32)
    take_out(accumulated, indices, arrived, np.array([False, True, True]))
    assert accumulated.tolist() == [1.0, 2.0, 0.5, 0.0]

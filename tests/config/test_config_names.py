"""The names in the configuration are those of the parts."""

from fedmpi.config.names import AVAILABLE
from fedmpi.learning.losses import LOSSES
from fedmpi.sparsification.wire import FORMS, VALUE_BYTES


def test_available_names_are_those_of_the_tables():
    assert set(AVAILABLE["training.loss"]) == set(LOSSES)
    assert set(AVAILABLE["sparsification.wire"]) == set(FORMS)
    assert set(AVAILABLE["sparsification.value_type"]) == set(VALUE_BYTES)

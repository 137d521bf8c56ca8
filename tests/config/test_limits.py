"""The names in the configuration are those of the parts."""

from fedmpi.config.limits import CHOICES
from fedmpi.learning.losses import LOSSES
from fedmpi.sparsification.wire import FORMS, VALUE_BYTES


def test_available_names_are_those_of_the_tables():
    assert set(CHOICES["training.loss"]) == set(LOSSES)
    assert set(CHOICES["sparsification.wire"]) == set(FORMS)
    assert set(CHOICES["sparsification.value_type"]) == set(VALUE_BYTES)

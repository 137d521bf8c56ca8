import pytest

from fedmpi.config.schema import SparsificationConfig
from fedmpi.sparsification import exchange_period, fixed_k, wire_form


@pytest.mark.parametrize(
    ("section", "k", "period", "form"),
    [
        (SparsificationConfig(), 1000, 1, "dense"),
        (SparsificationConfig(method="fab", k=7), 7, 1, "auto"),
        (SparsificationConfig(method="fab", k_fraction=0.0001, wire="coo"), 1, 1, "coo"),
        (SparsificationConfig(method="periodic", k_fraction=0.25), 250, 1, "values"),
        (SparsificationConfig(method="fedavg", k=7), 7, 72, "dense"),
        (SparsificationConfig(method="fedavg", k=500), 500, 1, "dense"),
    ],
)
def test_settings_of_a_model_with_a_thousand_parameters(
    section: SparsificationConfig, k: int, period: int, form: str
) -> None:
    assert (fixed_k(section, 1000), exchange_period(section, 1000), wire_form(section)) == (k, period, form)


def test_the_period_of_fedavg_matches_the_traffic_of_pairs() -> None:
    """METHODS: D = 444,062 and k = 1000 make ceil(222.031) rounds."""
    assert exchange_period(SparsificationConfig(method="fedavg", k=1000), 444_062) == 223
    with pytest.raises(ValueError, match="k is 1001"):
        exchange_period(SparsificationConfig(method="fedavg", k=1001), 1000)

import pytest

from fedmpi.config.schema import SparsificationConfig
from fedmpi.sparsification import WireCodec
from fedmpi.sparsification.settings import codec_of, exchange_period, fixed_k, method_of


@pytest.mark.parametrize(
    ("section", "k", "period", "codec"),
    [
        (SparsificationConfig(), 1000, 1, WireCodec("dense")),
        (SparsificationConfig(method="fab", k=7), 7, 1, WireCodec("auto")),
        (SparsificationConfig(method="fab", k_fraction=0.0001, wire="coo"), 1, 1, WireCodec("coo")),
        (SparsificationConfig(method="fab", k=7, value_type="float16"), 7, 1, WireCodec("auto", "float16")),
        (SparsificationConfig(method="periodic", k_fraction=0.25), 250, 1, WireCodec("values")),
        (SparsificationConfig(method="fedavg", k=7), 7, 72, WireCodec("dense")),
        (SparsificationConfig(method="fedavg", k=500), 500, 1, WireCodec("dense")),
    ],
)
def test_settings_of_a_model_with_a_thousand_parameters(
    section: SparsificationConfig, k: int, period: int, codec: WireCodec
) -> None:
    method = method_of(section)
    assert fixed_k(section, method, 1000) == k
    assert exchange_period(section, method, 1000) == period
    assert codec_of(section, method) == codec


def test_the_period_of_fedavg_matches_the_traffic_of_pairs() -> None:
    """D = 444,062 and k = 1000 make ceil(222.031) rounds."""
    section = SparsificationConfig(method="fedavg", k=1000)
    assert exchange_period(section, method_of(section), 444_062) == 223
    with pytest.raises(ValueError, match="k is 1000"):
        exchange_period(section, method_of(section), 999)

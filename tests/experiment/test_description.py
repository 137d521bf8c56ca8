"""What of a run varies, and where its emulated times rest on the constant of another model."""

import pytest

from fedmpi.config import loads
from fedmpi.emulation.devices import assign
from fedmpi.experiment.description import borrowed_constant, methods, varying
from fedmpi.experiment.parts import resolve
from fedmpi.learning.flat import FlatModel, Layer
from fedmpi.learning.models import build

ADAPTIVE = ["sparsification.method=fab", "k_control.method=ogd_sign"]
LINEAR = ["emulation.compute.model=linear", "training.batch_size=20"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ()),
        (["sparsification.method=fab", "sparsification.k=5"], ()),
        (ADAPTIVE, ("k",)),
        (["pruning.method=prunefl"], ("density",)),
        (["pruning.method=lottery_reinit", "pruning.ticket=x"], ()),
        ([*ADAPTIVE, "pruning.method=snip", "pruning.target_density=0.1"], ("k", "density")),
    ],
)
def test_what_varies(overrides, expected):
    assert varying(resolve(loads("", overrides))) == expected


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ([], "sparsification dense; pruning none; compute model unit; clock virtual"),
        (["sparsification.method=fab", "sparsification.k=5"], "sparsification fab, k 5; "),
        (
            ["sparsification.method=fedavg", "sparsification.k_fraction=0.25"],
            "sparsification fedavg, k 0.25 D; ",
        ),
        (ADAPTIVE, "sparsification fab, k by ogd_sign; "),
        (
            ["pruning.method=prunefl", "pruning.initial.where=server", "pruning.initial.charged=false"],
            "; pruning prunefl, initial pruning at server; ",
        ),
        (["emulation.clock=realtime", "emulation.time_scale=0.1"], "clock realtime, time scale 0.1"),
    ],
)
def test_methods_in_words(overrides, text):
    assert text in methods(resolve(loads("", overrides)))


def layers(name: str) -> list[Layer]:
    config = loads("", [f"model.name={name}", "model.hidden=[64]"])
    shape, classes = ((1, 8, 8), 10) if name == "mlp" else ((1, 28, 28), 62)
    return FlatModel(build(config.model, shape, classes, 0)).layers


def note(*overrides: str, model: str = "mlp") -> str:
    config = loads("", [*overrides, f"model.name={model}"])
    return borrowed_constant(config, assign(config, 0), layers(model))


def test_a_model_without_a_table_rests_on_the_constant_of_conv2():
    told = note(*LINEAR, 'emulation.compute.profile={"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}')
    assert "raspberry-pi-3 was not measured with mlp, and 100% of the 2 s of a step are the constant" in told
    assert "conv2" in told
    assert "\n" not in told


def test_a_model_with_a_table_and_other_time_models_rest_on_nothing_else():
    assert note(*LINEAR, "emulation.compute.profile=raspberry-pi-4", model="conv2") == ""
    assert note("emulation.compute.profile=raspberry-pi-4") == ""
    assert note("emulation.compute.model=measured") == ""


def test_devices_of_a_file_have_constants_of_their_own(tmp_path):
    path = tmp_path / "devices.csv"
    header = "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,constant_s,seconds_per_parameter"
    path.write_text("\n".join([header, *["mine,1,1,0,0.5,1e-9"] * 10]))
    assert note(*LINEAR, f"emulation.compute.profile={path}") == ""

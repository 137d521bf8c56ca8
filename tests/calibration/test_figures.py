"""Figures are found where the model holds; the errors of the four published tables are those in the documentation."""

import re
from pathlib import Path

import numpy as np
import pytest

from fedmpi.calibration.figures import DENSITIES, Table, factor, fit_figures, left_out
from fedmpi.config.schema import ModelConfig
from fedmpi.emulation.compute import Work
from fedmpi.emulation.flops import step_cost
from fedmpi.emulation.profiles import Figures, StepCost, built_in_devices, left_out_factors
from fedmpi.experiment.work import count_work
from fedmpi.learning.models import build_flat

MODELS = {
    "conv2": ((1, 28, 28), 62),
    "vgg11": ((3, 32, 32), 10),
    "resnet18": ((3, 168, 168), 100),
    "conv4": ((3, 84, 84), 2),
}
DOCS = Path(__file__).parents[2] / "docs" / "devices.md"


@pytest.fixture(scope="module")
def tables():
    device = built_in_devices()["raspberry-pi-4"]
    return {
        name: Table(
            device.models[name],
            count_work(build_flat(ModelConfig(name), shape, classes, 0), shape, 2),
            device.batch_size,
        )
        for name, (shape, classes) in MODELS.items()
    }


def test_exact_tables_give_their_figures():
    true = Figures(3e-8, 5e9)
    works = [
        Work((1e6, 2e7), (100, 9000), 3e5, 2e4, 10_000),
        Work((5e8,), (60,), 0.0, 1e5, 1_000),
        Work((1e3, 1e3), (500, 600), 0.0, 50.0, 4_000_000),
    ]
    tables = [Table(step_cost(true, work, 20), work, 20) for work in works]
    found = fit_figures(tables)
    assert found.overhead_s == pytest.approx(3e-8, rel=1e-6)
    assert found.flops_per_s == pytest.approx(5e9, rel=1e-6)
    for table in tables:
        np.testing.assert_allclose(table.ratios(found), 1.0, rtol=1e-6)


def test_no_figure_is_negative():
    """Steps that take less the more is computed: all of the time is overhead then."""
    tables = [
        Table(StepCost(seconds, (0.0,), seconds), Work((flops,), (100,), 0.0, 1e3, 100), 20)
        for seconds, flops in ((3.0, 1e6), (2.0, 1e9), (1.0, 1e12))
    ]
    found = fit_figures(tables)
    assert found.overhead_s > 0
    assert found.flops_per_s > 0


def test_a_factor_counts_too_long_and_too_short_alike():
    assert factor(np.array([2.0, 0.5])) == pytest.approx(2.0)
    assert factor(np.array([1.0, 1.0])) == 1.0


def test_the_built_in_figures_are_the_fit_of_all_tables(tables):
    found = fit_figures(list(tables.values()))
    known = built_in_devices()["raspberry-pi-4"].figures
    assert known.overhead_s == pytest.approx(found.overhead_s, rel=1e-3)
    assert known.flops_per_s == pytest.approx(found.flops_per_s, rel=1e-3)


LEFT_OUT = {
    "conv2": [1.10, 0.77, 0.67, 0.62, 0.60],
    "vgg11": [0.14, 0.13, 0.12, 0.11, 0.11],
    "resnet18": [12.06, 7.51, 4.19, 2.71, 1.87],
    "conv4": [2.07, 3.26, 3.57, 3.70, 3.77],
}
"""Predicted over published seconds at each of ``DENSITIES``, by the figures fitted to the other three tables."""


def test_the_errors_of_tables_left_out_are_those_that_are_told(tables):
    found = left_out(tables)
    assert DENSITIES == (1.0, 0.5, 0.2, 0.1, 0.05)
    for name, ratios in LEFT_OUT.items():
        np.testing.assert_allclose(found[name], ratios, rtol=0.05)
        assert left_out_factors()[name] == pytest.approx(factor(found[name]), rel=0.01)
    text = DOCS.read_text()
    for name, ratios in LEFT_OUT.items():
        row = re.search(rf"^\| `{name}` \|.*$", text, flags=re.MULTILINE)
        assert row is not None
        cells = [float(cell) for cell in re.findall(r"\d+\.\d+", row.group())]
        assert cells == [*ratios, left_out_factors()[name]]

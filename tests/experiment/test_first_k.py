from math import log

from fedmpi.cli.estimate import first_k
from fedmpi.config import loads, parts
from fedmpi.experiment.first_k import start
from fedmpi.experiment.parts import resolve
from fedmpi.k_control import Controller
from fedmpi.k_control.accordion import AccordionState, accordion
from fedmpi.k_control.continuous_bandit import BanditState
from fedmpi.k_control.exp3 import Exp3State
from fedmpi.learning.flat import Layer


def first_state(*overrides: str, dimension: int = 1000):
    config = loads("", ["sparsification.method=fab", *overrides])
    controller = parts.build("k_control.method", config.k_control.method, {}, Controller)
    return start(config, controller, dimension, fixed_k=7)


def test_the_fixed_k_is_the_one_given() -> None:
    assert (first_state().k, first_state().k_probe) == (7, 0)


def test_a_controller_knows_the_tensors_and_which_have_one_dimension() -> None:
    """Also where such a tensor is none that could be pruned, as that of a recurrent layer."""
    layers = (
        Layer("cell", 0, 600, (20, 30), prunable=False),
        Layer("bias", 600, 620, (20,), prunable=False),
        Layer("weight", 620, 1000, (19, 20), prunable=True),
    )
    config = loads("", ["sparsification.method=fab", "k_control.method=accordion"])
    state = start(config, accordion(high=0.5), 1000, 0, layers)
    assert isinstance(state, AccordionState)
    assert state.sizes == (600, 20, 380)
    assert state.compressed == (True, False, True)
    assert state.k == 300 + 20 + 190
    assert first_k(resolve(config), 1000, layers) == int(0.99 * 600) + 20 + int(0.99 * 380)


def test_arms_and_horizon_are_the_configured_ones() -> None:
    state = first_state("k_control.method=exp3", "k_control.arms=5", "k_control.horizon_rounds=70")
    assert isinstance(state, Exp3State)
    assert (state.k_min, state.k_max, state.arms) == (2, 1000, 5)
    assert state.gamma == (log(5) / (5 * 70)) ** 0.5


def test_the_horizon_is_that_of_the_run_where_none_is_given() -> None:
    state = first_state("k_control.method=continuous_bandit", "experiment.rounds=123")
    assert isinstance(state, BanditState)
    assert state.horizon_rounds == 123


def test_bounds_of_a_tiny_model_keep_their_order() -> None:
    state = first_state("k_control.method=ogd_sign", "k_control.k_initial_fraction=0.002")
    assert (state.k, state.k_probe) == (2, 1)
    tiny = first_state("k_control.method=ogd_sign", "k_control.k_initial_fraction=0.01", dimension=3)
    assert tiny.k == 1

"""Who chooses k for the next round. All controllers are used alike:

    controller = CONTROLLERS[name]
    state = controller.init(setup, draw)
    state = controller.step(state, observation, draw)  # after every round; state.k, state.k_probe
    state = controller.state.from_dict(state.to_dict())  # a checkpoint

To add one, write a module with ``init`` and ``step`` over a subclass of ``State``, and its line here.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from fedmpi.k_control import continuous_bandit, exp3, fixed, ogd_sign, ogd_value
from fedmpi.k_control.interface import Draw, Observation, Setup, State


class Controller(NamedTuple):
    """The two pure functions of a controller, and the type of the state that they pass on."""

    init: Callable[[Setup, Draw], State]
    step: Callable[[Any, Observation, Draw], State]
    state: type[State]


CONTROLLERS: dict[str, Controller] = {
    "fixed": Controller(fixed.init, fixed.step, State),
    "ogd_sign": Controller(ogd_sign.init, ogd_sign.step, ogd_sign.SignState),
    "ogd_value": Controller(ogd_value.init, ogd_value.step, ogd_value.ValueState),
    "exp3": Controller(exp3.init, exp3.step, exp3.Exp3State),
    "continuous_bandit": Controller(
        continuous_bandit.init, continuous_bandit.step, continuous_bandit.BanditState
    ),
}

__all__ = ["CONTROLLERS", "Controller", "Draw", "Observation", "Setup", "State"]

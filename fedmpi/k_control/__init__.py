"""Who chooses k for the next round.

A controller is one file with one descriptor (``interface.Controller``). To add one, write that file; ``BUILT_IN`` gives
it a name.
"""

from fedmpi.k_control.interface import (
    Controller,
    Draw,
    Magnitudes,
    Observation,
    Setup,
    State,
    clip,
    round_stochastically,
)

BUILT_IN = {
    "fixed": "fedmpi.k_control.fixed:CONTROLLER",
    "ogd_sign": "fedmpi.k_control.ogd_sign:CONTROLLER",
    "ogd_value": "fedmpi.k_control.ogd_value:CONTROLLER",
    "exp3": "fedmpi.k_control.exp3:CONTROLLER",
    "continuous_bandit": "fedmpi.k_control.continuous_bandit:CONTROLLER",
    "accordion": "fedmpi.k_control.accordion:accordion",
    "norm_rate": "fedmpi.k_control.norm_rate:norm_rate",
}

__all__ = [
    "BUILT_IN",
    "Controller",
    "Draw",
    "Magnitudes",
    "Observation",
    "Setup",
    "State",
    "clip",
    "round_stochastically",
]

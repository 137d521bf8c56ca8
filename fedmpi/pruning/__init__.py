"""Which parameters exist: masks over the flat vector, and the methods that choose them.

A method is one file with one descriptor (``interface.Method``). To add one, write that file; ``BUILT_IN`` gives it a
name.
"""

from fedmpi.pruning.interface import NONE, Change, Losses, Method, Needs, Observation, Setup, State
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.round_time import RoundTime

BUILT_IN = {
    "none": "fedmpi.pruning.interface:NONE",
    "prunefl": "fedmpi.pruning.prunefl:METHOD",
    "snip": "fedmpi.pruning.snip:METHOD",
    "iterative": "fedmpi.pruning.iterative:METHOD",
    "online": "fedmpi.pruning.online:METHOD",
    "fedtiny": "fedmpi.pruning.fedtiny:fedtiny",
    "feddst": "fedmpi.pruning.feddst:feddst",
    "lottery_reinit": "fedmpi.pruning.lottery:REINIT",
    "lottery_random": "fedmpi.pruning.lottery:RANDOM",
}

__all__ = [
    "BUILT_IN",
    "NONE",
    "Change",
    "Losses",
    "Mask",
    "Method",
    "Needs",
    "Observation",
    "RoundTime",
    "Setup",
    "State",
]

"""A sweep: many runs from one TOML file, a base configuration and axes along which it is varied.

    # The first line says what it is.
    base = "quickstart"               # a preset, a file (relative to this one), or tables: [base.data] ...
    seeds = [1, 2, 3]                 # experiment.seed; without it, the base's own

    [axes.method]                     # an axis, and its named points: what each changes in the base
    fab = {}
    dense = { sparsification.method = "dense" }

    [axes.link]
    slow = { emulation.network.uplink_mbit_per_s = 0.1 }
    fast = { emulation.network.uplink_mbit_per_s = 10.0 }

    [[grids]]                         # every combination of the points of some axes, with every seed
    axes = ["method", "link"]
    exclude = [{ method = "dense", link = "slow" }]

    [[grids]]                         # one grid after another
    axes = ["method"]
    points = { method = ["dense"] }   # these points alone
    seeds = [1]                       # instead of the file's

Without ``[[grids]]`` there is one of all axes. A run is named after its points and its seed (``fab-slow-s1``);
one that two grids have in common is run once. In a grid no two axes may change the same key.
"""

from fedmpi.sweeps.outcome import Outcome, OutcomeError, failure_text, read_outcome, record_end, record_start
from fedmpi.sweeps.plan import STUDIES, PlannedRun, Sweep, plan
from fedmpi.sweeps.run_states import Progress, is_finished, progress, state, write_list

__all__ = [
    "STUDIES",
    "Outcome",
    "OutcomeError",
    "PlannedRun",
    "Progress",
    "Sweep",
    "failure_text",
    "is_finished",
    "plan",
    "progress",
    "read_outcome",
    "record_end",
    "record_start",
    "state",
    "write_list",
]

"""Tables and figures of runs: what a trace is read for.

    from fedmpi.analysis import load, pooled, table
    table(pooled(load(["runs/fab", "runs/my-sweep"]).runs))     # pandas

Everything here reads traces alone, and needs neither torch nor MPI. Figures need matplotlib (the extra ``analysis``),
and are made by the modules ``lines``, ``kinds`` and ``studies``, which are imported where they are used.
"""

from fedmpi.analysis.groups import Configuration, pooled
from fedmpi.analysis.runs import AnalysisError, Loaded, Run, load
from fedmpi.analysis.statistics import bootstrap_interval, paired
from fedmpi.analysis.summary import comparisons, summarized, table

__all__ = [
    "AnalysisError",
    "Configuration",
    "Loaded",
    "Run",
    "bootstrap_interval",
    "comparisons",
    "load",
    "paired",
    "pooled",
    "summarized",
    "table",
]

"""fedmpi: federated learning on emulated edge devices, over MPI.

    import fedmpi
    trace = fedmpi.run("quickstart", "experiment.rounds=50", ranks=3)
    trace.rounds[["end_s", "test_accuracy"]]

``run`` starts an experiment and returns its trace, ``sweep`` many, ``load_config`` reads a configuration, and
``read_trace`` a trace. Nothing is imported before it is used: reading a trace needs neither torch nor MPI.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmpi.api import RunError, run, sweep
    from fedmpi.config import Config, ConfigError
    from fedmpi.config import load as load_config
    from fedmpi.trace import Trace, TraceError
    from fedmpi.trace import read as read_trace

__version__ = "0.2.0"

__all__ = [
    "Config",
    "ConfigError",
    "RunError",
    "Trace",
    "TraceError",
    "__version__",
    "load_config",
    "read_trace",
    "run",
    "sweep",
]

_PLACES = {
    "Config": ("fedmpi.config", "Config"),
    "ConfigError": ("fedmpi.config", "ConfigError"),
    "RunError": ("fedmpi.api", "RunError"),
    "Trace": ("fedmpi.trace", "Trace"),
    "TraceError": ("fedmpi.trace", "TraceError"),
    "load_config": ("fedmpi.config", "load"),
    "read_trace": ("fedmpi.trace", "read"),
    "run": ("fedmpi.api", "run"),
    "sweep": ("fedmpi.api", "sweep"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'fedmpi' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})

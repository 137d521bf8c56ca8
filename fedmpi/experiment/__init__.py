"""An experiment from its configuration to its trace; the one place where all parts meet."""

from fedmpi.experiment.main import main

__all__ = ["main"]

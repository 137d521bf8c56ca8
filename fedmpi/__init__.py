"""fedmpi: federated learning on emulated edge devices, over MPI."""

__version__ = "0.1.0"

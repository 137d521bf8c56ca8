"""Trained models for use elsewhere: files of them, and modules whose pruned weights cost nothing.

``load`` gives an exported file back as a ``torch.nn.Module``; ``read_run`` and ``write`` make such a file of a run
folder; ``sparsify`` prunes layers of any module. Nothing here needs MPI.
"""

from fedmpi.export.csr import Pattern
from fedmpi.export.file import FORMATS, ExportError, load, metadata_of, write
from fedmpi.export.layers import KERNELS, SparseConv2d, SparseLinear, sparsify
from fedmpi.export.run_folder import TrainedModel, read_run
from fedmpi.export.stored_model import Factory

__all__ = [
    "FORMATS",
    "KERNELS",
    "ExportError",
    "Factory",
    "Pattern",
    "SparseConv2d",
    "SparseLinear",
    "TrainedModel",
    "load",
    "metadata_of",
    "read_run",
    "sparsify",
    "write",
]

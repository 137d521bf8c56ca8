"""What clients send of their accumulated gradients, and what the server sends back.

A method is one file with one descriptor (``interface``): what a client chooses, what the server selects of it, and the
form of the messages. To add one, write that file; ``BUILT_IN`` gives it a name.
"""

from fedmpi.sparsification.codec import Codec, WireCodec
from fedmpi.sparsification.interface import Choice, DenseMethod, Method, ServerMemory, SparseMethod, largest
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at, union_of
from fedmpi.sparsification.wire import Entries, Message

BUILT_IN = {
    "dense": "fedmpi.sparsification.dense:DENSE",
    "fab": "fedmpi.sparsification.fab:METHOD",
    "fub_flat": "fedmpi.sparsification.fub_flat:METHOD",
    "fub_tree": "fedmpi.sparsification.fub_tree:METHOD",
    "unidirectional": "fedmpi.sparsification.unidirectional:METHOD",
    "periodic": "fedmpi.sparsification.periodic:METHOD",
    "fedavg": "fedmpi.sparsification.dense:FEDAVG",
    "random_k": "fedmpi.sparsification.choices:RANDOM_K",
    "layer_top_k": "fedmpi.sparsification.choices:LAYER_TOP_K",
    "threshold": "fedmpi.sparsification.choices:threshold",
    "stc": "fedmpi.sparsification.stc:stc",
    "qsgd": "fedmpi.sparsification.qsgd:qsgd",
    "ef21": "fedmpi.sparsification.ef21:METHOD",
}

__all__ = [
    "BUILT_IN",
    "Choice",
    "Codec",
    "DenseMethod",
    "Entries",
    "Message",
    "Method",
    "Selection",
    "ServerMemory",
    "SparseMethod",
    "Uploads",
    "WireCodec",
    "largest",
    "selection_at",
    "union_of",
]

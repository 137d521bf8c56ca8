"""Models as safetensors files: the full tensors, or pruned weights in CSR form, and back as a module.

A file holds the tensors of the model's ``state_dict`` under their names. In the sparse format a weight of which
something is pruned, ``fc1.weight``, is three tensors instead: ``fc1.weight.crow_indices`` int32 (rows + 1,),
``fc1.weight.col_indices`` int32 (active,) and ``fc1.weight.values`` float32 (active,), of the matrix that has a row
for each output channel; that of a convolution is its (out, in, height, width) weight with the last three dimensions
flattened. The file's metadata say the rest; their values are JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fedmpi import __version__
from fedmpi.config.errors import one_line, shortened
from fedmpi.config.schema import ModelConfig
from fedmpi.export.csr import Pattern
from fedmpi.export.layers import sparsify
from fedmpi.export.run_folder import TrainedModel
from fedmpi.export.stored_model import Factory, ForeignModel, build_stored, positive_integers
from fedmpi.learning.flat import Layer

FORMATS = ("dense", "sparse")

_LONGEST = 240
_CROW, _COL, _VALUES = ".crow_indices", ".col_indices", ".values"


class ExportError(ValueError):
    """A model file that cannot be written or read; the message names it and says why."""


def write(trained: TrainedModel, path: Path, form: str) -> None:
    """Write the model to ``path`` in the format ``form``; a file that is there is replaced at once, or stays.

    Raises ExportError.
    """
    tensors = {name: tensor.clone() for name, tensor in trained.state.items()}
    if form == "sparse":
        for layer in trained.layers:
            if layer.prunable and active_of(trained, layer) < layer.stop - layer.start:
                pattern, values = csr(trained, layer)
                del tensors[layer.name]
                tensors[layer.name + _CROW] = pattern.crow_indices
                tensors[layer.name + _COL] = pattern.col_indices
                tensors[layer.name + _VALUES] = values
    metadata = _metadata(trained, form)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(save(tensors, {key: json.dumps(value) for key, value in metadata.items()}))
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from error


def load(path: str | Path, kernels: str = "auto", factory: Factory | None = None) -> nn.Module:
    """The model in an exported file, in evaluation mode, on the CPU; it can be trained further.

    The module of a dense file has the layers of the model that was trained. In that of a sparse file pruned weights
    stay zero whatever it is trained with, and ``kernels`` says how it computes: ``sparse``, ``dense`` or ``auto`` (see
    ``fedmpi.export.sparsify``). A file is data: of a model that is none of fedmpi's own, ``factory`` makes the module,
    as ``factory(input_shape, classes)``. Raises ExportError for a file that is none of these, that needs a factory, or
    is damaged.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    try:
        model = metadata["model"]
        module = build_stored(
            ModelConfig(str(model["name"]), positive_integers(model["hidden"], "hidden")),
            positive_integers(metadata["input_shape"], "input_shape"),
            positive_integers([metadata["classes"]], "classes")[0],
            int(metadata["seed"]),
            factory,
        )
        shapes = {name: tensor.shape for name, tensor in module.state_dict().items()}
        sparse = {}
        for name in [key.removesuffix(_CROW) for key in tensors if key.endswith(_CROW)]:
            rows, columns = shapes[name][0], shapes[name][1:].numel()
            crow, col, values = (tensors.pop(name + part) for part in (_CROW, _COL, _VALUES))
            sparse[name] = (Pattern(crow, col, rows, columns), values)
        missing, unexpected = module.load_state_dict(tensors, strict=False)
        wrong = sorted({*unexpected, *missing} - sparse.keys())
        if wrong:
            raise ValueError(f"{', '.join(wrong)} missing or of no use")
        draw = torch.Generator().manual_seed(0)
        sample = torch.rand((2, *metadata["input_shape"]), generator=draw)
        return sparsify(module, sparse, kernels, sample).eval()
    except ForeignModel as error:
        raise ExportError(
            f"{path}: {error}; load it with factory=, a function of input shape and classes"
        ) from error
    except (LookupError, TypeError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        problem = shortened(one_line(str(error)), _LONGEST)
        raise ExportError(f"{path}: holds no model of fedmpi {__version__}: {problem}") from error


def metadata_of(path: str | Path) -> dict[str, Any]:
    """What an exported file says of its model: see ``_metadata``. Raises ExportError."""
    return _read(Path(path), tensors=False)[0]


def active_of(trained: TrainedModel, layer: Layer) -> int:
    """The number of active parameters of a layer."""
    return int(trained.mask.active_per_layer([layer])[0])


def csr(trained: TrainedModel, layer: Layer) -> tuple[Pattern, Tensor]:
    """The pattern of a layer's weight as a matrix (out, ...), and its values."""
    active = torch.tensor(trained.mask.flags()[layer.start : layer.stop]).view(layer.shape[0], -1)
    weight = trained.vector[layer.start : layer.stop].view(layer.shape[0], -1)
    return Pattern.of(active), weight[active]


def csr_bytes(active: int, shape: tuple[int, ...]) -> int:
    """The bytes of a weight in CSR form; of one of which nothing is pruned, dense."""
    total = torch.Size(shape).numel()
    return 8 * active + 4 * (shape[0] + 1) if active < total else 4 * total


def _metadata(trained: TrainedModel, form: str) -> dict[str, Any]:
    """``layers``: shape and number of active parameters of every prunable weight; ``rounds``: those that were run."""
    layers = [layer for layer in trained.layers if layer.prunable]
    return {
        "format": f"fedmpi-{form}",
        "fedmpi_version": __version__,
        "name": trained.config.experiment.name,
        "model": {"name": trained.config.model.name, "hidden": trained.config.model.hidden},
        "input_shape": trained.input_shape,
        "classes": trained.classes,
        "seed": trained.config.experiment.seed,
        "rounds": trained.rounds,
        "density": trained.mask.density(layers),
        "layers": {
            layer.name: {"shape": layer.shape, "active": active_of(trained, layer)} for layer in layers
        },
    }


def _read(path: Path, tensors: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            found: Mapping[str, str] = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path}: cannot be read as safetensors: {error}") from error
    try:
        metadata = {key: json.loads(value) for key, value in found.items()}
    except (ValueError, RecursionError):
        metadata = {}
    if metadata.get("format") not in [f"fedmpi-{form}" for form in FORMATS]:
        raise ExportError(f"{path}: is no model that fedmpi exported")
    return metadata, values

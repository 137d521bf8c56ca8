"""Exported files: what is in them, that they come back as they were, and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fedmpi.config import Config, loads
from fedmpi.export import ExportError, SparseLinear, TrainedModel, load, metadata_of, write
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build
from fedmpi.pruning.mask import Mask

SHAPES = {
    "mlp": (1, 8, 8),
    "cnn": (1, 12, 12),
    "conv2": (1, 8, 8),
    "conv4": (3, 16, 16),
    "vgg11": (3, 32, 32),
    "resnet18": (3, 40, 40),
}


def trained(name: str, density: float) -> TrainedModel:
    """A model of random weights, batch-norm statistics included, of which only the first layer is whole."""
    config: Config = loads(f"[experiment]\nseed = 7\n[model]\nname = {name!r}\nhidden = [9]")
    model = FlatModel(build(config.model, SHAPES[name], 5, 7))
    draw = np.random.default_rng(2)
    active = draw.random(model.parameter_count) < density
    for index, layer in enumerate(model.layers):
        if index == 0 or not layer.prunable:
            active[layer.start : layer.stop] = True
    mask = Mask.of(active)
    vector = model.vector.numpy()
    vector += draw.uniform(0.01, 0.02, vector.size).astype(np.float32)
    mask.apply(vector[: model.parameter_count])
    state = model.module.state_dict()
    return TrainedModel(config, model.layers, model.vector, state, mask, SHAPES[name], 5, rounds=40)


@pytest.mark.parametrize("name", SHAPES)
def test_both_formats_come_back_and_agree(name, tmp_path):
    source = trained(name, 0.2)
    for form in ("dense", "sparse"):
        write(source, tmp_path / form, form)
    x = torch.rand((3, *SHAPES[name]), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole = build(source.config.model, SHAPES[name], 5, 0)
        whole.load_state_dict(source.state)
        expected = whole.eval()(x)
        assert torch.equal(load(tmp_path / "dense")(x), expected)
        assert torch.equal(load(tmp_path / "sparse", "dense")(x), expected)
        for kernels in ("auto", "sparse"):
            torch.testing.assert_close(load(tmp_path / "sparse", kernels)(x), expected, rtol=1e-3, atol=1e-4)
    tensors = load_file(tmp_path / "dense")
    for layer in source.layers:
        pruned = ~source.mask.flags()[layer.start : layer.stop]
        assert not tensors[layer.name].flatten()[torch.from_numpy(pruned)].any()
    assert tensors.keys() == source.state.keys()
    build(source.config.model, SHAPES[name], 5, 0).load_state_dict(tensors)


def test_the_sparse_file_holds_the_active_weights_alone(tmp_path):
    source = trained("conv2", 0.1)
    path = tmp_path / "sparse"
    write(source, path, "sparse")
    tensors = load_file(path)
    first, *others = (layer for layer in source.layers if layer.prunable)
    assert first.name in tensors
    for layer in others:
        active = int(source.mask.active_per_layer([layer])[0])
        assert layer.name not in tensors
        assert (
            tensors[f"{layer.name}.values"].shape == tensors[f"{layer.name}.col_indices"].shape == (active,)
        )
        assert tensors[f"{layer.name}.crow_indices"].shape == (layer.shape[0] + 1,)
        matrix = torch.sparse_csr_tensor(
            tensors[f"{layer.name}.crow_indices"],
            tensors[f"{layer.name}.col_indices"],
            tensors[f"{layer.name}.values"],
            (layer.shape[0], (layer.stop - layer.start) // layer.shape[0]),
            check_invariants=True,
        )
        assert torch.equal(matrix.to_dense().view(layer.shape), source.state[layer.name])
    assert path.stat().st_size < 0.25 * 4 * source.layers[-1].stop
    metadata = metadata_of(path)
    assert metadata["format"] == "fedmpi-sparse"
    assert (metadata["model"]["name"], metadata["input_shape"], metadata["classes"]) == (
        "conv2",
        [1, 8, 8],
        5,
    )
    assert (metadata["seed"], metadata["rounds"]) == (7, 40)
    assert metadata["density"] == source.mask.density(source.layers)
    assert metadata["layers"][first.name] == {"shape": list(first.shape), "active": first.stop - first.start}


def test_a_loaded_sparse_model_trains_and_stays_sparse(tmp_path):
    source = trained("mlp", 0.3)
    write(source, tmp_path / "sparse", "sparse")
    module = load(tmp_path / "sparse", "sparse").train()
    kind = [type(child) for child in module.modules()]
    assert SparseLinear in kind
    x, y = torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    dense = load(tmp_path / "sparse", "dense").train()
    optimizer = torch.optim.SGD(dense.parameters(), lr=0.5)
    torch.nn.functional.cross_entropy(dense(x), y).backward()
    optimizer.step()
    layer = next(layer for layer in source.layers if layer.name == "fc2.weight")
    pruned = torch.from_numpy(~source.mask.flags()[layer.start : layer.stop])
    assert pruned.any()
    assert not dense.get_parameter("fc2.weight").detach().flatten()[pruned].any()


def test_files_that_are_no_exported_models_are_refused(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(ExportError, match=r"model: cannot be read as safetensors: No such file"):
        load(path)
    path.write_bytes(b"garbage" * 10)
    with pytest.raises(ExportError, match="model: cannot be read as safetensors"):
        load(path)
    for metadata in ({"format": "pt"}, {"format": json.dumps("other")}, None):
        save_file({"a": torch.zeros(2)}, path, metadata)
        with pytest.raises(ExportError, match="model: is no model that fedmpi exported"):
            load(path)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("fc2.bias", None, "fc2.bias missing"),
        ("fc2.bias", torch.zeros(3), "size mismatch"),
        ("fc2.weight.values", None, "fc2.weight.values"),
        ("fc2.weight.values", torch.zeros(1), "values"),
        ("fc2.weight.col_indices", torch.full((4,), 99, dtype=torch.int32), "no CSR indices"),
        ("stranger", torch.zeros(1), "stranger missing or of no use"),
    ],
)
def test_damaged_tensors_are_refused(name, tensor, message, tmp_path):
    path = tmp_path / "model"
    write(trained("mlp", 0.5), path, "sparse")
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors.pop(name, None)
    save_file(tensors if tensor is None else {**tensors, name: tensor}, path, metadata)
    with pytest.raises(ExportError, match=message):
        load(path)


def rewrite_metadata(path, **changes):
    """Change what an exported file says of its model."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata | changes)


@pytest.mark.parametrize("form", ["dense", "sparse"])
@pytest.mark.parametrize("name", ["no_such_module:Popen", "subprocess:Popen", "subprocess", "os.path:join"])
def test_code_that_a_file_names_is_neither_imported_nor_called(tmp_path, form, name, monkeypatch):
    path = tmp_path / "model"
    source = trained("mlp", 0.5)
    write(source, path, form)
    rewrite_metadata(path, model=json.dumps({"name": name, "hidden": []}))
    with monkeypatch.context() as patch:
        patch.setattr("importlib.import_module", lambda *_: pytest.fail("imported"))
        with pytest.raises(
            ExportError, match=f'its model "{name}" is code of one.s own.*load it with factory='
        ):
            load(path)
    given = []

    def factory(input_shape, classes):
        given.append((input_shape, classes))
        return build(source.config.model, input_shape, classes, 1)

    expected = source.state
    loaded = load(path, "dense", factory).state_dict()
    assert given == [(SHAPES["mlp"], 5)]
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)


def test_a_factory_of_something_else_is_refused(tmp_path):
    write(trained("mlp", 0.5), tmp_path / "model", "dense")
    with pytest.raises(ExportError, match="the factory gave a dict, expected a torch"):
        load(tmp_path / "model", factory=lambda input_shape, classes: {})
    with pytest.raises(
        ExportError, match=r"^\S+: holds no model of .*(size mismatch|missing or of no use).*$"
    ):
        load(tmp_path / "model", factory=lambda input_shape, classes: torch.nn.Linear(2, 3))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "[" * 100_000),
        ("format", '["fedmpi-dense"]'),
        ("format", '{"a": 1}'),
        ("seed", "9" * 5000),
        ("seed", '"x"'),
        ("seed", "1e999"),
        ("model", "5"),
        ("model", '{"name": "mlp"}'),
        ("model", '{"name": ["mlp"], "hidden": []}'),
        ("model", '{"name": "mlp", "hidden": 5}'),
        ("model", '{"name": "mlp", "hidden": ["a"]}'),
        ("model", '{"name": "mlp", "hidden": [0]}'),
        ("model", '{"name": "mlp", "hidden": [2147483648]}'),
        ("input_shape", "[1, true, 8]"),
        ("input_shape", "[1, 8.0, 8]"),
        ("input_shape", "[]"),
        ("input_shape", "null"),
        ("classes", "-5"),
        ("classes", "[5]"),
        ("classes", "5.0"),
    ],
)
def test_garbage_in_the_metadata_is_refused(tmp_path, key, value):
    path = tmp_path / "model"
    write(trained("mlp", 0.5), path, "dense")
    rewrite_metadata(path, **{key: value})
    with pytest.raises(ExportError, match=r"model: "):
        load(path)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    target = tmp_path / "there"
    target.mkdir()
    (target / "file").write_text("kept")
    with pytest.raises(ExportError, match="there: cannot be written: "):
        write(trained("mlp", 0.5), target, "dense")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]

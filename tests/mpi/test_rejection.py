"""A client whose update is not finite is rejected and recorded, and the round goes on without it."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedmpi import trace

CONFIG = """
[experiment]
rounds = 4
[clients]
count = 3
[data]
dataset = "leaf"
path = "{data}"
partition = "by_writer"
[model]
name = "nan_model:make"
[training]
batch_size = 8
learning_rate = 0.1
"""


@pytest.fixture
def leaf_with_white_writer(tmp_path: Path) -> Path:
    """Three writers; every image of the second is white."""
    draw = np.random.default_rng(0)
    for part, samples in (("train", 12), ("test", 4)):
        users = ["a", "b", "c"]
        content = {
            "users": users,
            "num_samples": [samples] * 3,
            "user_data": {
                user: {
                    "x": (np.ones((samples, 784)) if user == "b" else draw.random((samples, 784))).tolist(),
                    "y": draw.integers(0, 62, samples).tolist(),
                }
                for user in users
            },
        }
        (tmp_path / "leaf" / part).mkdir(parents=True)
        (tmp_path / "leaf" / part / "all_data_0.json").write_text(json.dumps(content), encoding="utf-8")
    return tmp_path / "leaf"


SPARSE = {
    "dense": "",
    "fab": '[sparsification]\nmethod = "fab"\nk = 100\n',
    "fub_tree": '[sparsification]\nmethod = "fub_tree"\nk = 100\nvalue_type = "float16"\n',
    "fedavg": '[sparsification]\nmethod = "fedavg"\nk_fraction = 0.26\n',
}


@pytest.mark.parametrize("method", SPARSE)
def test_not_finite_update_is_rejected(
    launch, tmp_path: Path, leaf_with_white_writer: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "nan.toml"
    config.write_text(CONFIG.format(data=leaf_with_white_writer) + SPARSE[method], encoding="utf-8")
    done = launch(
        3,
        "-m",
        "fedmpi",
        "run",
        config,
        "--output",
        tmp_path / "run",
        "--quiet",
        python_path=Path(__file__).parent,
    )
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("fedmpi: warning: round 0: 1 of 3 updates are not finite and were rejected")
    run = trace.read(tmp_path / "run")
    status = run.clients.pivot(index="round", columns="client", values="status")
    assert (status[1] == "rejected").all()
    assert (status[[0, 2]] == "ok").all(axis=None)
    assert (run.clients.loc[run.clients["client"] == 1, "entries_used"] == 0).all()
    sends = [False, True] * 2 if method == "fedavg" else [True] * 4
    assert (run.clients.loc[run.clients["client"] == 1, "bytes_up"] > 0).tolist() == sends
    assert run.clients.loc[run.clients["client"] == 1, "train_loss"].isna().all()
    assert run.rounds["train_loss"].notna().all()
    assert run.rounds["test_loss"].notna().all()
    assert (run.rounds["dropped"] == 1).all()
    assert (run.events["kind"] == "rejected").sum() == 4

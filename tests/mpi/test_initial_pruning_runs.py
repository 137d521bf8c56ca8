"""Initial pruning on several ranks: zeros stay zeros, all start alike, stop together, and go on on other ranks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from experiments import BASE, INITIAL, PRUNEFL, assert_same_trace

from fedmpi import trace

PROGRAM = Path(__file__).with_name("programs_initial_pruning.py")
SERVER = [*PRUNEFL, "pruning.initial.where=server", "pruning.initial.charged=false"]


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    "overrides",
    [
        INITIAL,
        [*SERVER, "training.momentum=0.5", "training.weight_decay=0.001"],
        [*INITIAL, "sparsification.method=fab", "sparsification.k=60", "sparsification.value_type=float16"],
    ],
)
def test_pruned_parameters_are_zero_and_all_ranks_start_alike(
    launch, ranks: int, overrides: list[str]
) -> None:
    launch(ranks, PROGRAM, *overrides, "experiment.rounds=2", python_path=PROGRAM.parent)


@pytest.fixture(scope="module")
def run(launch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    config = tmp_path_factory.mktemp("config") / "base.toml"
    config.write_text(BASE, encoding="utf-8")

    def start(ranks: int, *overrides: str, output: Path | None = None, resume: bool = False) -> Path:
        folder = output or tmp_path_factory.mktemp("run") / "run"
        options = ["--output", folder, "--quiet", *(["--resume"] if resume else [])]
        launch(ranks, "-m", "fedmpi", "run", config, *overrides, *options)
        return folder

    return start


def test_a_run_that_stops_in_initial_pruning_goes_on_there(run) -> None:
    """On other ranks, twice: before and after the first reconfiguration."""
    for overrides in (
        INITIAL,
        [
            *INITIAL,
            "sparsification.method=fub_tree",
            "sparsification.k=60",
            "sparsification.value_type=float16",
        ],
    ):
        whole = run(1, *overrides)
        parts = run(2, *overrides, "experiment.stop_at_emulated_s=0.045")
        assert trace.read(parts).rounds.empty
        run(3, *overrides, "experiment.stop_at_emulated_s=0.3", output=parts, resume=True)
        assert trace.read(parts).rounds.empty
        run(1, *overrides, output=parts, resume=True)
        assert_same_trace(whole, parts)


def test_training_that_diverges_is_refused_on_all_ranks(launch, tmp_path: Path) -> None:
    config = tmp_path / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    overrides = [*INITIAL, "training.learning_rate=1e30", "--output", tmp_path / "run", "--quiet"]
    done = launch(2, "-m", "fedmpi", "run", config, *overrides, check=False)
    assert done.returncode == 2
    assert "[training] learning_rate: found 1e+30, with which initial pruning diverges" in done.stderr
    assert "Traceback" not in done.stderr

"""The real-time clock: the same results and emulated times as the virtual one, and time that really passes.

No test asserts that the host is fast. That it kept up is read from the trace itself (no event of an overrun), and only
then are achieved and emulated time compared.
"""

from pathlib import Path

import numpy as np
import pytest
from experiments import METHODS, assert_same_trace, write_config
from libraries import launcher, this_mpi

from fedmpi import trace

SLOW_LINKS = ["experiment.rounds=4", "emulation.network.jitter_s=0.05"]


@pytest.mark.parametrize(
    ("mpi", "method"),
    [*(("mpich", method) for method in METHODS), ("openmpi", "fab_adaptive")],
    indirect=["mpi"],
)
def test_both_clocks_give_the_same_trace(launch, tmp_path: Path, method: str) -> None:
    config = write_config(tmp_path, method)
    run = ("-m", "fedmpi", "run", config, *SLOW_LINKS)
    launcher(this_mpi())(3, *run, "--output", tmp_path / "virtual", "--quiet")
    done = launch(3, *run, "emulation.clock=realtime", "--output", tmp_path / "real")
    assert_same_trace(tmp_path / "virtual", tmp_path / "real")
    virtual, real = trace.read(tmp_path / "virtual"), trace.read(tmp_path / "real")
    assert virtual.clients["overrun_s"].isna().all()
    assert real.clients["overrun_s"].notna().all()
    assert (real.clients["overrun_s"] >= 0).all()
    late = real.events[real.events["kind"] == "overrun"]
    assert done.stderr.count("emulation was not honoured") == min(len(late), 1)
    if late.empty:
        # The clock starts a little before the first round does, on a busy host by some hundredths of a second.
        assert real.rounds["host_s"].sum() == pytest.approx(real.rounds["end_s"].iloc[-1], rel=0.1)


def test_a_clock_that_is_too_fast_for_the_host_is_told(launch, tmp_path: Path) -> None:
    config = write_config(tmp_path, "dense")
    scale = "emulation.time_scale=1e-7"
    run = ("-m", "fedmpi", "run", config, "emulation.clock=realtime", scale, "--output", tmp_path / "run")
    done = launch(2, *run, "--quiet")
    assert not done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("fedmpi: warning: emulation was not honoured in round 0: ")
    real = trace.read(tmp_path / "run")
    assert (real.clients["overrun_s"] > 0).all()
    assert np.isfinite(real.clients["overrun_s"]).all()
    late = real.events[real.events["kind"] == "overrun"]
    assert late["round"].tolist() == real.rounds["round"].tolist()
    assert (
        late["detail"].str.contains("5 of 5 participants got or sent a message too late, the worst by ").all()
    )
    assert late["detail"].iloc[1:].str.contains("; the round started ").all()

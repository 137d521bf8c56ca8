"""How well the real-time clock keeps its moments: python benchmarks/realtime_fidelity.py --ranks 2 3 9 --ms 450 100 36

Eight clients with uplinks of their own train a small network (digits) with the clock ``realtime``, in rounds that last
so many milliseconds on the host. Prints a Markdown table with a row for each run, after its first ten rounds:

- *over the run*: by how much the host's time from the first round's last update to the last round's differs from the
  emulated time between them;
- *a round*: the same from one round to the next, as a share of the round, the median and the 99th percentile;
- *update late by*: host seconds from an update's emulated moment to its release, the median and the 99th percentile;
- *over 0.2 %*: the share of updates that were released later than their moment by more than 0.2 % of the round;
- *recorded late*: the share of participants of which any message, the model included, was later than is tolerated (1 ms
  or 1 % of the round), so that the trace has it in an event ``overrun``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fedmpi import trace
from fedmpi.emulation.clock import tolerated_overrun_s

CONFIG = """
[experiment]
name = "realtime"
rounds = {rounds}
evaluate_every = 10
[clients]
count = 8
[data]
dataset = "digits"
[model]
name = "mlp"
hidden = [64]
[training]
local_steps = 1
batch_size = 20
learning_rate = 0.1
[emulation]
clock = "realtime"
time_scale = {time_scale}
[emulation.compute]
model = "flops"
profile = "raspberry-pi-4"
[emulation.network]
uplink_mbit_per_s = [0.65, 1.4, 0.4, 3.0, 1.1, 0.5, 1.9, 0.85]
downlink_mbit_per_s = 8.0
latency_s = 0.02
"""
ROUND_S = 0.446
"""Emulated seconds of such a round: every client takes as long in each."""
LEFT_OUT = 10
"""First rounds, in which memory is touched for the first time."""
ALLOWED = 0.002


def measure(ranks: int, round_ms: float, seconds: float, folder: Path) -> str:
    """A row of the table, by a run of some ``seconds`` into ``folder``."""
    time_scale = 1e-3 * round_ms / ROUND_S
    config = folder.with_suffix(".toml")
    rounds = LEFT_OUT + max(10, round(1e3 * seconds / round_ms))
    config.write_text(CONFIG.format(rounds=rounds, time_scale=time_scale), encoding="utf-8")
    fedmpi = [sys.executable, "-m", "fedmpi", "run", str(config), "--ranks", str(ranks)]
    # Moments that are missed are what is measured: no warnings of them here.
    subprocess.run([*fedmpi, "--output", str(folder), "--quiet"], check=True, stderr=subprocess.DEVNULL)
    run = trace.read(folder)
    starts = run.rounds.set_index("round")
    clients = run.clients[run.clients["round"] >= LEFT_OUT]
    start_s = starts.loc[clients["round"], "start_s"].to_numpy()
    due_s = start_s + (clients["download_s"] + clients["compute_s"] + clients["upload_s"]).to_numpy()
    released_s = clients["released_s"].to_numpy()
    late_s = time_scale * (released_s - due_s)
    lasts_s = time_scale * (starts["end_s"] - starts["start_s"]).loc[clients["round"]].to_numpy()
    last = clients.assign(due_s=due_s, released_s=released_s).groupby("round")[["due_s", "released_s"]].max()
    passed = last.diff().iloc[1:]
    of_rounds = np.abs(passed["released_s"] / passed["due_s"] - 1.0)
    whole = passed["released_s"].sum() / passed["due_s"].sum() - 1.0
    recorded = clients["overrun_s"].to_numpy() > tolerated_overrun_s(lasts_s)
    cells = (
        str(ranks),
        f"{1e3 * lasts_s.mean():.0f}",
        str(len(last)),
        f"{whole:+.3%}",
        *(f"{share:.2%}" for share in np.quantile(of_rounds, (0.5, 0.99))),
        *(f"{1e3 * seconds:.2f} ms" for seconds in np.quantile(late_s, (0.5, 0.99))),
        f"{(late_s > ALLOWED * lasts_s).mean():.1%}",
        f"{recorded.mean():.1%}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 3, 9])
    parser.add_argument("--ms", type=float, nargs="+", default=[450.0, 100.0, 36.0])
    parser.add_argument("--seconds", type=float, default=15.0, help="host seconds of each run, about")
    arguments = parser.parse_args()
    print(
        "| ranks | ms a round | rounds | over the run | a round: median | 99 % | update late by: median | 99 % "
        "| over 0.2 % | recorded late |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for ranks in arguments.ranks:
            for round_ms in arguments.ms:
                folder = Path(temporary) / f"{ranks}-{round_ms:g}"
                print(measure(ranks, round_ms, arguments.seconds, folder), flush=True)


if __name__ == "__main__":
    main()

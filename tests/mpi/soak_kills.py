"""Kill runs at random moments, go on with them on other numbers of ranks, and compare with the uninterrupted run.

python tests/mpi/soak_kills.py [--kills 100] [--seed 0]     prints a line for every run that was killed, and a table

Each run is killed one to four times with SIGKILL: one of its ranks, all of them, or mpiexec. Every time all of its
processes must end, and it goes on on a random number of ranks. The trace must be that of the run that nobody killed,
bit for bit. Exit code 0 where all were.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from experiments import BASE, VARIANTS, assert_same_trace
from libraries import this_mpi
from test_kill_and_resume import committed_rounds, rank_processes

from fedmpi import trace

CONFIGURATIONS = ("dense", "fedavg", "ogd_sign", "buffers", "prunefl_fab", "exp3")
RANKS = (1, 2, 3, 5)
LONG = ["experiment.rounds=24", "experiment.checkpoint_every=3"]
SLOW = ["emulation.clock=realtime", "emulation.time_scale=1"]
"""A pace at which a kill finds something to kill: the 24 rounds take at least 2 s on the fastest host."""
_STARTING = 0.2
"""The share of kills while a run starts or resumes; the others come while it makes rounds."""
_ENDS_WITHIN_S = 60.0


@dataclass
class Outcome:
    """One run: where it was started and killed, and how its trace compares."""

    configuration: str
    steps: list[str] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    problem: str = ""


class Soak:
    """Runs in ``folder``, with all randomness from ``seed`` (moments in a run are those of the host's clock)."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.environment = this_mpi().environment(Path(__file__).parent)
        (folder / "base.toml").write_text(BASE, encoding="utf-8")
        self._whole: dict[str, Path] = {}

    def whole(self, configuration: str) -> Path:
        """The folder of the run that nobody kills, on one rank under the virtual clock."""
        if configuration not in self._whole:
            output = self.folder / f"{configuration}-whole"
            command = self._command(1, configuration, output)
            subprocess.run(command, check=True, env=self.environment, timeout=600)
            self._whole[configuration] = output
        return self._whole[configuration]

    def run(self, number: int, configuration: str, most_kills: int) -> Outcome:
        """One run, killed up to ``most_kills`` times and then left to end."""
        expected = self.whole(configuration)
        output = self.folder / f"{configuration}-{number}"
        outcome = Outcome(configuration)
        while True:
            ranks = self.random.choice(RANKS)
            kill = sum(outcome.kills.values()) < most_kills
            command = [*self._command(ranks, configuration, output), *(SLOW if kill else [])]
            with subprocess.Popen(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            ) as process:
                if kill and self._wait_for_moment(process, output):
                    outcome.kills[self._kill(process, output, ranks)] += 1
                said, _ = process.communicate(timeout=600 if not kill else _ENDS_WITHIN_S)
            if process.returncode == 0:
                outcome.steps.append(f"{ranks} ranks to the end")
                break
            outcome.steps.append(f"{ranks} ranks to round {committed_rounds(output)}")
            left = self._processes_left(output)
            if not kill or left:
                outcome.problem = (
                    f"processes left: {left}" if left else f"exit {process.returncode}: {said[-500:]}"
                )
                return outcome
        try:
            assert_same_trace(expected, output)
        except (AssertionError, trace.TraceError) as error:
            outcome.problem = str(error)
        return outcome

    def _command(self, ranks: int, configuration: str, output: Path) -> list[str]:
        overrides = [*VARIANTS[configuration], *LONG]
        existing = "--resume" if any((output / "checkpoint").glob("*")) else "--overwrite"
        run = [
            "run",
            str(self.folder / "base.toml"),
            *overrides,
            "--output",
            str(output),
            existing,
            "--quiet",
        ]
        return this_mpi().command(ranks, "-m", "fedmpi", *run)

    def _wait_for_moment(self, process: subprocess.Popen[str], output: Path) -> bool:
        """Whether the run is still there at a random moment of starting or of its rounds."""
        if self.random.random() >= _STARTING:
            before = committed_rounds(output)
            while process.poll() is None and committed_rounds(output) <= before:
                time.sleep(0.02)
        time.sleep(self.random.uniform(0.0, 2.0))
        return process.poll() is None

    def _kill(self, process: subprocess.Popen[str], output: Path, ranks: int) -> str:
        pids = rank_processes(output)
        victims = self.random.choice(("one rank", "one rank", "all ranks", "mpiexec"))
        if victims == "mpiexec" or not pids:
            process.kill()
            return "mpiexec"
        for pid in [self.random.choice(pids)] if victims == "one rank" else pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # the launcher was faster
        return f"{victims} of {ranks}"

    @staticmethod
    def _processes_left(output: Path) -> list[int]:
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while (left := rank_processes(output)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes: list[Outcome] = []
    kills: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fedmpi-soak-") as folder:
        soak = Soak(Path(folder), arguments.seed)
        while kills.total() < arguments.kills:
            configuration = CONFIGURATIONS[len(outcomes) % len(CONFIGURATIONS)]
            most = min(soak.random.randint(1, 4), arguments.kills - kills.total())
            outcome = soak.run(len(outcomes), configuration, most)
            outcomes.append(outcome)
            kills += outcome.kills
            verdict = f"DIFFERS: {outcome.problem}" if outcome.problem else "equal"
            print(f"{kills.total():4} {configuration:12} {', '.join(outcome.steps)}: {verdict}", flush=True)
    print("\nconfiguration  runs  kills  different")
    for name in CONFIGURATIONS:
        mine = [outcome for outcome in outcomes if outcome.configuration == name]
        killed = sum(outcome.kills.total() for outcome in mine)
        print(f"{name:13}  {len(mine):4}  {killed:5}  {sum(bool(outcome.problem) for outcome in mine):9}")
    print("killed:", ", ".join(f"{what} {count}" for what, count in sorted(kills.items())))
    return int(any(outcome.problem for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())

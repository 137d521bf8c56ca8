"""Run under mpiexec by test_methods: small runs of every method and controller, one after the other.

python programs_methods.py FOLDER straight|interrupted [OVERRIDE...]

An interrupted run trains one client after the other until it is interrupted.
"""

import sys
from pathlib import Path

from experiments import BASE, VARIANTS

from fedmpi.cli.main import main

ROUNDS, INTERRUPTED_AT = 7, 4
SHORT = "pruning.initial.max_rounds=40"
"""Initial pruning until the mask is stable takes hundreds of rounds of one client; its end is tested elsewhere."""


def run_all(folder: Path, interrupted: bool, extra: list[str]) -> None:
    config = folder / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    for name, overrides in VARIANTS.items():
        given = [*overrides, *([SHORT] if any("pruning.initial" in key for key in overrides) else []), *extra]
        command = ["run", str(config), *given, "--output", str(folder / name), "--quiet"]
        if interrupted:
            assert main([*command, "training.batched=off", f"experiment.rounds={INTERRUPTED_AT}"]) == 0
            command.append("--resume")
        assert main([*command, f"experiment.rounds={ROUNDS}"]) == 0


if __name__ == "__main__":
    run_all(Path(sys.argv[1]), sys.argv[2] == "interrupted", sys.argv[3:])

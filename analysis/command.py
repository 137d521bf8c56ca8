"""What the commands of studies have in common: errors of one line, and the runs of a folder."""

from __future__ import annotations

import sys
from pathlib import Path

from arguments import OneLineParser
from study import StudyRun, load_study, without_repeats


class Parser(OneLineParser):
    """Arguments that several studies have."""

    def target(self, value: float | None) -> float | None:
        """An accuracy from the command line, if it is one."""
        if value is not None and not 0 <= value <= 1:
            self.error(f"--target {value} is not between 0 and 1")
        return value

    def runs(self, *folders: Path) -> tuple[StudyRun, ...]:
        """The runs of studies; on stderr a line for each that is missing, not complete or there twice."""
        runs: list[StudyRun] = []
        remarks: list[str] = []
        for folder in folders:
            try:
                study = load_study(folder)
            except OSError as error:
                self.error(str(error))
            if not study.runs:
                for remark in study.remarks:
                    print(remark, file=sys.stderr)
                self.error(f"{folder}: no run with an evaluated model is there")
            runs += study.runs
            remarks += study.remarks
        study = without_repeats(runs)
        for remark in (*remarks, *study.remarks):
            print(remark, file=sys.stderr)
        return study.runs

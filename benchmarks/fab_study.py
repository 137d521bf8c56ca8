"""The study of FAB-top-k on real FEMNIST, with its result tables: python benchmarks/fab_study.py --data ../shared/data

Runs the sweep ``fab-study-small`` and answers: what accuracy has each method at the same emulated time, how long does
each controller of k need to a target accuracy beside the best fixed k, and what does the worst-off client contribute?
The folder given by --data holds femnist_leaf.tar.xz, or train/ and test/ unpacked (all of them then count). Of the
archive's test files every third is taken: about 1,360 samples, the same for all runs. An interrupted study goes on
where it was if --output is given again. About half an hour on two cores.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from femnist_study import data_folder, figures, parser, run_sweep, tables, unpacked_beside

TEST_FILES_EVERY = 3


def main() -> int:
    """Exit code 0 when all runs are complete, else that of the sweep; tables are made of what there is."""
    arguments = parser(__doc__.splitlines()[0], "fab-study-small").parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = unpacked_beside(arguments.output, Path(temporary))
        data = data_folder(arguments.data, place, TEST_FILES_EVERY)
        study = arguments.output or Path(temporary) / "study"
        code = run_sweep(arguments.sweep, data, study, arguments)
        if code == 2:
            return code
        tables("fab", [study], arguments.table)
        if arguments.output:
            figures("fab", study)
    return code


if __name__ == "__main__":
    sys.exit(main())

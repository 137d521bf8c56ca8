#!/usr/bin/env bash
# From nothing to a first figure: installs fedmpi into a virtual environment, runs the preset `quickstart` on
# three MPI ranks, prints a summary and draws accuracy over emulated time
# and k over rounds.
#
#   bash jobs/quickstart.sh [section.key=value ...]
#
# Needs Python 3.11 or newer and no rights beyond yours. Nothing is installed twice: run it again and only the
# experiment runs. See jobs/common.sh for the variables it looks at.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

install mpi analysis

run="$project/runs/quickstart-$(date +%Y%m%d-%H%M%S)"
say "running the preset quickstart on 3 ranks"
fedmpi run quickstart "$@" --ranks 3 --output "$run"

say "summary"
fedmpi summarize "$run"
fedmpi plot "$run" --x time --y accuracy --x round --y k --output "$run/quickstart.png"

say "done"
cat <<END
trace          $run/trace.h5       (read it with fedmpi.trace.read)
configuration  $run/config.toml
figure         $run/quickstart.png  (accuracy over emulated time, k over rounds)
more           source $venv/bin/activate && fedmpi presets && fedmpi --help
END

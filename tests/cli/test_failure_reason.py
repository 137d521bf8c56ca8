"""What commands print when they fail, as Open MPI 5.0.11 (PRRTE) and MPICH 5.0.2 (Hydra) printed it."""

import pytest

from fedmpi.cli.failure_reason import failure_reason

RULER = "-" * 74 + "\n"

ROOT = f"""prterun has detected an attempt to run as root.

Running as root is *strongly* discouraged as any mistake (e.g., in
defining TMPDIR) or bug can result in catastrophic damage to the OS
file system, leaving your system in an unusable state.

We strongly suggest that you run prterun as a non-root user.

You can override this protection by adding the --allow-run-as-root
option to your command line.  However, we reiterate our strong advice
against doing so - please do so at your own risk.
{RULER}"""

SLOTS = f"""{RULER}There are not enough slots available in the system to satisfy the 8
slots that were requested by the application:

  true

Either request fewer procs for your application, or make more slots
available for use.

  2. The --host command line parameter, via a ":N" suffix on the
     hostname (N defaults to 1 if not provided)

Alternatively, you can use the --map-by :OVERSUBSCRIBE option to ignore the
number of available slots when deciding the number of processes to
launch.
{RULER} """

NO_EXECUTABLE = f"""{RULER}prterun was unable to launch the specified application as it could not
access an executable:

   Executable: /no/such/python
   Node: vm

while attempting to start process rank 0.
{RULER}"""

UNKNOWN_OPTION = f"""{RULER}An unrecognized option was included on the mpiexec command line:

  Option: --nonsense

Please use the "mpiexec --help" command to obtain a list of all
supported options.
{RULER}"""

KILLED = f"""{RULER}prterun noticed that process rank 1 with PID 9522 on node vm exited on
signal 9 (Killed).
{RULER}"""

ENDED = f"""{RULER}prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated. The first process to do so was:

   Process name: [prterun-vm-9566@1,0]
   Exit code:    1
{RULER}"""

TRACEBACK = """Traceback (most recent call last):
  File "<string>", line 2, in <module>

  File "<string>", line 3, in f
ModuleNotFoundError: No module named 'nonsense_module'
"""

HYDRA = """[mpiexec@vm] HYDU_parse_hostfile (/src/pm/hydra/lib/utils/args.c:324): unable to open host file: /nosuch
[mpiexec@vm] mfile_fn (/mpich-5.0.2/src/pm/hydra/mpiexec/options.c:315): error parsing hostfile
[mpiexec@vm] main (/mpich-5.0.2/src/pm/hydra/mpiexec/mpiexec.c:49): error parsing parameters
"""

HYDRA_PROXY = """[proxy:0@vm] HYDU_create_process (/mpich-5.0.2/src/pm/hydra/lib/utils/launch.c:73): execvp error on file /no/such/python (No such file or directory)
"""  # noqa: E501

HYDRA_SSH = """ssh: Could not resolve hostname nosuchhost: Name or service not known
[mpiexec@vm] ui_cmd_cb (/mpich-5.0.2/src/pm/hydra/mpiexec/pmiserv_pmci.c:51): Launch proxy failed.
[mpiexec@vm] main (/mpich-5.0.2/src/pm/hydra/mpiexec/mpiexec.c:270): process manager error waiting for completion
"""

MPICH_STACK = """Abort(68830480): Fatal error in internal_Init_thread: Internal MPI error!, error stack:
internal_Init_thread(71)........: MPI_Init_thread(argc=(nil), argv=(nil), required=3, provided=0x7ffcfac585c0) failed
MPII_Init_thread(232)...........:{blank}
check_MPIR_CVAR_PMI_VERSION(167):  Runtime environment uses unsupported PMI version PMIx. Aborting.
""".replace("{blank}", " ")

MPICH_KILLED = """
===================================================================================
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   PID 9613 RUNNING AT vm
=   EXIT CODE: 9
=   CLEANING UP REMAINING PROCESSES
=   YOU CAN IGNORE THE BELOW CLEANUP MESSAGES
===================================================================================
YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)
This typically refers to a problem with your application.
Please see the FAQ page for debugging suggestions
"""

MPICH_ABORT = (
    "Abort(4) on node 1 (rank 1 in comm 0): application called MPI_Abort(MPI_COMM_WORLD, 4) - process 1\n"
)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        pytest.param(
            ROOT,
            "prterun has detected an attempt to run as root. You can override this protection by adding the "
            "--allow-run-as-root option to your command line.",
            id="root",
        ),
        pytest.param(
            SLOTS,
            "There are not enough slots available in the system to satisfy the 8 slots that were requested by the "
            "application: true Alternatively, you can use the --map-by :OVERSUBSCRIBE option to ignore the number "
            "of available slots when deciding the number of processes to launch.",
            id="slots",
        ),
        pytest.param(
            NO_EXECUTABLE,
            "prterun was unable to launch the specified application as it could not access an executable: "
            "Executable: /no/such/python Node: vm",
            id="no-executable",
        ),
        pytest.param(
            UNKNOWN_OPTION,
            "An unrecognized option was included on the mpiexec command line: Option: --nonsense",
            id="option",
        ),
        pytest.param(
            "round 1\nround 2\n" + KILLED,
            "prterun noticed that process rank 1 with PID 9522 on node vm exited on signal 9 (Killed).",
            id="killed",
        ),
        pytest.param(
            f"{RULER}WARNING: no preset parameters\n{RULER}{KILLED}",
            "prterun noticed that process rank 1 with PID 9522 on node vm exited on signal 9 (Killed).",
            id="after-a-warning",
        ),
        pytest.param(
            f"{RULER}WARNING: no preset parameters\n{RULER}",
            "WARNING: no preset parameters",
            id="only-warning",
        ),
        pytest.param(
            TRACEBACK + ENDED, "ModuleNotFoundError: No module named 'nonsense_module'", id="traceback"
        ),
        pytest.param(
            TRACEBACK + "\nDuring handling of the above exception, another exception occurred:\n\n"
            'Traceback (most recent call last):\n  File "x", line 1\nValueError\n',
            "ValueError",
            id="chained",
        ),
        pytest.param(
            "fedmpi: clients.count: found 0; allowed: 1 or more\n" + ENDED,
            "fedmpi: clients.count: found 0; allowed: 1 or more",
            id="own-line",
        ),
        pytest.param("fedmpi: a warning\n" + TRACEBACK, TRACEBACK.splitlines()[-1], id="line-and-traceback"),
        pytest.param("fedmpi: rank 1 failed:\n" + TRACEBACK, TRACEBACK.splitlines()[-1], id="rank"),
        pytest.param("fedmpi: rank 1 failed:\n" + MPICH_ABORT, MPICH_ABORT.strip(), id="rank-aborts"),
        pytest.param(HYDRA, "unable to open host file: /nosuch", id="hydra"),
        pytest.param(
            "round 1 of 3\n" + HYDRA_PROXY * 2,
            "execvp error on file /no/such/python (No such file or directory)",
            id="hydra-proxy",
        ),
        pytest.param(
            HYDRA_SSH, "ssh: Could not resolve hostname nosuchhost: Name or service not known", id="hydra-ssh"
        ),
        pytest.param(
            MPICH_STACK + ENDED,
            "Fatal error in internal_Init_thread: Internal MPI error!: Runtime environment uses unsupported PMI "
            "version PMIx. Aborting.",
            id="mpich-stack",
        ),
        pytest.param(
            MPICH_KILLED,
            "YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Killed (signal 9)",
            id="mpich-killed",
        ),
        pytest.param(MPICH_ABORT, MPICH_ABORT.strip(), id="mpich-abort"),
        pytest.param("srun: fatal: no configuration\n\n", "srun: fatal: no configuration", id="plain"),
        pytest.param("begun\nit broke\n", "it broke", id="last-line"),
        pytest.param("it broke\n" + RULER, "it broke", id="one-ruler"),
        pytest.param("", "no message", id="nothing"),
        pytest.param(RULER * 2 + "\n", "no message", id="rulers"),
    ],
)
def test_the_words_that_say_why(output: str, reason: str) -> None:
    assert failure_reason(output) == reason

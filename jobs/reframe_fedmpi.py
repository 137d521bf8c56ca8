"""A ReFrame check of fedmpi: the quickstart learns on 1, 3 and 9 ranks, and how many rounds it does in a second.

    reframe -C SETTINGS.py -c jobs/reframe_fedmpi.py -r [-S fedmpi_quickstart.modules=fedmpi]

SETTINGS.py is the site's own; ``fedmpi`` comes from PATH, or from the modules that are named.
"""

import reframe as rfm
import reframe.utility.sanity as sn


@rfm.simple_test
class fedmpi_quickstart(rfm.RunOnlyRegressionTest):
    """One run of the preset ``quickstart``, which needs no data but scikit-learn's digits."""

    descr = "fedmpi quickstart"
    valid_systems = ["*"]
    valid_prog_environs = ["*"]
    ranks = parameter([1, 3, 9])  # of ReFrame's class namespace, as the decorators below
    executable = "fedmpi"
    executable_opts = ["run", "quickstart", "experiment.rounds=100", "--output", "run"]
    env_vars = {"OMP_NUM_THREADS": "1"}
    postrun_cmds = [
        "python3 -c \"import fedmpi; t = fedmpi.read_trace('run'); r = t.rounds; "
        "print('ranks', t.attributes['ranks'], 'accuracy', r.test_accuracy.iloc[-1], "
        "'rounds/s', len(r) / r.host_s.sum())\""
    ]
    reference = {"*": {"rate": (0, None, None, "rounds/s")}}

    @run_before("run")
    def one_task_per_rank(self):
        self.num_tasks = self.ranks

    @sanity_function
    def it_has_learned(self):
        accuracy = sn.extractsingle(r"^ranks \d+ accuracy (\S+)", self.stdout, 1, float)
        return sn.all(
            [
                sn.assert_found(r"completed \(all 100 rounds done\)", self.stdout),
                sn.assert_found(rf"^ranks {self.ranks} ", self.stdout),
                sn.assert_gt(accuracy, 0.7),
            ]
        )

    @performance_function("rounds/s")
    def rate(self):
        return sn.extractsingle(r"rounds/s (\S+)$", self.stdout, 1, float)

"""A real SLURM cluster of several nodes on one machine.

Every node is a set of namespaces with a name, an address, processes and a /dev/shm of its own, so that nodes share no
memory, talk over TCP and can be killed. Bridge and links lie in a network namespace of the cluster's own: several
clusters do not get in each other's way, and nothing of the network is left behind.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from one_node_cluster import Cluster, Daemons, cluster_folder

PROGRAMS = ("unshare", "nsenter", "ip", "mount", "hostname")
NODE_CPUS = 4
_CONTROLLER = "10.77.0.254"

_NETWORK = f"""
ip link set lo up && ip link add bridge type bridge && ip addr add {_CONTROLLER}/24 dev bridge &&
    ip link set bridge up && echo ready && exec sleep infinity
"""
_NODE = """
mount -t tmpfs tmpfs /dev/shm && mount --bind "$1/hosts" /etc/hosts && hostname "n$2" && ip link set lo up && echo ready
until ip link set eth0 up 2>/dev/null; do sleep 0.05; done
ip addr add "10.77.0.$2/24" dev eth0 && ip route add default via 10.77.0.254
slurmd -D -N "n$2" &
wait
"""
_NAMESPACES = ("--mount", "--uts", "--net", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child")


@dataclass(frozen=True, kw_only=True)
class ManyNodes(Cluster):
    """A cluster whose nodes are n1, n2, ...; ``nodes`` are the processes on which they depend, by number.

    ``boot`` starts the node of a number.
    """

    boot: Callable[[int], subprocess.Popen[bytes]]
    nodes: dict[int, subprocess.Popen[bytes]]

    def start_node(self, number: int) -> None:
        """Start a node that is not there yet, or not any more."""
        self.nodes[number] = self.boot(number)

    def wait_for_node(self, number: int) -> None:
        """Until a node that was started again has nothing to do, and takes jobs."""
        deadline = time.monotonic() + 120
        while (
            state := self.check("sinfo", "--noheader", f"--nodes=n{number}", "--format=%T").split()[0]
        ) != "idle":
            assert time.monotonic() < deadline, f"node n{number} is {state}"
            time.sleep(0.1)

    def kill_node(self, number: int) -> None:
        """All processes of a node and its network are gone at once, as when it loses power."""
        self.nodes[number].kill()
        self.nodes[number].wait()


def why_not() -> str:
    """Why such a cluster cannot be started on this machine, as far as can be seen; empty where it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"a cluster of several nodes needs the Debian packages util-linux and iproute2; not found: {missing}"
    probe = [
        "unshare",
        *_NAMESPACES,
        "sh",
        "-c",
        "ip link add v0 type veth peer name v1 && ip link add b0 type bridge",
    ]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=60)
    if done.returncode:
        return f"a cluster of several nodes needs network namespaces, veth and bridge: {done.stderr.strip()}"
    return ""


def _configuration(folder: Path, nodes: int) -> str:
    """The nodes share /tmp, yet SLURM's pmix plugin makes a folder of the same name on each, below ``TmpFS``."""
    lines = [f"NodeName=n{n} NodeAddr=10.77.0.{n} CPUs={NODE_CPUS}" for n in range(1, nodes + 1)]
    return "\n".join(
        [
            "PreemptType=preempt/partition_prio",
            "PreemptMode=REQUEUE",
            "SlurmdTimeout=20",
            f"TmpFS={folder}/tmp-%n",
            "KillWait=20",
            *lines,
            f"PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP PriorityTier=1",
            f"PartitionName=high Nodes=n[1-{nodes}] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF",
        ]
    )


@contextmanager
def many_nodes_cluster(nodes: int) -> Iterator[ManyNodes]:
    """Start a cluster of ``nodes`` nodes, and end it with the block."""
    with ExitStack() as stack:
        folder, environment = stack.enter_context(cluster_folder())
        # SLURM 22.05's pmi2 now and then misreads the long addresses of UCX, MPICH's first choice.
        environment["MPIR_CVAR_CH4_NETMOD"] = "ofi"
        daemons = Daemons(stack, folder, environment)
        network = daemons.start_and_wait("network", "unshare", "--net", "sh", "-c", _NETWORK)
        inside = ("nsenter", f"--net=/proc/{network.pid}/ns/net")
        hosts = [f"10.77.0.{n} n{n}" for n in range(1, nodes + 1)]
        controller = socket.gethostname().split(".")[0]
        (folder / "hosts").write_text(
            "\n".join(["127.0.0.1 localhost", f"{_CONTROLLER} {controller}", *hosts, ""])
        )
        daemons.configure(controller, _CONTROLLER, _configuration(folder, nodes))

        def boot(n: int) -> subprocess.Popen[bytes]:
            """The link of a node goes with its network, which the kernel removes some time after its processes."""
            (folder / f"tmp-n{n}").mkdir(exist_ok=True)
            gone = f"while ip link show v{n}; do sleep 0.05; done >/dev/null 2>&1"
            link = f"{gone}; ip link add v{n} type veth peer name p{n} && ip link set v{n} master bridge up"
            subprocess.run([*inside, "sh", "-c", link], check=True)
            node = daemons.start_and_wait(
                f"n{n}", *inside, "unshare", *_NAMESPACES, "sh", "-c", _NODE, "node", str(folder), str(n)
            )
            subprocess.run(
                [*inside, "ip", "link", "set", f"p{n}", "netns", str(node.pid), "name", "eth0"], check=True
            )
            return node

        cluster = ManyNodes(environment, folder / "work", inside, boot=boot, nodes={})
        for n in range(1, nodes + 1):
            cluster.start_node(n)
        daemons.start_munged()
        daemons.start("slurmctld", *inside, "slurmctld", "-D", "-i")
        daemons.wait_until_idle(cluster)
        yield cluster
        cluster.run("scancel", "--user=root")
        cluster.wait_until_quiet(at_most_s=10)

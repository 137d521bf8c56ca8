"""Messages over real TCP on shaped links, beside the two models of transport.

    python benchmarks/tcp_fidelity.py [--repeats 5]

As root, on Linux with network namespaces and the queueing discipline tbf (Debian: package iproute2). Two namespaces
are joined by a veth pair shaped to 2, 10 and 50 Mbit/s; with delay, by two TUN devices, shaped the same way, between
which this program passes packets on after 25 ms (netem would do that too, where a kernel has it). For each message: the
median of the seconds from the first byte's write (of a new connection: from its beginning) to the last byte's arrival,
the spread of the repeats, and both models with their errors. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import multiprocessing
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import inf
from multiprocessing.connection import Connection
from statistics import median

import numpy as np

from fedmpi.emulation.links import Links
from fedmpi.emulation.tcp import FLUID, Transport

NAMES = (f"fedmpi-{os.getpid()}-a", f"fedmpi-{os.getpid()}-b")
ADDRESSES = ("10.213.7.1", "10.213.7.2")
PORT = 7777
DEVICE = "shaped"
BURST_BYTES = 5000
CASES = (
    *((2.0, delay_s, size) for delay_s in (0.0, 0.025) for size in (35_000, 200_000, 1_000_000)),
    *((10.0, delay_s, size) for delay_s in (0.0, 0.025) for size in (35_000, 200_000, 1_000_000, 10_000_000)),
    *((50.0, delay_s, size) for delay_s in (0.0, 0.025) for size in (1_000_000, 10_000_000)),
)
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI, _CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000


def command(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"tcp_fidelity: {' '.join(words)}: {done.stderr.strip()}")


def enter(name: str) -> None:
    """Go on in a network namespace."""
    with open(f"/run/netns/{name}", "rb") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {name}")


def shape(name: str, mbit_per_s: float) -> None:
    inside = ("ip", "netns", "exec", name)
    address = f"{ADDRESSES[NAMES.index(name)]}/24"
    command(*inside, "ip", "address", "add", address, "dev", DEVICE)
    command(*inside, "ip", "link", "set", DEVICE, "up")
    rate, burst = f"{mbit_per_s}mbit", str(BURST_BYTES)
    command(
        *inside,
        "tc",
        "qdisc",
        "add",
        "dev",
        DEVICE,
        "root",
        "tbf",
        "rate",
        rate,
        "burst",
        burst,
        "limit",
        "20mb",
    )


def pass_on(delay_s: float, ready: Connection) -> None:
    """Pass packets from each of two TUN devices to the other, ``delay_s`` later."""
    files = []
    for name in NAMES:
        enter(name)
        file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
        files.append(file)
    ready.send(True)
    waiting: deque[tuple[float, int, bytes]] = deque()
    while True:
        left_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else 1.0
        for file in select.select(files, [], [], left_s)[0]:
            other = files[1 - files.index(file)]
            for _ in range(16):
                try:
                    packet = os.read(file, 2048)
                except BlockingIOError:
                    break
                waiting.append((time.monotonic() + delay_s, other, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, other, packet = waiting.popleft()
            with suppress(OSError):  # the kernel's own first packets, while the other end is not up
                os.write(other, packet)


@contextmanager
def joined(mbit_per_s: float, delay_s: float) -> Iterator[None]:
    """Two namespaces joined by a link of that rate and delay."""
    relay = None
    try:
        for name in NAMES:
            command("ip", "netns", "add", name)
        if delay_s:
            here, there = multiprocessing.Pipe()
            relay = multiprocessing.Process(target=pass_on, args=(delay_s, there), daemon=True)
            relay.start()
            here.recv()
        else:
            ends = (
                "name",
                DEVICE,
                "netns",
                NAMES[0],
                "type",
                "veth",
                "peer",
                "name",
                DEVICE,
                "netns",
                NAMES[1],
            )
            command("ip", "link", "add", *ends)
        for name in NAMES:
            shape(name, mbit_per_s)
        yield
    finally:
        if relay is not None:
            relay.kill()
            relay.join()
        for name in NAMES:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def receive(ready: Connection) -> None:
    """Take one connection after another; of each message, whose length comes by ``ready``, the moment of its end."""
    enter(NAMES[1])
    with socket.create_server((ADDRESSES[1], PORT)) as server:
        ready.send(True)
        while True:
            size = ready.recv()
            connection, _ = server.accept()
            with connection:
                while size > 0 and (data := connection.recv(1 << 18)):
                    size -= len(data)
                ready.send(time.monotonic())


def send(size: int, new: bool, out: Connection) -> None:
    """Send one message; the moment of its first byte's write, of a ``new`` connection that of its beginning."""
    enter(NAMES[0])
    with socket.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        except OSError:
            print("tcp_fidelity: this kernel has no cubic; its own congestion control it is", file=sys.stderr)
        begin = time.monotonic()
        connection.connect((ADDRESSES[1], PORT))
        if not new:
            time.sleep(0.3)  # the shaper's bucket is full again
            begin = time.monotonic()
        connection.sendall(bytes(size))
        out.send(begin)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)


def seconds(size: int, new: bool, receiver: Connection) -> float:
    """What one message takes."""
    receiver.send(size)
    here, there = multiprocessing.Pipe()
    sender = multiprocessing.Process(target=send, args=(size, new, there), daemon=True)
    sender.start()
    begin = here.recv()
    end: float = receiver.recv()
    sender.join()
    return end - float(begin)


def model_s(mbit_per_s: float, delay_s: float, size: int, transport: Transport) -> float:
    links = Links(np.array([mbit_per_s * 125_000.0]), inf, transport)
    one = np.ones(1)
    return float(links.finish_times(0.0, np.array([0]), 0.0 * one, delay_s * one, size * one)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    if os.geteuid():
        sys.exit("tcp_fidelity: needs root, for network namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print("| Mbit/s | delay (s) | bytes | connection | measured (s) | spread | fluid | error | tcp | error |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for mbit_per_s, delay_s in dict.fromkeys(case[:2] for case in CASES):
        with joined(mbit_per_s, delay_s):
            here, there = multiprocessing.Pipe()
            receiver = multiprocessing.Process(target=receive, args=(there,), daemon=True)
            receiver.start()
            here.recv()
            for size in (case[2] for case in CASES if case[:2] == (mbit_per_s, delay_s)):
                for new in (False, True):
                    times = [seconds(size, new, here) for _ in range(repeats)]
                    measured = median(times)
                    fluid = model_s(mbit_per_s, delay_s, size, FLUID)
                    tcp = model_s(mbit_per_s, delay_s, size, Transport(tcp=True, new=new))
                    cells = (
                        f"{mbit_per_s:g}",
                        f"{delay_s:g}",
                        f"{size:,}",
                        "new" if new else "kept",
                        f"{measured:.4f}",
                        f"{(max(times) - min(times)) / measured:.0%}",
                        *(
                            text
                            for model in (fluid, tcp)
                            for text in (f"{model:.4f}", f"{model / measured - 1:+.0%}")
                        ),
                    )
                    print(f"| {' | '.join(cells)} |", flush=True)
            receiver.kill()
            receiver.join()


if __name__ == "__main__":
    main()

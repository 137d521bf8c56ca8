"""What a trace says: where a run got to, where its time went, and who contributed.

    python examples/read_trace.py RUN

RUN is a run folder or its trace.h5, of a run that goes on or has ended; neither torch nor MPI is needed.
"""

from __future__ import annotations

import sys

import fedmpi


def main(folder: str) -> None:
    """Print the trace of ``folder`` in a few lines."""
    trace = fedmpi.read_trace(folder)
    print(trace)

    clients = trace.clients
    parts = clients[["download_s", "compute_s", "upload_s", "wait_s"]].sum()
    print("\nwhere the participants' time went:")
    for name, share in (parts / parts.sum()).items():
        print(f"  {name.removesuffix('_s'):9} {share:6.1%}")

    print("\nwho contributed (entries that went into the model):")
    used = clients.groupby("client").entries_used.sum()
    for client, entries in used.items():
        print(f"  client {client:3} {entries:10,}")

    print(f"\nmethod: {trace.config['sparsification']['method']}, status: {trace.attributes['status']}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/read_trace.py RUN")
    main(sys.argv[1])

"""A method of one's own, compared with FAB-top-k on the quickstart: accuracy after the same emulated time.

    cd examples; python own_method.py [section.key=value ...]

The method is in this folder, ``sign_agreement.py``.
"""

from __future__ import annotations

import sys

import fedmpi

METHODS = {"FAB-top-k": "fab", "sign agreement": "sign_agreement:METHOD"}


def main(overrides: list[str]) -> None:
    """Run each method with k = 100, and print where both were when the first of them ended."""
    traces = {
        title: fedmpi.run(
            "quickstart",
            f"experiment.name={method.partition(':')[0]}",
            f"sparsification.method={method}",
            "sparsification.k=100",
            "k_control.method=fixed",
            *overrides,
            ranks=2,
            overwrite=True,
            quiet=True,
        )
        for title, method in METHODS.items()
    }
    end_s = min(trace.rounds.end_s.iloc[-1] for trace in traces.values())
    for title, trace in traces.items():
        seen = trace.rounds[trace.rounds.end_s <= end_s]
        accuracy = seen.test_accuracy.dropna().iloc[-1]
        print(
            f"{title:15} after {end_s:.0f} emulated s: accuracy {accuracy:.3f}, {seen.bytes_up.sum():,} bytes up"
        )


if __name__ == "__main__":
    main(sys.argv[1:])

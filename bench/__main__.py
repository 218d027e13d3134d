"""`python -m bench [B1 B2 B3 B9]`: each benchmark beside a peer on the same work, in turn, in this one run."""

import importlib
import os
import sys

from bench.rounds import report

BENCHMARKS = {"B1": "bench.preprocessing", "B2": "bench.head", "B3": "bench.finetuning", "B9": "bench.growth"}


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        raise SystemExit(f"bench: no {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    # As a step's command does, and for the peer as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in names or BENCHMARKS:
        print(report(importlib.import_module(BENCHMARKS[name]).run()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

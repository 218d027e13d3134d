"""`python -m bench [--long] [B1 B2 …]`: each benchmark beside a peer on the same work, in turn, in this one run.

In: names; of none, the short ones, or with --long the long ones. Out: lines, and bench/results/<hardware>/<name>.json,
from which `python -m bench.page` makes bench/README.md. With --try, one round of little work each, and nothing written.
"""

import argparse
import importlib
import os

from bench.harness.benchmarks import BENCHMARKS, named
from bench.harness.results import keep, told
from bench.harness.timing import TRIAL, Comparison


def main() -> None:
    """Run the named benchmarks; exit with status 1 if one of them came to no figure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("--long", action="store_true", help="of no names, those that take long")
    parser.add_argument("--try", action="store_true", dest="trial", help="one small round each; nothing is written")
    options = parser.parse_args()
    # As a step's command does, and for the peer as well.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if options.trial:
        os.environ[TRIAL] = "1"
    failed = []
    for name in named(options.names, long=options.long):
        try:
            comparisons = run(name)
        except SystemExit as refusal:
            failed.append(name)
            print(f"{name}  {refusal}", flush=True)
            continue
        if not options.trial:
            keep(name, comparisons)
        print("\n".join(map(told, comparisons)), flush=True)
    if failed:
        raise SystemExit(f"bench: no figure for {', '.join(failed)}")


def run(name: str) -> list[Comparison]:
    """The comparisons of a benchmark, one for each part in the catalogue."""
    found: list[Comparison] = importlib.import_module(BENCHMARKS[name].module).run()
    return found


if __name__ == "__main__":
    main()

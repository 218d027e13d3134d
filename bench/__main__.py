"""`python -m bench [--long] [--try] [B1 B2 …]`: measure the speed of Twofold and of a peer on the same work.

Runs the named benchmarks; without names, all short ones, or with --long all long ones. Prints the results and writes
bench/results/<hardware>/<name>.json, from which `python -m bench.harness.results_page` makes bench/README.md. With
--try, each benchmark runs one round of little work and nothing is written.
"""

import argparse
import importlib
import os

from bench.harness.benchmarks import BENCHMARKS, select_benchmarks
from bench.harness.results import format_comparison, save_comparisons
from bench.harness.timing import TRIAL, Comparison


def main() -> None:
    """Run the benchmarks; exit with status 1 if one of them has no result."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    parser.add_argument("--long", action="store_true", help="without names: run the long benchmarks")
    parser.add_argument("--try", action="store_true", dest="trial", help="run one small round each; write nothing")
    options = parser.parse_args()
    # As the commands of the steps set it; here it also holds for the peer.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if options.trial:
        os.environ[TRIAL] = "1"
    failed = []
    for name in select_benchmarks(options.names, long=options.long):
        try:
            comparisons: list[Comparison] = importlib.import_module(BENCHMARKS[name].module).run()
        except SystemExit as error:
            failed.append(name)
            print(f"{name}  {error}", flush=True)
            continue
        if not options.trial:
            save_comparisons(name, comparisons)
        print("\n".join(map(format_comparison, comparisons)), flush=True)
    if failed:
        raise SystemExit(f"bench: no result for {', '.join(failed)}")


if __name__ == "__main__":
    main()

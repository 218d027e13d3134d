"""Changes the code in one place at a time and expects a unit test to fail (`make mutants`).

Draws places of CODE by a seed, changes each with an operator of cosmic-ray or with Removal, and runs the tests of the
changed file, in a copy of this checkout. Strings, log lines and annotations are not changed. A place is drawn by the
hash of its line, so most places stay the same when the code changes.

Exits with status 1 if the tests notice less than SHARE of the changes, or if tests/mutants.md does not say of one that
they do not notice why it is left.
"""

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso.python.tree import Keyword

ROOT = Path(__file__).resolve().parent.parent
CODE = [path for wing in ("metrics", "promotion", "registry") for path in (ROOT / "twofold" / wing).glob("[!_]*.py")]
CODE += [ROOT / "twofold/data/splits.py", ROOT / "twofold/training/train_step.py"]
SHARE = 0.9
LOG_CALLS = ("print", "say")
TEXTS = ("description", "custom_error_message")  # arguments
# `is` for `==` is rarely a change (cosmic-ray's documentation leaves it out too); the others take arguments.
LEFT_OUT = r"_(Is|IsNot)_(Eq|NotEq|[LG]tE?)$|_(Eq|NotEq|[LG]tE?)_(Is|IsNot)$|/Variable"
here = threading.local()  # .copy: the thread's copy of this checkout


class Removal(Operator):
    """Removes a call whose result is not used, or a keyword argument of a call."""

    examples = classmethod(lambda cls: ())

    def mutation_positions(self, node):
        return [(each.start_pos, each.end_pos) for each in self._removable(node)]

    def mutate(self, node, index):
        removed = self._removable(node)[index]
        place = node.children.index(removed)
        if node.type == "simple_stmt":
            node.children[place] = Keyword("pass", removed.start_pos, removed.get_first_leaf().prefix)
        else:  # with a comma, if there is one
            del node.children[max(place - 1, 0) if node.type == "arglist" else place : max(place + 1, 2)]
        return node

    def _removable(self, node):
        if node.type == "simple_stmt":
            return [each for each in node.children if each.type == "atom_expr"]
        children = node.children if node.type in ("arglist", "trailer") else []
        keywords = (each for each in children if each.type == "argument" and each.children[1] == "=")
        # Without True it would mostly be False, which is a change of its own.
        return [each for each in keywords if each.children[2].type != "keyword" and each.children[0].value not in TEXTS]


def untouched(text):
    """Yields the strings, log lines and annotations of a source, in which nothing is changed."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr) or getattr(getattr(node, "func", None), "id", None) in LOG_CALLS:
            yield node
        yield from filter(None, (getattr(node, "annotation", None), getattr(node, "returns", None)))


def rank(*parts):
    return sha256("\0".join(map(str, parts)).encode()).hexdigest()


def draw(count, seed):
    """Yields (path, its changed source, the change in words) for each of `count` places."""
    operators = {name: get_operator(name)() for name in operator_names() if not re.search(LEFT_OUT, name)}
    operators["removal"] = Removal()
    drawn = []
    for path in CODE:
        text, seen, places = path.read_text(), Counter(), {}
        lines, nodes = text.splitlines(), list(ast_nodes(get_ast(text)))
        spans = [((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)) for node in untouched(text)]
        for name, operator in operators.items():
            starts = [start for node in nodes for start, _ in operator.mutation_positions(node)]
            for occurrence, (line, column) in enumerate(starts):
                # cosmic-ray takes the lone `*` among parameters for an operator.
                lone = lines[line - 1].startswith("*,", column)
                if not lone and not any(low <= (line, column) < high for low, high in spans):
                    places.setdefault((lines[line - 1], column, line), []).append((name, occurrence))
        for spot in sorted(places):
            seen[spot[:2]] += 1  # equal lines of a file, from the top
            key = rank(seed, path.name, *spot[:2], seen[spot[:2]])
            drawn.append((key, path, sorted(places[spot], key=lambda fitting: rank(key, *fitting))))
    for _, path, fitting in sorted(drawn)[:count]:
        text = path.read_text()
        for name, occurrence in fitting:
            code = mutate_code(text, operators[name], occurrence)
            with suppress(SyntaxError):
                compile(code, path, "exec")
                break
        pairs = zip(*(filter(None, map(str.strip, each.splitlines())) for each in (text, code)), strict=False)
        old, new = next((old, new) for old, new in pairs if old != new)
        yield path, code, f"`{path.relative_to(ROOT)}`: `{old}` -> `{new}`"


def tests_of(path):
    """The tests that mirror a file, or if there are none, those that import it."""
    unit, wing = ROOT / "tests" / "unit", path.parent.relative_to(ROOT / "twofold")
    found = set((unit / wing).glob(f"test_{path.stem}*.py"))
    imported = re.compile(rf"from twofold\.{wing}(\.{path.stem} import| import .*\b{path.stem}\b)")
    found = found or {test for test in unit.rglob("test_*.py") if imported.search(test.read_text())}
    return tuple(sorted(str(test.relative_to(ROOT)) for test in found)) or sys.exit(f"no unit test imports {path}")


def run_tests(tests, limit=None):
    """The exit status of tests in this thread's copy; 1 after `limit` seconds, when all of their processes end."""
    options = ["-x", "-q", "-n", "0", "-m", "not slow", "-p", "no:cacheprovider", f"--basetemp={here.copy}.tmp"]
    # Python would take the bytecode of another change of the same second and size for that of this one.
    environment = os.environ | {"PYTHONPATH": str(here.copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", *options, *tests]
    with Path(f"{here.copy}.log").open("w") as log:
        child = subprocess.Popen(
            command, cwd=here.copy, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            return child.wait(limit)
        except subprocess.TimeoutExpired:
            return 1
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def seconds_of(tests):
    start = time.monotonic()
    if run_tests(tests):
        sys.exit(f"these tests fail without a change:\n{Path(f'{here.copy}.log').read_text()}")
    return time.monotonic() - start


def is_noticed(mutant, limit):
    path, code, change = mutant
    changed = here.copy / path.relative_to(ROOT)
    changed.write_text(code)
    noticed = run_tests(tests_of(path), limit) != 0
    shutil.copyfile(path, changed)
    print("noticed " if noticed else "SURVIVED", change, flush=True)
    return noticed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="places to change (default: 300)")
    parser.add_argument("--seed", type=int, default=1, help="another seed draws other places (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="changes tested at once (default: 2)")
    chosen = parser.parse_args()
    mutants = list(draw(chosen.count, chosen.seed))
    test_sets = sorted({tests_of(path) for path, *_ in mutants})
    words = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--directory"]
    ignored = {ROOT / line for line in subprocess.check_output(words, cwd=ROOT, text=True).splitlines()}

    with tempfile.TemporaryDirectory() as work:

        def copy():
            here.copy = Path(work) / threading.current_thread().name
            # With .git, for tests that need a repository.
            shutil.copytree(
                ROOT, here.copy, ignore=lambda folder, names: {n for n in names if Path(folder, n) in ignored}
            )

        with ThreadPoolExecutor(chosen.jobs, "copy", copy) as workers:
            seconds = dict(zip(test_sets, workers.map(seconds_of, test_sets), strict=True))
            # After three times as long as without the change, it is an endless loop.
            limits = [30 + 3 * seconds[tests_of(path)] for path, *_ in mutants]
            noticed = list(workers.map(is_noticed, mutants, limits))

    left = [f"- {change}: " for (*_, change), is_seen in zip(mutants, noticed, strict=True) if not is_seen]
    share = 1 - len(left) / len(mutants)
    print(f"{share:.1%} of {len(mutants)} changes were noticed; {SHARE:.0%} is required")
    judged = (ROOT / "tests" / "mutants.md").read_text()
    if unjudged := [line for line in left if line not in judged]:
        print("write a test, or say in tests/mutants.md why these are left:", *unjudged, sep="\n")
    return int(share < SHARE or bool(unjudged))


if __name__ == "__main__":
    sys.exit(main())

"""Which of Twofold's own files a module depends on, read from the sources without importing anything.

In: a module's name. Out: the files that it reaches through imports, those inside functions included. DVC's code
dependencies, the digest of a training's code, and the files of a sealed model all come from here.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


def closure(module: str, root: Path = ROOT) -> list[Path]:
    """The files of a module and of everything that it imports from its own package, sorted.

    Package `__init__` files are left out, being empty, and so is what stands under `if __name__ == "__main__"`: how a
    step is called does not change what it computes.

    Args:
        module: such as `twofold.steps.train_head`.
        root: folder that holds the package.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name, root)
        if path is None or name in found:
            continue
        found[name] = path
        waiting += _names(path.read_text(encoding="utf-8"), module.partition(".")[0])
    return sorted(found.values())


def code_digest(module: str, root: Path = ROOT) -> str:
    """SHA-256 over the sources of `closure(module)`."""
    total = hashlib.sha256()
    for path in closure(module, root):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@cache  # parsing takes most of a second for all files, and a step asks several times
def _names(text: str, package: str) -> tuple[str, ...]:
    return tuple(_imported(ast.parse(text), package))


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from twofold import tracking` names a module, `from twofold.model.classifier import build` does not.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            yield from _imported(node, package)
            continue
        yield from (name for name in names if name.partition(".")[0] == package)


def _file(module: str, root: Path) -> Path | None:
    path = root.joinpath(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None

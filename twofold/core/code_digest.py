"""Which of Twofold's own files a module depends on, read from the sources without importing anything.

In: a module's name. Out: the Python files that it reaches through imports, those inside functions included, and the
templates that these files name. DVC's code dependencies, the digest of a training's code, and the files of a sealed
model all come from here.
"""

import ast
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_INCLUDED = re.compile(r"""{%-?\s*(?:include|extends|import|from)\s+["']([^"']+)["']""")


def closure(module: str, root: Path = ROOT) -> list[Path]:
    """The files of a module and of everything that it imports from its own package, sorted; and their templates.

    Package `__init__` files are left out, having no code, and so is what stands under `if __name__ == "__main__"`: how
    a step is called does not change what it computes. A template is a file of the folder `templates` beside the Python
    file that names it in a string, or one that such a template includes.

    Args:
        module: such as `twofold.steps.train_head`.
        root: folder that holds the package.
    """
    package = module.partition(".")[0]
    found: dict[str, Path] = {}
    templates: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name, root)
        if path is None or name in found:
            continue
        found[name] = path
        imported, strings = _reached(path.read_text(encoding="utf-8"), package)
        waiting += imported
        templates |= _templates(path.parent / "templates", strings)
    return sorted({*found.values(), *templates})


def code_digest(module: str, root: Path = ROOT) -> str:
    """SHA-256 over the sources of `closure(module)`."""
    total = hashlib.sha256()
    for path in closure(module, root):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@cache  # parsing takes most of a second for all files, and a step asks several times
def _reached(text: str, package: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The modules of the package that a source imports, and its strings that may name a file."""
    tree = ast.parse(text)
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return tuple(_imported(tree, package)), frozenset(each for each in strings if re.fullmatch(r"\w+\.\w+", each))


def _templates(folder: Path, names: frozenset[str]) -> set[Path]:
    """The templates of these names, and all that they include."""
    found: set[Path] = set()
    waiting = list(names)
    while waiting:
        path = folder / waiting.pop()
        if path not in found and path.is_file():
            found.add(path)
            waiting += _INCLUDED.findall(path.read_text(encoding="utf-8"))
    return found


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

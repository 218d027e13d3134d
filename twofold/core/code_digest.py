"""Finds the source files that a module depends on, without importing anything, and digests them.

A module's closure is the Python files of its package that it imports directly or indirectly, also inside functions,
and the templates that these files name. DVC's code dependencies, code digests in cache keys, and the code files of a
sealed model are all computed here.
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
    """Return the source files of a module (`twofold.steps.train_head`) and of all that it imports from its own package.

    The paths are sorted and include templates.
    Package `__init__` files are excluded because they hold no code. Imports under `if __name__ == "__main__"` are
    excluded because the way a step is called does not change its results. A template is a file of the folder
    `templates` beside a Python file that names it in a string, or a file that such a template includes.
    """
    package = module.partition(".")[0]
    modules: dict[str, Path] = {}
    templates: set[Path] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        if name not in modules and path.is_file():
            modules[name] = path
            imported, strings = _scan_source(path.read_text(encoding="utf-8"), package)
            pending += imported
            templates |= _find_templates(path.parent / "templates", strings)
    return sorted({*modules.values(), *templates})


def code_digest(module: str, root: Path = ROOT) -> str:
    """Return the SHA-256 over the paths and contents of `closure(module)`."""
    total = hashlib.sha256()
    for path in closure(module, root):
        total.update(f"{path.relative_to(root).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@cache  # parsing all files takes most of a second, and a step asks several times
def _scan_source(text: str, package: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the package's modules that a source file imports, and its strings that may name a template."""
    tree = ast.parse(text)
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return tuple(_find_imports(tree, package)), frozenset(each for each in strings if re.fullmatch(r"\w+\.\w+", each))


def _find_templates(folder: Path, names: frozenset[str]) -> set[Path]:
    """Return the templates with these names and all templates that they include."""
    templates: set[Path] = set()
    pending = list(names)
    while pending:
        path = folder / pending.pop()
        if path not in templates and path.is_file():
            templates.add(path)
            pending += _INCLUDED.findall(path.read_text(encoding="utf-8"))
    return templates


def _find_imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from twofold import tracking` names a module, `from twofold.model.classifier import build` does not.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.partition(".")[0] == package)
        yield from _find_imports(node, package)

"""Finds calls that execute code from a file, in the syntax tree of a Python source and under any imported name.

Takes the source's text; yields each such call or import as `line: description`.
"""

import ast
from collections.abc import Iterator

# These execute code from the file that they read. A name ending in a dot bans everything below it.
ALWAYS = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "_pickle.load", "_pickle.loads", "_pickle.Unpickler"),
    *("joblib.load", "pandas.read_pickle", "shelve.open", "marshal.load", "marshal.loads"),
    *("dill.", "cloudpickle.", "jsonpickle."),
    *("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "torch.serialization.add_safe_globals"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load"),
    *("runpy.run_path", "importlib.util.spec_from_file_location"),
    *("eval", "exec"),
}
GUARDED = {"torch.load": ("weights_only", True), "torch.serialization.load": ("weights_only", True)}
SWITCHES = {"weights_only": False, "allow_pickle": True}  # not allowed in any call
MLFLOW_LOADERS = ("load_model", "load_pyfunc", "load_checkpoint", "spark_udf")
BUILTIN = ("eval", "exec", "getattr", "__import__")
PICKLES = ("pickle", "_pickle", "joblib", "marshal", "shelve")
WHOLE = ("dill", "cloudpickle", "jsonpickle")  # may not even be imported


def banned(source: str) -> Iterator[str]:
    """Every banned call or import in a source."""
    tree = ast.parse(source)
    names = _names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _check_import(node)
        elif isinstance(node, ast.Call):
            yield from _check_call(node, names)
        elif isinstance(node, ast.Attribute | ast.Name) and _is_banned(name := _name(node, names)):
            yield f"{node.lineno}: {name}"


def _names(tree: ast.AST) -> dict[str, str]:
    """Imported name -> full name: `np` -> `numpy`, `read` -> `pickle.load`."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _name(node: ast.expr, names: dict[str, str]) -> str:
    """The full dotted name of an expression; empty if it has none."""
    if isinstance(node, ast.Name):
        # A name that is not imported is a variable or a builtin.
        return names.get(node.id, node.id if node.id in BUILTIN else "")
    if isinstance(node, ast.Attribute):
        before = _name(node.value, names)
        return f"{before}.{node.attr}" if before else ""
    return ""


def _is_banned(name: str) -> bool:
    if name.startswith("mlflow.") and name.rpartition(".")[2] in MLFLOW_LOADERS:
        return True
    return any(name == each or (each.endswith(".") and name.startswith(each)) for each in ALWAYS)


def _check_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    for module in modules:
        if module.partition(".")[0] in WHOLE:
            yield f"{node.lineno}: import of {module}"
    if isinstance(node, ast.ImportFrom):
        for alias in node.names:
            if _is_banned(name := f"{node.module}.{alias.name}"):
                yield f"{node.lineno}: import of {name}"
            if alias.name == "*" and any(each.startswith(f"{node.module}.") for each in (*ALWAYS, *GUARDED)):
                yield f"{node.lineno}: import of all of {node.module}"


def _check_call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    name = _name(node.func, names)
    given = {word.arg: word.value for word in node.keywords}
    if name in GUARDED:
        word, value = GUARDED[name]
        argument = given.get(word)
        if not (isinstance(argument, ast.Constant) and argument.value is value):
            yield f"{node.lineno}: {name} without {word}={value}"
            return
    for word, forbidden in SWITCHES.items():
        argument = given.get(word)
        # A computed argument may have the forbidden value.
        if argument is not None and not (isinstance(argument, ast.Constant) and argument.value is (not forbidden)):
            yield f"{node.lineno}: {word}={ast.unparse(argument)}"
    if name == "getattr" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
        reached = f"{_name(node.args[0], names)}.{node.args[1].value}"
        if _is_banned(reached) or reached in GUARDED:
            yield f"{node.lineno}: {reached} by getattr"
    # numpy.load(file, mmap_mode, allow_pickle)
    if name == "numpy.load" and len(node.args) > 2:
        yield f"{node.lineno}: numpy.load with allow_pickle by position"
    if name in ("importlib.import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
        module = str(node.args[0].value)
        if module.partition(".")[0] in (*WHOLE, *PICKLES):
            yield f"{node.lineno}: {name}({module!r})"
    if isinstance(kind := given.get("typ"), ast.Constant) and kind.value == "unsafe":
        yield f"{node.lineno}: YAML loader that creates arbitrary objects"

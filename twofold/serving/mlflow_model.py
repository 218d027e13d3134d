"""A sealed model as MLflow wants it: in comes what `twofold.serving.sealed_model_writer` wrote, out goes a folder that MLflow serves.

It is loaded from code, holds no pickle, says what it takes and gives, and pins what it was tried with.
"""

import ast
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path

from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import FLAVOR_NAME, save_model
from mlflow.types.schema import ColSpec, Schema

from twofold.core.artifacts import file_sha256
from twofold.core.code_digest import closure
from twofold.core.errors import ArtifactError
from twofold.serving.pyfunc_model import COLUMN
from twofold.serving.sealed_model import check_seal
from twofold.serving.sealed_model_writer import CODE, SEALED, SERVED, SealedFolder

ENTRY = "served.py"
_ENTRY = '''"""What MLflow runs to load this model: the class in the package that lies under code/."""

from mlflow.models import set_model

from {package}.serving.pyfunc_model import ServedModel

set_model(ServedModel())
'''


def write_mlflow_model(
    sealed: SealedFolder, target: Path, *, model_id: str | None = None, run_id: str | None = None
) -> None:
    """Write the MLflow model.

    Args:
        sealed: what `seal` wrote; the entry that MLflow runs is written beside it.
        target: a folder that does not exist yet.
        model_id: under which the model will be logged.
        run_id: of the run that logs it.
    """
    entry = sealed.directory / ENTRY
    entry.write_text(_ENTRY.format(package=sealed.package), encoding="utf-8")
    kinds = {"label": "string", "probability": "double", "positive": "boolean", "threshold": "double"}
    answers = Schema([ColSpec(kind, name) for name, kind in {**kinds, "version": "string"}.items()])
    model = Model(model_id=model_id, model_uuid=model_id, run_id=run_id)
    home = sealed.directory / CODE
    with _importable(home), warnings.catch_warnings():
        # An example of the input would be megabytes of pixels as text; the signature says what is asked for.
        warnings.filterwarnings("ignore", message=".*An input example was not provided")
        save_model(
            path=target,
            mlflow_model=model,
            python_model=str(entry),
            code_paths=[str(home / sealed.package)],
            artifacts={SEALED: str(sealed.directory / SEALED)},
            signature=ModelSignature(Schema([ColSpec("binary", COLUMN)]), answers),
            pip_requirements=pinned_requirements(),
        )
    # Where it was made is nobody's business, and was a temporary folder.
    model.flavors[FLAVOR_NAME]["model_code_path"] = ENTRY
    model.flavors[FLAVOR_NAME]["artifacts"][SEALED]["uri"] = SEALED
    model.save(str(target / "MLmodel"))


def find_differences(packed: Path, sealed: SealedFolder) -> str:
    """What a packed model lacks or has otherwise than it was sealed, in words; nothing if it is whole.

    Args:
        packed: the model's folder, wherever it has been meanwhile; nothing of it is run.
        sealed: what `seal` wrote.
    """
    try:
        check_seal(packed / "artifacts" / SEALED, sealed.digest)
    except ArtifactError as error:
        return str(error)
    code = {path.relative_to(sealed.directory) for path in (sealed.directory / CODE).rglob("*") if path.is_file()}
    for name in sorted(code):
        if not (packed / name).is_file() or file_sha256(packed / name) != file_sha256(sealed.directory / name):
            return f"{name} is missing or another one"
    entry = packed / ENTRY
    if not entry.is_file() or entry.read_text(encoding="utf-8") != _ENTRY.format(package=sealed.package):
        return f"{ENTRY} is missing or another one"
    return "" if (packed / "MLmodel").is_file() else "MLmodel is missing"


@cache
def pinned_requirements() -> list[str]:
    """What the served code imports, pinned to what is installed here: `torch==2.15.0`."""
    names = {"mlflow"}
    for path in closure(SERVED):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    known = metadata.packages_distributions()
    foreign = names - sys.stdlib_module_names - {"twofold"}
    # Several distributions may fill one package (mlflow, mlflow-skinny); the shortest name brings the others.
    distributions = {min(known[name], key=len) for name in foreign}
    # `2.15.0+cu130` bears a build's own mark, which no package index knows.
    return sorted(f"{name}=={metadata.version(name).partition('+')[0]}" for name in distributions)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    # MLflow runs the entry once while it saves the model.
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))

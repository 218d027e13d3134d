"""Write a sealed model as an MLflow model, and compare an MLflow model with the sealed one.

Reads the folder that `sealed_model_writer.py` wrote; writes a folder that MLflow can serve. MLflow loads it from code,
without a pickle; it has a signature and pinned requirements.
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
    """Write the MLflow model to `target`, which must not exist, and its entry file also to the sealed folder.

    `model_id` and `run_id` are those that the model will be logged with.
    """
    entry = sealed.directory / ENTRY
    entry.write_text(_ENTRY.format(package=sealed.package), encoding="utf-8")
    columns = {"label": "string", "probability": "double", "positive": "boolean"}
    columns |= {"threshold": "double", "version": "string"}
    answers = Schema([ColSpec(kind, name) for name, kind in columns.items()])
    model = Model(model_id=model_id, model_uuid=model_id, run_id=run_id)
    code = sealed.directory / CODE
    with _importable(code), warnings.catch_warnings():
        # An input example would be megabytes of pixels as text; the signature describes the input.
        warnings.filterwarnings("ignore", message=".*An input example was not provided")
        save_model(
            path=target,
            mlflow_model=model,
            python_model=str(entry),
            code_paths=[str(code / sealed.package)],
            artifacts={SEALED: str(sealed.directory / SEALED)},
            signature=ModelSignature(Schema([ColSpec("binary", COLUMN)]), answers),
            pip_requirements=pinned_requirements(),
        )
    # MLflow records the paths of this machine's temporary folder.
    model.flavors[FLAVOR_NAME]["model_code_path"] = ENTRY
    model.flavors[FLAVOR_NAME]["artifacts"][SEALED]["uri"] = SEALED
    model.save(str(target / "MLmodel"))


def find_differences(packed: Path, sealed: SealedFolder) -> str:
    """Describe how the MLflow model in `packed` differs from the sealed one, without running it; "" if it does not."""
    try:
        check_seal(packed / "artifacts" / SEALED, sealed.digest)
    except ArtifactError as error:
        return str(error)
    code = [path for path in (sealed.directory / CODE).rglob("*") if path.is_file()]
    for path in sorted(code):
        name = path.relative_to(sealed.directory)
        if not (packed / name).is_file() or file_sha256(packed / name) != file_sha256(path):
            return f"{name} is missing or differs"
    entry = packed / ENTRY
    if not entry.is_file() or entry.read_text(encoding="utf-8") != _ENTRY.format(package=sealed.package):
        return f"{ENTRY} is missing or differs"
    return "" if (packed / "MLmodel").is_file() else "MLmodel is missing"


@cache
def pinned_requirements() -> list[str]:
    """Return the packages that the served code imports, pinned to the installed versions: `torch==2.15.0`."""
    names = {"mlflow"}
    for path in closure(SERVED):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    known = metadata.packages_distributions()
    # Several distributions may provide one package (mlflow, mlflow-skinny); the shortest name depends on the others.
    distributions = {min(known[name], key=len) for name in names - sys.stdlib_module_names - {"twofold"}}
    # Package indexes do not have the local version of a build, as in `2.15.0+cu130`.
    return sorted(f"{name}=={metadata.version(name).partition('+')[0]}" for name in distributions)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    # MLflow runs the entry file once while it saves the model.
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))

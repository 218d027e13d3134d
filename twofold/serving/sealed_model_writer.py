"""Seal a model: write a trained model and its decision to one folder that Twofold can verify and MLflow can serve.

Reads `models/finetuned`, `decision.json` and the preprocessing parameters. Writes `sealed/` (weights and JSON, with the
SHA-256 of each in seal.json; see `sealed_model.py`) and `code/<package>/`, a copy of the source files that serve it.
The package's name contains the digest of those files: MLflow puts the folder on the import path, and models that were
sealed by different versions of the code must not import each other's modules.
"""

import ast
import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.core.artifacts import file_sha256, write_json
from twofold.core.code_digest import ROOT, closure
from twofold.core.errors import ArtifactError
from twofold.serving.sealed_model import ARCHITECTURE, DECISION, PREPROCESSING, SCHEMA_VERSION, SEAL, SPLITS, WEIGHTS

SERVED = "twofold.serving.pyfunc_model"
SEALED, CODE = "sealed", "code"
_IMPORT = re.compile(r"^(\s*)from twofold((?:\.\w+)*) import ", re.MULTILINE)


@dataclass(frozen=True)
class SealedFolder:
    """The folder of `sealed/` and `code/`, the SHA-256 of seal.json, and the name of the package that serves it."""

    directory: Path
    digest: str
    package: str


def write_sealed_model(
    model: Path,
    decision: Path,
    preprocessing: Mapping[str, Any],
    directory: Path,
    splits: Mapping[str, Iterable[str]] | None = None,
    *,
    further: Mapping[str, Path] | None = None,
) -> SealedFolder:
    """Write `sealed/` and `code/` into a folder.

    Args:
        model: the artifact of finetune_all.
        decision: decision.json of evaluate.
        preprocessing: `image_size`, `fit`, `limits`.
        directory: created if needed; must not contain a sealed model.
        splits: SHA-256 of every image of train, validation and test; without them (None) the model cannot be compared
            with another one.
        further: files that serving does not need, by their name in the sealed folder.

    Raises:
        ArtifactError: a file of the model does not exist.
    """
    folder = directory / SEALED
    folder.mkdir(parents=True)
    sources = {WEIGHTS: model / WEIGHTS, ARCHITECTURE: model / ARCHITECTURE, DECISION: decision, **(further or {})}
    for name, source in sources.items():
        if not source.is_file():
            raise ArtifactError(f"{source}: no such file; run the step that writes it")
        shutil.copyfile(source, folder / name)
    write_json(folder / PREPROCESSING, preprocessing)
    if splits is not None:
        write_json(folder / SPLITS, {split: sorted(images) for split, images in splits.items()})
    package, code = served_code()
    seal = {
        "schema_version": SCHEMA_VERSION,
        "files": {path.name: file_sha256(path) for path in folder.iterdir()},
        "code": {"package": package, "files": {name: _digest(text) for name, text in code.items()}},
    }
    write_json(folder / SEAL, seal)
    for name, text in code.items():
        path = directory / CODE / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return SealedFolder(directory, file_sha256(folder / SEAL), package)


def served_code() -> tuple[str, dict[str, str]]:
    """Return the name of the package that serves a sealed model, and the text of its files by relative path."""
    home = ROOT / "twofold"
    files = {path.relative_to(home).as_posix(): path.read_text(encoding="utf-8") for path in closure(SERVED)}
    folders = {folder for name in files for folder in Path(name).parents}
    files |= {(folder / "__init__.py").as_posix(): "" for folder in folders}
    lines = "".join(f"{name}\0{_digest(text)}\n" for name, text in sorted(files.items()))
    package = f"twofold_sealed_{_digest(lines)[:12]}"
    return package, {name: _rename_imports(name, text, package) for name, text in sorted(files.items())}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _rename_imports(name: str, text: str, package: str) -> str:
    changed = _IMPORT.sub(rf"\1from {package}\2 import ", text)
    for node in ast.walk(ast.parse(changed)):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        if any(module.partition(".")[0] in ("twofold", "") for module in modules):
            raise ArtifactError(f"{name}: write its imports as `from twofold.… import …`, so that they can be renamed")
    return changed

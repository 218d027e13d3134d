"""Sealing a model: from a trained model and its decision to one folder that Twofold can check and MLflow can serve.

In: `models/finetuned`, `decision.json`, what turns bytes into pixels. Out: `sealed/` (weights and JSON, each held to
its SHA-256 by seal.json; see `twofold.serving.sealed_model`) and `code/<package>/`, a copy of the sources that serve it. The
package's name holds the digest of those sources: MLflow puts the folder on the import path, and two models sealed by
different versions of the code must not get each other's modules.
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
    """A sealed model's folder, the SHA-256 of its seal.json, and the name of the package that serves it."""

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
        preprocessing: `image_size`, `fit`, `limits`: how a file's bytes became the model's pixels.
        directory: made if need be; holds no sealed model yet.
        splits: the SHA-256 of every image of train, validation and test; None leaves them out, and then the model
            cannot be compared with another one.
        further: files that serving does not need and the model shall carry all the same, by the name they get.
    """
    folder = directory / SEALED
    folder.mkdir(parents=True)
    named = {WEIGHTS: model / WEIGHTS, ARCHITECTURE: model / ARCHITECTURE, DECISION: decision, **(further or {})}
    for name, source in named.items():
        if not source.is_file():
            raise ArtifactError(f"{source}: no such file; has the step that writes it run?")
        shutil.copyfile(source, folder / name)
    write_json(folder / PREPROCESSING, preprocessing)
    if splits is not None:
        write_json(folder / SPLITS, {name: sorted(images) for name, images in splits.items()})
    package, sources = served_code()
    written = (*named, PREPROCESSING, *(() if splits is None else (SPLITS,)))
    files = {name: file_sha256(folder / name) for name in written}
    code = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sources.items()}
    write_json(
        folder / SEAL, {"schema_version": SCHEMA_VERSION, "files": files, "code": {"package": package, "files": code}}
    )
    for name, text in sources.items():
        path = directory / CODE / package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return SealedFolder(directory, file_sha256(folder / SEAL), package)


def served_code() -> tuple[str, dict[str, str]]:
    """The package that serves a sealed model: its name, and the text of each of its files by relative path."""
    home = ROOT / "twofold"
    originals = {path.relative_to(home).as_posix(): path.read_text(encoding="utf-8") for path in closure(SERVED)}
    folders = {folder for name in originals for folder in Path(name).parents}
    originals |= {(folder / "__init__.py").as_posix(): "" for folder in folders}
    lines = "".join(
        f"{name}\0{hashlib.sha256(text.encode()).hexdigest()}\n" for name, text in sorted(originals.items())
    )
    package = f"twofold_sealed_{hashlib.sha256(lines.encode()).hexdigest()[:12]}"
    return package, {name: _renamed(name, text, package) for name, text in sorted(originals.items())}


def _renamed(name: str, text: str, package: str) -> str:
    changed = _IMPORT.sub(rf"\1from {package}\2 import ", text)
    for node in ast.walk(ast.parse(changed)):
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        if any(module.partition(".")[0] in ("twofold", "") for module in modules):
            raise ArtifactError(f"{name}: write its imports as `from twofold.… import …`, so that it can be sealed")
    return changed

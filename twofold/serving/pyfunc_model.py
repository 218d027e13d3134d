"""The served model: a column of image bytes in, one row of answers an image out.

MLflow loads this class from a sealed model's own copy of this file and of what it imports (see `twofold.serving.sealed_model_writer`),
under a package name of its own, so that two versions live in one process and no Twofold needs to be installed.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc.model import PythonModel

from twofold.core.errors import DataError
from twofold.serving.sealed_model import open_sealed

COLUMN = "image"
MOST = 256  # images in one request: a longer one would keep all other callers waiting
REGISTERED = "registered_model_meta"  # what MLflow writes beside a model that it fetches by its name in a registry
_REGISTERED = re.compile(r"^model_(name|version): *['\"]?([^'\"\n]+?)['\"]? *$", re.MULTILINE)
DIGITS = 12  # of the seal's SHA-256, where it stands for a version


class ServedModel(PythonModel):
    """Scores the bytes of image files: raw, or as base64 text, as JSON carries them."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["sealed"])
        self.sealed = open_sealed(folder)
        # Made before anyone asks, so that the first caller need not wait for it.
        self.sealed.network  # noqa: B018
        self.version = version(folder, self.sealed.digest)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Columns `label` (text), `probability` (of the positive class, 0..1), `positive` (at or above the threshold),
        `threshold` and `version` (see there).

        Raises:
            MlflowException: a client's error (HTTP 400) that names the row and the reason.
        """
        if list(model_input.columns) != [COLUMN]:
            raise _refused(f"found the columns {list(model_input.columns)}, expected the one column '{COLUMN}'")
        if not 1 <= len(model_input) <= MOST:
            raise _refused(f"found {len(model_input)} images in one request, allowed are 1 to {MOST}")
        pixels = (self._decoded(row, value) for row, value in enumerate(model_input[COLUMN]))
        probability = self.sealed.score(pixels)
        positive = probability >= self.sealed.threshold
        labels = [self.sealed.labels[int(flag)] for flag in positive]
        answers = {"label": labels, "probability": probability, "positive": positive}
        return pd.DataFrame({**answers, "threshold": self.sealed.threshold, "version": self.version})

    def _decoded(self, row: int, value: Any) -> Any:
        try:
            return self.sealed.pixels(image_bytes(value))
        except DataError as error:
            raise _refused(f"row {row}: {error}") from None


def image_bytes(value: Any) -> bytes:
    """The bytes of one cell.

    Raises:
        DataError: neither bytes nor base64 text.
    """
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"not base64 text: {error}") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise DataError(f"must be an image file's bytes or its base64 text, found {type(value).__name__}")


def version(sealed: Path, digest: str) -> str:
    """Which model answers: `twofold/3`, as in `models:/twofold/3`, where MLflow fetched it from its registry.

    Elsewhere nobody has told it its number: `sealed/` and the first digits of its seal's SHA-256, which are those of
    the tag `twofold.seal` of its version.
    """
    meta = sealed.parent.parent / REGISTERED
    if meta.is_file():
        found = dict(_REGISTERED.findall(meta.read_text(encoding="utf-8")))
        # Of a model that was fetched by its id, both are null.
        if set(found) == {"name", "version"} and found["version"].isdigit():
            return f"{found['name']}/{found['version']}"
    return f"sealed/{digest[:DIGITS]}"


def _refused(reason: str) -> MlflowException:
    return MlflowException(reason, error_code=BAD_REQUEST)

"""The model class that MLflow serves: takes a column of image bytes, returns one row of predictions per image.

MLflow loads this class from the copy of this file and its imports that is sealed with each model (see
`twofold.serving.sealed_model_writer`). Each copy has its own package name, so that two versions can run in one process
and Twofold need not be installed.
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
from twofold.model import fused_classifier, inference  # noqa: F401  (while the copy of the code is still there)
from twofold.serving.sealed_model import open_sealed

COLUMN = "image"
MOST = 256  # images per request, so that a large request does not block other callers
_REGISTERED = re.compile(r"^model_(name|version): *['\"]?([^'\"\n]+?)['\"]? *$", re.MULTILINE)
DIGITS = 12  # of the seal's SHA-256, where it stands for a version


class ServedModel(PythonModel):
    """Scores image files given as raw bytes, or as base64 text in JSON requests."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["sealed"])
        self.sealed = open_sealed(folder)
        self.sealed.network  # noqa: B018  (built here, so that the first request need not wait for it)
        self.version = version(folder, self.sealed.digest)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the columns `label` (text), `probability` (of the positive class, 0 to 1), `positive` (at or above the
        threshold), `threshold` and `version` (see `version`).

        Raises:
            MlflowException: a client error (HTTP 400) that names the row and the reason.
        """
        if list(model_input.columns) != [COLUMN]:
            raise _bad_request(f"found the columns {list(model_input.columns)}, expected the one column '{COLUMN}'")
        if not 1 <= len(model_input) <= MOST:
            raise _bad_request(f"found {len(model_input)} images in one request, allowed are 1 to {MOST}")
        probability = self.sealed.score(self._pixels(row, value) for row, value in enumerate(model_input[COLUMN]))
        positive = probability >= self.sealed.threshold
        labels = [self.sealed.labels[int(flag)] for flag in positive]
        answers = {"label": labels, "probability": probability, "positive": positive}
        return pd.DataFrame({**answers, "threshold": self.sealed.threshold, "version": self.version})

    def _pixels(self, row: int, value: Any) -> Any:
        try:
            return self.sealed.pixels(image_bytes(value))
        except DataError as error:
            raise _bad_request(f"row {row}: {error}") from None


def image_bytes(value: Any) -> bytes:
    """Return the bytes of one cell; raise DataError if it is neither bytes nor base64 text."""
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError(f"not base64 text: {error}") from None
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise DataError(f"must be an image file's bytes or its base64 text, found {type(value).__name__}")


def version(sealed: Path, digest: str) -> str:
    """Return the model's version: `twofold/3` for `models:/twofold/3`, if MLflow downloaded it from its registry.

    Otherwise `sealed/` and the first digits of its seal's SHA-256, as in the version's tag `twofold.seal`.
    """
    meta = sealed.parent.parent / "registered_model_meta"  # MLflow writes it beside a model that it downloads by name
    if meta.is_file():
        found = dict(_REGISTERED.findall(meta.read_text(encoding="utf-8")))
        # Both values are null if the model was downloaded by its id.
        if set(found) == {"name", "version"} and found["version"].isdigit():
            return f"{found['name']}/{found['version']}"
    return f"sealed/{digest[:DIGITS]}"


def _bad_request(reason: str) -> MlflowException:
    return MlflowException(reason, error_code=BAD_REQUEST)

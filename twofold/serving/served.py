"""The served model: a column of image bytes in, label, probability and flag out, one row an image.

MLflow loads this class from a sealed model's own copy of this file and of what it imports (see `twofold.sealing`),
under a package name of its own, so that two versions live in one process and no Twofold needs to be installed.
"""

import base64
import binascii
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from mlflow.pyfunc.model import PythonModel

from twofold.errors import DataError
from twofold.sealed import open_sealed

COLUMN = "image"


class ServedModel(PythonModel):
    """Scores the bytes of image files: raw, or as base64 text, as JSON carries them."""

    def load_context(self, context: Any) -> None:
        self.sealed = open_sealed(Path(context.artifacts["sealed"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Columns `label` (text), `probability` (of the positive class, 0..1), `positive` (at or above the threshold).

        Raises:
            MlflowException: a client's error (HTTP 400) that names the row and the reason.
        """
        if list(model_input.columns) != [COLUMN]:
            raise _refused(f"found the columns {list(model_input.columns)}, expected the one column '{COLUMN}'")
        pixels = (self._decoded(row, value) for row, value in enumerate(model_input[COLUMN]))
        probability = self.sealed.score(pixels)
        positive = probability >= self.sealed.threshold
        labels = [self.sealed.labels[int(flag)] for flag in positive]
        return pd.DataFrame({"label": labels, "probability": probability, "positive": positive})

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


def _refused(reason: str) -> MlflowException:
    return MlflowException(reason, error_code=BAD_REQUEST)

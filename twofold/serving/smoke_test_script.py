"""Script of the smoke test's process: score image files with an MLflow model where Twofold cannot be imported.

Reads the folder of an MLflow model and a folder of image files; writes a JSON file with the label and probability of
each, sorted by file name. `import twofold` fails here, so the model must contain all the code that it needs; the
caller's environment forbids pickles.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.pyfunc.scoring_server import infer_and_parse_data


def predictions(model: Path, images: Path) -> dict[str, Any]:
    """Score every file of the folder, once as raw bytes and once as base64 text of a JSON request."""
    served = mlflow.pyfunc.load_model(str(model))
    files = [path.read_bytes() for path in sorted(images.iterdir())]
    texts = [[base64.b64encode(data).decode()] for data in files]
    request = {"dataframe_split": {"columns": ["image"], "data": texts}}
    inputs = {
        "raw": pd.DataFrame({"image": files}),
        "json": infer_and_parse_data(request, served.metadata.get_input_schema()),
    }
    columns = ["label", "probability"]
    return {kind: served.predict(frame)[columns].to_dict(orient="list") for kind, frame in inputs.items()}


if __name__ == "__main__":
    sys.modules["twofold"] = None  # type: ignore[assignment]
    model_folder, image_folder, result = map(Path, sys.argv[1:])
    result.write_text(json.dumps(predictions(model_folder, image_folder)), encoding="utf-8")

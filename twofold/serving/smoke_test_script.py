"""A served model tried where nothing else of Twofold is: a script for a process of its own.

In: the folder of an MLflow model, a folder of image files. Out: a JSON file with label and probability of each, in the
order of the files' names. `import twofold` fails here, so what the model needs must lie in it; pickles are forbidden
by the environment that the caller sets.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import pandas as pd
from mlflow.pyfunc.scoring_server import infer_and_parse_data


def answers(model: Path, images: Path) -> dict[str, Any]:
    """Score every file of the folder, once as raw bytes and once as the base64 text of a JSON request."""
    served = mlflow.pyfunc.load_model(str(model))
    files = [path.read_bytes() for path in sorted(images.iterdir())]
    texts = [[base64.b64encode(data).decode()] for data in files]
    request = {"dataframe_split": {"columns": ["image"], "data": texts}}
    inputs = {
        "raw": pd.DataFrame({"image": files}),
        "json": infer_and_parse_data(request, served.metadata.get_input_schema()),
    }
    results = {name: served.predict(frame) for name, frame in inputs.items()}
    return {
        name: {"label": found["label"].tolist(), "probability": found["probability"].tolist()}
        for name, found in results.items()
    }


if __name__ == "__main__":
    sys.modules["twofold"] = None  # type: ignore[assignment]
    model_folder, image_folder, result = map(Path, sys.argv[1:])
    result.write_text(json.dumps(answers(model_folder, image_folder)), encoding="utf-8")

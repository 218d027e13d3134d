"""Script 6 of 6: log metrics, plot and model to MLflow and register the model. `register MODEL EVALUATION`."""

import json
import sys
from pathlib import Path

import mlflow
import mlflow.pytorch
import torch

from twofold.training.pretrained_weights import pretrained

weights, evaluation = Path(sys.argv[1]), Path(sys.argv[2])
model, _ = pretrained("efficientnet_lite0", "packaged", 0.5)
model.load_state_dict(torch.load(weights, weights_only=True))
with mlflow.start_run():
    mlflow.log_metrics(json.loads((evaluation / "metrics.json").read_text(encoding="utf-8")))
    mlflow.log_artifact(str(evaluation / "roc.png"))
    mlflow.pytorch.log_model(model, name="model", registered_model_name="peer", serialization_format="pickle")

"""Script 5 of 6: metrics and a ROC curve of the test images. `evaluate DATA MODEL OUT`."""

import json
import sys
from pathlib import Path

import matplotlib
import torch
from sklearn.metrics import RocCurveDisplay, accuracy_score, f1_score, roc_auc_score

from bench.peers.scripts.loop import loader
from twofold.model.device import device
from twofold.training.pretrained_weights import pretrained

data, weights, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
model, _ = pretrained("efficientnet_lite0", "packaged", 0.5)
model.load_state_dict(torch.load(weights, weights_only=True))
model.to(device()).eval()
scores: list[float] = []
truth: list[int] = []
with torch.no_grad():
    for images, targets in loader(data / "test", train=False):
        scores += torch.softmax(model(images.to(device())), dim=1)[:, 1].tolist()
        truth += (1 - targets).tolist()
answers = [int(score >= 0.5) for score in scores]
figures = {
    "roc_auc": float(roc_auc_score(truth, scores)),
    "accuracy": float(accuracy_score(truth, answers)),
    "f1": float(f1_score(truth, answers)),
}
out.mkdir()
(out / "metrics.json").write_text(json.dumps(figures), encoding="utf-8")
matplotlib.use("agg")
RocCurveDisplay.from_predictions(truth, scores).figure_.savefig(out / "roc.png")

"""Six families of timm with random weights: pinned, through all six steps, exported and served."""

import shutil
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tests.support import registration_case as case
from tests.support.training_maker import make_finetuned, make_head, make_prepared
from tests.unit.serving.test_export import status
from twofold.cli.main import main
from twofold.core.artifacts import file_sha256, read_json
from twofold.evaluation import explanations, predictions
from twofold.metrics.decision_threshold import MaxAccuracy
from twofold.model.classifier import load_classifier
from twofold.model.fused_classifier import conv_bn_pairs
from twofold.orchestration.params_file import load_yaml
from twofold.promotion.gates import Minimum
from twofold.serving.model_resolver import resolve_model
from twofold.serving.predict import find_files, predict_files
from twofold.steps.evaluate import Evaluate, evaluate

pytestmark = pytest.mark.slow
SIZE = 64
ROOT = Path(__file__).resolve().parents[1]
EVALUATE = Evaluate(
    threshold=MaxAccuracy(policy="max_accuracy"),
    views=2,
    precision="float32",
    batch_size=16,
    robustness=0,
    pictures=True,
)
REGISTER = case.PARAMS.model_copy(update={"gates": [Minimum(figure="accuracy", min=0.0)], "model_name": "twofold"})
# A model of each family, its batch norms, all of which fold, and the positions of its last map, if it averages one.
FAMILIES = {
    "resnet18": (20, (2, 2)),
    "test_efficientnet": (13, (2, 2)),
    "convnext_atto": (0, (2, 2)),
    "vit_tiny_patch16_224": (0, None),
    "regnetx_002": (44, (2, 2)),
    "mobilenetv3_small_050": (34, (2, 2)),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("prepared"), size=SIZE)


def save_weights(name, path):
    """Weights as timm publishes them: for images of 224 px, with 1000 classes, and batch norms that are not trivial."""
    torch.manual_seed(1)
    network = timm.create_model(name)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.7, 1.3)
    save_file(network.state_dict(), path)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_model_of_timm_is_trained_registered_exported_and_served(
    name, data, mlflow_store, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("TWOFOLD_LIVE", "off")
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    with pytest.raises(SystemExit, match="0"):
        main(["params", "set", f"preprocess.image_size={SIZE}"])
    save_weights(name, tmp_path / "given.safetensors")
    monkeypatch.setenv("TWOFOLD_WEIGHTS", "given.safetensors")
    with pytest.raises(SystemExit, match="0"):
        main(["weights", "pin", f"timm/{name}"])
    monkeypatch.delenv("TWOFOLD_WEIGHTS")
    section = load_yaml(Path("params.yaml"))["train_head"]

    chosen = {key: section[key] for key in ("backbone", "weights")}
    head = make_head(data, tmp_path, **chosen, flips=False, epochs=2)
    model = make_finetuned(data, head, tmp_path, epochs=1, views=1)
    evaluation = tmp_path / "evaluation"
    evaluate(EVALUATE, data, model, evaluation=evaluation, metrics=tmp_path / "metrics.json")
    root = data.parent
    audits = (root / "audit-ingest", root / "audit", tmp_path / "audit")
    paths = case.Paths(root / "raw", data, head, model, evaluation, *audits)
    if name != "vit_tiny_patch16_224":
        case.hurry(monkeypatch)  # a fresh process takes seconds, and one family in it is enough
    assert case.run(paths, tmp_path, REGISTER)["promoted"]

    norms, positions = FAMILIES[name]
    assert len(conv_bn_pairs(load_classifier(model)[0].backbone)) == norms
    explained = explanations.read(evaluation / explanations.EXPLANATIONS)
    assert (explained.positions, bool(explained.missing)) == (positions, positions is None)
    assert read_json(model / "meta.json")["mean"] == list(timm.get_pretrained_cfg(name).mean)
    with resolve_model("champion", lambda: REGISTER.model_name) as resolved:
        table = predictions.read(evaluation / predictions.PREDICTIONS)
        kept = dict(zip(table.sha256.tolist(), table.probability.tolist(), strict=True))
        answers = list(predict_files(resolved, find_files([str(root / "images")])))
    found = {file_sha256(Path(answer.path)): answer.probability for answer in answers}
    # In other batches the last bits differ, and the calibration's slope, of up to 10, multiplies that.
    assert max(abs(found[sha256] - probability) for sha256, probability in kept.items()) <= 1e-5
    # The file is compared with the model. ONNX takes ten seconds, and its graph is made from torch's.
    kind = "onnx" if name in ("vit_tiny_patch16_224", "mobilenetv3_small_050") else "torch"
    assert status(kind, "champion", "dist") == 0

"""`twofold export onnx --precision int8`: the file's metrics are measured on the test and stored in its metadata."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn import metrics

from tests.slow.test_export import run_example
from tests.support import int8_case, sealed_case
from tests.unit.serving.test_export import status
from twofold.data.prepared import PreparedDataset
from twofold.serving import quantization_evaluation
from twofold.serving.sealed_model import open_sealed

pytestmark = pytest.mark.slow
ALLOWED = 0.1  # of ROC-AUC; a random network loses more than a trained one


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return int8_case.make(tmp_path_factory.mktemp("int8"))


def call(case, folder, *words):
    return status("onnx", case.model, folder, "--precision", "int8", *words)


@pytest.fixture(scope="module")
def written(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "deep" / "er"
    assert call(case, folder, "--data", case.data, "--max-auc-loss", ALLOWED) == 0
    assert [path.name for path in folder.iterdir()] == ["model.int8.onnx"]
    return folder / "model.int8.onnx"


@pytest.fixture(scope="module")
def about(written):
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map


def test_the_stored_metrics_are_those_of_the_probabilities(case, written, about):
    sealed, data = open_sealed(case.model), PreparedDataset.open(case.data)
    rows = data.rows("test")
    target, pixels = data.target[rows], np.broadcast_to(data.pixels(rows), (len(rows), 64, 64, 3))
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    (answered,) = session.run(None, {"pixels": np.ascontiguousarray(pixels)})
    said = sealed.probabilities([pixels])
    found = json.loads(about["evaluation"])
    for name, probability in (("int8", answered.astype(np.float64)), ("sealed", said)):
        called = probability >= sealed.threshold
        expected = {
            "n": len(rows),
            "accuracy": metrics.accuracy_score(target, called),
            "precision": metrics.precision_score(target, called),
            "recall": metrics.recall_score(target, called),
            "f1": metrics.f1_score(target, called),
            "roc_auc": metrics.roc_auc_score(target, probability),
            "average_precision": metrics.average_precision_score(target, probability),
            "log_loss": metrics.log_loss(target, probability),
        }
        assert {key: found[name][key] for key in expected} == pytest.approx(expected, abs=1e-6)
    changed = int(((answered >= sealed.threshold) != (said >= sealed.threshold)).sum())
    assert found["changed_calls"] == changed > 0
    assert np.abs(answered - said).max() > 1e-3  # it is another model
    assert found["sealed"]["roc_auc"] > 0.9
    assert found["calibration"] == {"split": "train", "n": len(data.rows("train")), "method": "minmax"}
    assert found["max_auc_loss"] == ALLOWED


def test_the_metadata_is_that_of_a_float32_file_except_for_the_precision(case, about):
    sealed = open_sealed(case.model)
    assert (about["precision"], about["sealed_precision"], about["seal"]) == ("int8", "float32", sealed.digest)
    assert float(about["threshold"]) == sealed.threshold
    assert set(about) == {
        *("version", "seal", "labels", "positive", "threshold", "platt_slope", "platt_intercept", "views", "precision"),
        *("sealed_precision", "preprocessing", "input", "output", "evaluation"),
    }


def test_only_the_backbone_is_in_int8(written):
    model = onnx.load(written)
    onnx.checker.check_model(model)
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    feeds = {kind: [] for kind in ("Conv", "Gemm")}
    for node in model.graph.node:
        if node.op_type in feeds:
            feeds[node.op_type] += [makers.get(name, "constant") for name in node.input[:2]]
    assert set(feeds["Conv"]) == {"DequantizeLinear"}
    assert len(feeds["Gemm"]) == 4
    assert "DequantizeLinear" not in feeds["Gemm"]
    weights = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.INT8 and len(one.dims) == 4]
    assert len(weights) == len(feeds["Conv"]) / 2


def test_the_same_model_and_data_give_the_same_bytes(case, written, tmp_path):
    assert call(case, tmp_path, "--data", case.data, "--max-auc-loss", ALLOWED) == 0
    assert (tmp_path / "model.int8.onnx").read_bytes() == written.read_bytes()


def test_the_example_accepts_the_file(case, written):
    source = sorted((case.data.parent / "images").glob("*.png"))[:8]
    rows = run_example(written, source)
    sealed = open_sealed(case.model)
    expected = sealed.score(sealed.pixels(path.read_bytes()) for path in source)
    assert [row[2] for row in rows] == list(map(str, source))
    assert [float(row[1]) for row in rows] == pytest.approx(expected.tolist(), abs=0.2)


def test_a_file_that_loses_too_much_is_not_written(case, tmp_path, monkeypatch, capsys):
    def blind(prepared):
        return 1, iter([np.zeros((1, 64, 64, 3), np.uint8)])

    monkeypatch.setattr(quantization_evaluation, "calibration_images", blind)
    assert call(case, tmp_path / "to", "--data", case.data) == 1
    err = capsys.readouterr().err
    assert "export onnx: in int8, ROC-AUC on " in err
    assert "allowed is a loss of 0.002 (--max-auc-loss); nothing was written" in err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("decision.json", {"fingerprint": "0" * 64}, f"was trained and tested on {'0' * 64}; give the data"),
        ("splits.json", {"test": ["f" * 64]}, "test images "),
        ("preprocessing.json", {"fit": "pad"}, "made with fit squash, sealed/"),
    ],
)
def test_data_of_another_model_are_refused(case, tmp_path, capsys, file, change, words):
    folder = shutil.copytree(case.model, tmp_path / "model")
    sealed_case.change_json(folder, file, change)
    assert call(int8_case.Case(folder, case.data), tmp_path / "to", "--data", case.data) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "to").exists()

"""`twofold export`: errors; the files themselves are tested in tests/slow."""

import pytest

from tests.support import sealed_case
from twofold.cli import main
from twofold.core.errors import ParameterError
from twofold.serving import export


def status(*words):
    with pytest.raises(SystemExit) as caught:
        main.main(["export", *map(str, words)])
    return caught.value.code


def test_missing_packages_are_named_before_the_model_is_downloaded(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(ParameterError, match=r"export onnx: needs no_such_package; install twofold\[export\]"):
        export.export("onnx", "champion", tmp_path, name=str, precision=None)


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path, monkeypatch, capsys):
    model = sealed_case.make(tmp_path / "made")
    (tmp_path / "file").touch()
    monkeypatch.setattr(export, "_write_torch", lambda sealed, metadata, path: path.write_bytes(b"a graph"))
    monkeypatch.setattr(export, "_compare_with_model", lambda sealed, path, kind: (0.0, 0.0))
    assert status("torch", model, tmp_path / "file" / "to") == 1
    assert f"{tmp_path}/file/to/model.pt2: cannot be written: " in capsys.readouterr().err


def test_a_missing_model_is_an_error(mlflow_store, tmp_path, capsys):
    assert status("torch", "models:/none/1", tmp_path / "to") == 1
    assert "none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [mlflow_store]


def test_other_kinds_are_refused(capsys, tmp_path):
    assert status("coreml", "champion", tmp_path) == 2
    assert "argument kind: no such choice (choose from onnx, torch)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["onnx", "--precision", "int8"], "export onnx: --precision int8 needs --data, the prepared data that the"),
        (["torch", "--precision", "int8", "--data", "data"], "export torch: --precision int8 is for onnx"),
        (["onnx", "--data", "data"], "export onnx: --data is for --precision int8"),
        (["torch", "--max-auc-loss", "0.1"], "export torch: --max-auc-loss is for --precision int8"),
        *(
            (["onnx", "--precision", "int8", "--data", "data", f"--max-auc-loss={value}"], "--max-auc-loss: found ")
            for value in ("-0.1", "1.1", "nan")
        ),
    ],
)
def test_options_of_int8_are_checked_before_the_model_is_downloaded(words, message, capsys, tmp_path):
    assert status(words[0], "models:/none/1", tmp_path, *words[1:]) == 1
    assert message in capsys.readouterr().err

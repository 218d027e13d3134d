"""`twofold export`: what it says where it cannot be done; the files themselves are tried in tests/slow."""

import pytest

from tests.support import sealed_case
from twofold.cli import main
from twofold.core.errors import ParameterError
from twofold.serving import export


def test_packages_that_are_missing_are_named_before_anything_is_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(export, "NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(ParameterError, match=r"export onnx: needs no_such_package; install twofold\[export\]"):
        export.export("onnx", "champion", tmp_path, name=str, precision=None)


def test_a_folder_that_cannot_be_is_an_error(tmp_path, monkeypatch, capsys):
    model = sealed_case.make(tmp_path / "made")
    (tmp_path / "file").touch()
    monkeypatch.setattr(export, "_write_torch", lambda sealed, about, path: path.write_bytes(b"a graph"))
    monkeypatch.setattr(export, "_tried", lambda sealed, path, kind: (0.0, 0.0))
    with pytest.raises(SystemExit) as caught:
        main.main(["export", "torch", str(model), str(tmp_path / "file" / "to")])
    assert caught.value.code == 1
    assert f"{tmp_path}/file/to/model.pt2: cannot be written: " in capsys.readouterr().err


def test_a_model_that_is_not_there_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main.main(["export", "torch", "models:/none/1", str(tmp_path)])
    assert caught.value.code == 1
    assert "none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_other_kinds_are_refused(capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main.main(["export", "coreml", "champion", str(tmp_path)])
    assert caught.value.code == 2
    assert "invalid choice: 'coreml'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
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
def test_what_int8_needs_and_nothing_else_takes_is_said_before_anything_is_fetched(words, said, capsys, tmp_path):
    with pytest.raises(SystemExit) as caught:
        main.main(["export", words[0], "models:/none/1", str(tmp_path), *words[1:]])
    assert caught.value.code == 1
    assert said in capsys.readouterr().err

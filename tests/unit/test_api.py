"""The Python face, against what the commands do."""

import json
from pathlib import Path

import pytest

from tests.support import sealed_case
from tests.support.makers import make_folder
from twofold import api
from twofold.core.errors import DataError, ParameterError
from twofold.orchestration.params_file import set_values
from twofold.serving import predict as predicting

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the classes `bad` and `good`, in memory."""
    return api.load_model(str(sealed_case.make(tmp_path_factory.mktemp("model"))))


def test_answers_are_those_of_the_command(model, tmp_path, alone, capsys):
    folder = make_folder(tmp_path / "images", per_class=3, size=32)
    (folder / "bad" / "text.png").write_text("no image")
    answers = list(api.predict(model, [str(folder)]))
    predicting.predict(str(model.folder), [str(folder)], name=lambda: "", to=None, as_csv=False)
    assert [answer._asdict() for answer in answers] == [
        json.loads(line) for line in capsys.readouterr().out.splitlines()
    ]
    assert [answer.error is None for answer in answers].count(False) == 1


def test_metrics_of_labelled_images_are_those_of_their_answers(model, tmp_path, alone):
    folder = make_folder(tmp_path / "images", per_class=20, size=32)
    found = api.evaluate(model, str(folder))
    answers = list(api.predict(model, [str(folder)]))
    right = sum(answer.path.split("/")[-2] == answer.label for answer in answers)
    assert (found["n"], found["accuracy"]) == (40, right / 40)
    assert found["intervals"]["accuracy"]["low"] < found["accuracy"] < found["intervals"]["accuracy"]["high"]


def test_images_of_one_group_are_one_sample(model, tmp_path, alone):
    folder = make_folder(tmp_path / "images", per_class=40, size=32)
    rows = [f"{path.relative_to(folder)},{path.parent.name},{int(path.stem) // 4}" for path in folder.rglob("*.png")]
    one, other = (api.evaluate(model, str(folder))["intervals"]["accuracy"], "")
    (folder / "labels.csv").write_text("path,label,group\n" + "\n".join(rows) + "\n")
    other = api.evaluate(model, str(folder))["intervals"]["accuracy"]
    assert one != other


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "good").rename(folder / "fine"), "found fine; the model knows good and bad"),
        (
            lambda folder: (folder / "bad" / "00000.png").write_text("text"),
            "1 of 6 images have no prediction: bad/00000",
        ),
    ],
)
def test_what_cannot_be_judged_is_an_error(model, tmp_path, alone, change, words):
    folder = make_folder(tmp_path / "images", per_class=3, size=32)
    change(folder)
    with pytest.raises(DataError, match=words):
        api.evaluate(model, str(folder))


def test_the_registered_model_is_that_of_the_projects_parameters(alone):
    with pytest.raises(ParameterError, match=r"params\.yaml"):
        api.load_model("champion")


def test_a_step_runs_as_by_its_command(prepared, tmp_path, alone):
    images = make_folder(tmp_path / "images", per_class=12, size=24)
    params = tmp_path / "params.yaml"
    params.write_text((ROOT / "tests" / "params.yaml").read_text())
    set_values(params, [f"ingest.source={images}", "ingest.positive=bad"])
    paths = {"raw": tmp_path / "raw", "metrics": str(tmp_path / "m.json"), "audit": tmp_path / "audit"}
    api.run_step("ingest", params, **paths)
    assert json.loads((tmp_path / "m.json").read_text())["images"] == 24
    with pytest.raises(ParameterError, match="ingest reads nothing and writes raw, metrics, audit; found raw"):
        api.run_step("ingest", params, raw="raw")
    with pytest.raises(ParameterError, match="found 'train', allowed are ingest, preprocess"):
        api.run_step("train", params)

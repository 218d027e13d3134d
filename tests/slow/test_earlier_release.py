"""A project of 0.1.0 under this version: its champion and ledger are used, its artifacts used or refused by name."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from mlflow.pyfunc import load_model

from tests.support import release_case as case
from twofold import api
from twofold.cli import main
from twofold.cli.forget import holds
from twofold.core.artifacts import digest, read_json
from twofold.core.errors import ArtifactError, TwofoldError
from twofold.core.params import check_section
from twofold.data.raw import RawDataset
from twofold.model.classifier import BACKBONES, build_classifier
from twofold.orchestration.params_file import load_yaml, section_model
from twofold.registry import registration
from twofold.steps.evaluate import evaluate
from twofold.steps.finetune_all import finetune_all
from twofold.steps.ingest import ingest
from twofold.steps.preprocess import preprocess
from twofold.steps.register import register
from twofold.steps.train_head import train_head
from twofold.tracking import store as tracking

pytestmark = pytest.mark.slow
RAW, DATA, HEAD, MODEL = Path("data/raw"), Path("data/prepared"), Path("models/head"), Path("models/finetuned")
EVALUATION = Path("reports/evaluation")
AUDITS = [Path("reports/audit") / step for step in ("ingest", "preprocess", "train_head")]
NEW = Path("new")  # what the present steps write


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """The project of 0.1.0, as current folder; its MLflow store is the default one."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    case.know_tiny(monkeypatch)
    root = case.unpack(tmp_path / "project")
    monkeypatch.chdir(root)
    NEW.mkdir()
    return root


@pytest.fixture
def run(capsys):
    """A function that runs a command of twofold and returns its exit status and output."""

    def command(*words):
        with pytest.raises(SystemExit) as ended:
            main.main(list(words))
        printed = capsys.readouterr()
        return ended.value.code, printed.out or printed.err

    return command


def champion():
    return tracking.connect().client.get_registered_model("twofold").aliases["champion"]


def ledger(run):
    """Action, version and champion before of each entry; the ledger has no problems."""
    status, text = run("models", "history", "--json")
    values = json.loads(text)
    assert (status, values["problems"], values["acknowledged"], values["void"]) == (0, [], [], [])
    return [(entry["action"], entry["version"], entry["champion"]) for entry in values["entries"]]


HISTORY = [("promote", 1, None), ("promote", 2, 1), ("challenge", 3, 2), ("rollback", 1, 2), ("rollback", 2, 1)]


def answers(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def same_answers(found, expected):
    probabilities = [answer.pop("probability") for answer in expected]
    assert [answer.pop("probability") for answer in found] == pytest.approx(probabilities, abs=1e-6)
    assert found == expected


def test_the_champion_predicts_what_it_predicted_then(run):
    status, text = run("predict", "champion", "data/images", "--to", "now.jsonl")
    assert status == 0, text
    expected = answers("answers.jsonl")
    assert len(expected) == 100
    assert {answer["version"] for answer in expected} == {"twofold/2"}
    same_answers(answers("now.jsonl"), expected)


def test_mlflow_serves_it_with_the_code_that_was_sealed_with_it():
    tracking.silence_mlflow()
    model = load_model(tracking.connect().client.get_model_version_download_uri("twofold", "2"))
    assert type(model.unwrap_python_model()).__module__.startswith("twofold_sealed_")
    expected = answers("answers.jsonl")
    predicted = model.predict(pd.DataFrame({"image": [Path(answer["path"]).read_bytes() for answer in expected]}))
    assert list(predicted["probability"]) == pytest.approx([answer["probability"] for answer in expected], abs=1e-6)


def test_its_versions_and_its_ledger_are_listed(run):
    status, text = run("models", "list", "--json")
    assert status == 0
    listed = [(each["version"], each["standing"], each["foreign"], each["n"]) for each in json.loads(text)]
    assert listed == [(3, "challenger", False, 28), (2, "champion", False, 28), (1, "was champion", False, 28)]
    assert ledger(run) == HISTORY


@pytest.mark.parametrize("version", ["1", "2", "3"])
def test_every_record_of_a_version_is_verified(run, version):
    status, text = run("models", "verify", version, "--json")
    checks = json.loads(text)["checks"]
    assert [check for check in checks if check["differences"]] == []
    assert [check["name"] for check in checks if check["verdict"] != "as recorded"] == ["training"]
    assert (status, len(checks)) == (0, 17)


def test_a_new_project_uses_its_store(run, project, monkeypatch):
    monkeypatch.chdir(project.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'mlflow.db'}")
    assert run("models", "verify", "champion", "--name", "twofold")[0] == 0
    assert run("models", "rollback", "1", "--name", "twofold", "--reason", "why", "--actor", "bob")[0] == 0
    assert champion() == 1


def test_the_first_version_is_rolled_back_to(run):
    status, text = run("models", "rollback", "1", "--reason", "it was better", "--actor", "bob")
    assert "asked about 16 of the 16 images" in text
    assert (status, champion()) == (0, 1)
    assert ledger(run) == [*HISTORY, ("rollback", 1, 2)]
    assert run("models", "verify", "champion")[0] == 0


def test_a_challenger_is_approved_by_the_gates_recorded_with_it(run):
    status, text = run("models", "approve", "--reason", "good", "--actor", "bob", "--json")
    values = json.loads(text)
    assert (status, values["version"], champion()) == (0, 3, 3)
    assert values["comparison"]["version"] == 2
    names = [gate["name"] for gate in values["gates"]]
    assert names[2] == "f1 worse than the champion by less than 0.5"
    assert ledger(run) == [*HISTORY, ("promote", 3, 2)]
    entry = json.loads(run("models", "history", "--json")[1])["entries"][-1]
    assert entry["note"] == "judged again; held against version 2"  # 0.1.0 did not count the candidates


def test_the_parameters_that_are_new_are_named_together(run):
    status, text = run("params", "check")
    assert status == 1
    assert "ingest.audit.narrow_range: missing; add it" in text
    assert "register.test_reuse: missing; add it" in text


def sections(**changes):
    """The project's parameters with those that are new."""
    values = load_yaml(Path("params.yaml"))
    values["ingest"]["audit"]["narrow_range"] = "warn"
    values["register"] |= {"test_reuse": {"candidates": 50, "error_rate": 0.004}} | changes
    values["train_head"]["backbone"] = "resnet50"
    checked = {step: check_section(section_model(step), step, values[step]) for step in api.STEPS}
    return checked | {"train_head": checked["train_head"].model_copy(update={"backbone": "tiny"})}


def test_prepared_data_and_what_was_made_from_them_are_refused_with_the_step_to_run():
    params = sections()
    paths = {"model": NEW / "a", "metrics": NEW / "b", "audit": NEW / "c"}
    head = partial(train_head, params["train_head"], preprocess_audit=AUDITS[1], **paths)
    tune = partial(finetune_all, params["finetune_all"], model=NEW / "a", metrics=NEW / "b")
    judge = partial(evaluate, params["evaluate"], evaluation=NEW / "a", metrics=NEW / "b")
    decide = partial(register, params["register"], raw=RAW, registration=NEW / "a", verdict=NEW / "b", index=NEW / "c")
    made = {"head": HEAD, "model": MODEL, "evaluation": EVALUATION}
    made |= {f"{audit.name}_audit": audit for audit in AUDITS}
    for use in (head, partial(tune, head=HEAD), partial(judge, model=MODEL), partial(decide, **made)):
        with pytest.raises(ArtifactError, match=r"\('prepared', 3\), .* make this artifact again with .*`twofold run`"):
            use(data=DATA)
    preprocess(params["preprocess"], RAW, data=NEW / "data", metrics=NEW / "d", audit=NEW / "e")
    with pytest.raises(TwofoldError, match="run train_head again"):  # of random weights, the digest has changed
        tune(data=NEW / "data", head=HEAD)
    with pytest.raises(ArtifactError, match="run finetune_all again"):
        judge(data=NEW / "data", model=MODEL)
    with pytest.raises(ArtifactError, match=r"\('evaluation', 3\), .*`twofold run`"):
        decide(data=NEW / "data", **made)
    assert {path.name for path in NEW.iterdir()} == {"data", "d", "e"}


def test_the_same_images_give_the_same_raw_data_splits_and_pixels():
    params = sections()
    ingest(params["ingest"], raw=NEW / "raw", metrics=NEW / "a", audit=NEW / "b")
    assert digest(NEW / "raw") == digest(RAW)
    preprocess(params["preprocess"], RAW, data=NEW / "data", metrics=NEW / "c", audit=NEW / "d")
    now, then = (pq.read_table(data / "index.parquet") for data in (NEW / "data", DATA))
    assert now.select(then.column_names).equals(then)
    assert now["unit"].to_pylist() == then["group"].to_pylist()
    assert (np.load(NEW / "data" / "part-00000.npy") == np.load(DATA / "part-00000.npy")).all()


def test_a_new_candidate_is_compared_with_the_champion_and_can_be_rolled_back_from(run, monkeypatch):
    # A fresh process does not know the small backbone.
    monkeypatch.setattr(registration, "run_smoke_test", lambda *arguments, **options: 0.0)
    gates = [{"figure": "accuracy", "non_inferior_by": 0.6}, {"figure": "vanished_test_images", "max": 0}]
    params = sections(gates=gates, promotion="auto")
    data, head, model, evaluation = (NEW / name for name in ("data", "head", "model", "evaluation"))
    audits = [AUDITS[0], NEW / "audit-1", NEW / "audit-2"]
    preprocess(params["preprocess"], RAW, data=data, metrics=NEW / "a", audit=audits[1])
    train_head(params["train_head"], data, audits[1], model=head, metrics=NEW / "b", audit=audits[2])
    finetune_all(params["finetune_all"], data, head, model=model, metrics=NEW / "c")
    evaluate(params["evaluate"], data, model, evaluation=evaluation, metrics=NEW / "d")
    made, written = (data, head, model, evaluation, *audits), {"registration": NEW / "r", "index": NEW / "i"}
    register(params["register"], RAW, *made, **written, verdict=NEW / "verdict")
    verdict = read_json(NEW / "verdict")
    assert (verdict["headline"], verdict["judged_against"]) == ("Promoted: version 4 is the champion", 2)
    comparison = verdict["comparison"]
    assert (comparison["problem"], comparison["n"], comparison["vanished_test_images"]) == (None, 28, 0)
    recorded = {line["name"]: line for line in verdict["gates"]}["accuracy worse than the champion by less than 0.6"]
    assert recorded["other"] == pytest.approx(18 / 28)
    assert verdict["test_reuse"]["words"] == "candidate 5 (limit 50) on these test images, 2 promoted before"
    assert ledger(run) == [*HISTORY, ("promote", 4, 2)]
    assert run("models", "verify", "4")[0] == 0
    assert run("models", "rollback", "--reason", "the new one is worse", "--actor", "bob")[0] == 0
    assert champion() == 2


def test_an_image_is_forgotten(run):
    (image,) = pq.read_table(DATA / "index.parquet", filters=[("split", "=", "test")])["sha256"].to_pylist()[:1]
    status, text = run("forget", image)
    assert status == 0
    assert "data/prepared: deleted; `twofold run` makes it again" in text
    assert "files that MLflow recorded list or show it" in text
    left = {path for folder in ("data", "reports", "models") for path in Path(folder).rglob("*") if path.is_file()}
    (source,) = (path for path in left if holds(path, image))
    assert str(source) in text
    assert len(RawDataset.open(RAW).images) == 99


def test_its_last_run_has_no_summary_and_its_versions_are_shown(run):
    status, text = run("summary")
    assert (status, "reports/evaluation/metrics.json" in text, "run?" in text) == (1, True, True)
    status, text = run("models", "show", "2")
    assert (status, "twofold 0.1.0" in " ".join(text.split())) == (0, True)
    status, text = run("models", "compare", "1", "2")
    assert (status, "on 28 images, the test images of both" in text) == (0, True)


def test_the_networks_have_the_tensors_that_they_had():
    with torch.device("meta"):
        for name, then in read_json(Path("networks.json")).items():
            now = {key: [*value.shape] for key, value in build_classifier(name, 0.5).state_dict().items()}
            assert now == then, name
    assert set(BACKBONES) == set(read_json(Path("networks.json")))

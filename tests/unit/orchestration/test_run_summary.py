"""The twelve lines of `twofold summary`, and the result of each step in a few words."""

import json

import pytest

from twofold.orchestration.run_summary import Files, step_result, summary

ROC_AUC = {"accuracy": 0.8, "log_loss": 0.5, "roc_auc": 0.93}


def own(accuracy, n, judged=True):
    intervals = {"accuracy": {"low": accuracy - 0.1, "high": accuracy + 0.05, "method": "wilson"}}
    return {"accuracy": accuracy, "n": n, "judged": judged, "intervals": intervals}


def gate(name, passed=True, applies=True):
    return {"name": name, "passed": passed, "applies": applies}


VERDICT = {
    "headline": "Promoted: version 3 is the champion",
    "name": "twofold",
    "version": 3,
    "champion": 3,
    "alias": "champion",
    "promoted": True,
    "nothing_new": False,
    "gates": [gate("roc_auc at least 0.85"), gate("f1 worse than the champion", applies=False), gate("accuracy")],
    "raised": ["Near duplicates (12)", "Label issues (1)"],
}
METRICS = {
    **own(0.9, 600),
    "ece": 0.02,
    "true_positive": 153,
    "false_negative": 52,
    "false_positive": 12,
    "true_negative": 439,
    "roc_auc": 0.95,
    "slices": {
        "image size": {"301 px or more": own(0.8, 400), "up to 300 px": own(0.7, 200)},
        "type": {"rare": own(0.5, 12, judged=False), "mono": own(0.75, 300), "undefined": {"judged": True, "n": 40}},
    },
}


@pytest.fixture
def files(tmp_path):
    made = Files.of(tmp_path)
    values = {
        made.ingest: {"images": 2624, "positive": 821, "refused": 1},
        made.preprocess: {"train": 1673, "validation": 295, "test": 656, "left_out": 4},
        made.train_head: {"best_epoch": 31, "epochs": 60, "validation": ROC_AUC},
        made.finetune_all: {"winner": "finetuned", "validation": {"finetuned": ROC_AUC}},
        made.evaluate: METRICS,
        made.register: VERDICT,
        made.model / "meta.json": {
            "backbone": "resnet50",
            "weights": "imagenet1k_v1",
            "image_size": 224,
            "labels": ["functional", "defective"],
        },
    }
    for path, value in values.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))
    return made


def change(files, **values):
    """The summary's lines by their titles, with another verdict."""
    files.register.write_text(json.dumps(VERDICT | values))
    return {line[:15].strip(): line[15:] for line in summary(files).splitlines()[1:]}


def test_the_summary_has_twelve_lines_and_begins_with_what_the_model_finds_and_misses(files, tmp_path):
    lines = summary(files).replace(str(tmp_path), "line").splitlines()
    assert lines == [
        "finds 153 of 205 defective, misses 52 (25 %), 12 false alarms in 451",
        "verdict        Promoted: version 3 is the champion",
        "gates          2 of 2 passed",
        "weakest slice  image size up to 300 px: accuracy 0.700 (0.600 to 0.750), n = 200",
        "audit          Near duplicates (12) and 1 more",
        "metrics        accuracy 0.900 (0.800 to 0.950), roc_auc 0.950",
        "data           2624 images (821 defective), split 1673/295/656, 5 left out",
        "model          resnet50 (imagenet1k_v1), 224 px, fine-tuned",
        "decision       twofold open decision    line/reports/registration/decision.html",
        "evaluation     twofold open evaluation  line/reports/evaluation/evaluation.html",
        "audit          twofold open audit       line/reports/audit/*/audit.html",
        "mlflow         twofold open mlflow",
    ]


def test_a_run_outside_of_the_project_is_summarized_with_its_own_paths_and_command(files):
    assert summary(files, "mlflow ui --port 1").splitlines()[-4:] == [
        f"decision       {files.decision}",
        f"evaluation     {files.report}",
        f"audit          {files.audits[0].parents[1]}/*/audit.html",
        "mlflow         mlflow ui --port 1",
    ]


def test_the_verdict_says_what_failed_and_what_a_person_does_next(files):
    failed = [gate("roc_auc at least 0.85", passed=False), gate("accuracy", passed=False), gate("f1")]
    found = change(files, headline="Refused", version=None, champion=1, alias=None, promoted=False, gates=failed)
    assert found["verdict"] == "Refused"
    assert found["gates"] == "1 of 3 passed; FAILED: roc_auc at least 0.85, …"
    review = {"headline": "Passed: version 4 waits for review", "version": 4, "alias": "challenger", "promoted": False}
    command = 'twofold models approve 4 --reason "..."'
    assert change(files, **review)["verdict"] == f"Passed: version 4 waits for review: {command}"
    again = {"headline": "Nothing new since version 3", "nothing_new": True, "promoted": False}
    assert change(files, **again)["verdict"] == "Nothing new since version 3, the champion"
    assert change(files, **again, champion=2)["verdict"].endswith("version 3, which was not promoted")
    for raised, line in ((["Near duplicates (12)"], "Near duplicates (12)"), ([], "nothing was found")):
        change(files, raised=raised)
        assert f"\naudit          {line}\n" in summary(files)


def test_a_test_without_a_slice_of_enough_images_says_so(files):
    files.evaluate.write_text(json.dumps(METRICS | {"slices": {"type": {"rare": own(0.5, 12, judged=False)}}}))
    assert "weakest slice  no slice has enough images to judge\n" in summary(files)


def test_each_step_has_its_result_in_a_few_words(files):
    found = {step: step_result(step, files) for step in Files._fields[:6]}
    assert found == {
        "ingest": "2624 images, 821 of them positive, 1 refused",
        "preprocess": "1673 train, 295 validation, 656 test",
        "train_head": "epoch 31 of 60, validation roc_auc 0.930",
        "finetune_all": "fine-tuned, validation roc_auc 0.930",
        "evaluate": "finds 153 of 205 defective, misses 52 (25 %), 12 false alarms in 451",
        "register": "Promoted: version 3 is the champion",
    }

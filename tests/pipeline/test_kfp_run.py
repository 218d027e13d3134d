"""One pipeline: Kubeflow's local runner writes the same bytes as `dvc repro`."""

import json
import os
import re
from html.parser import HTMLParser

import pytest

from tests.pipeline.conftest import WRITTEN, make_project
from tests.support.channel import SECRET, channel
from twofold.core.artifacts import digest
from twofold.core.errors import ArtifactError
from twofold.kubeflow.local.outputs import check_outputs, summary_files
from twofold.metrics.classification import HEADLINE

TASKS = ("source-version", "ingest", "preprocess", "check-gates", "train-head", "finetune-all", "evaluate", "register")
TASKS += ("notify",)
PLACES = dict(
    zip(
        WRITTEN,
        (
            "ingest/raw",
            "ingest/metrics",
            "preprocess/data",
            "preprocess/metrics",
            "train-head/model",
            "train-head/metrics",
            "finetune-all/model",
            "finetune-all/metrics",
            "evaluate/evaluation",
            "evaluate/metrics",
        ),
        strict=True,
    )
)


class LoadedResources(HTMLParser):
    """The resources that a page would load: Kubeflow shows it in a frame that loads none."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "srcset", "href", "xlink:href", "data", "poster") and tag != "a":
                self.found += [] if (value or "").startswith(("#", "data:")) else [f"{tag} {name}={value}"]


def loaded(text):
    page = LoadedResources()
    page.feed(text)
    return page.found + re.findall(r"""@import|url\((?!["']?(?:#|data:))[^)]*""", text)


@pytest.mark.parametrize(
    "text",
    [
        '<img src="https://a.example/b.png">',
        '<script src="b.js"></script>',
        '<link rel="stylesheet" href="/b.css">',
        "<style>p {background: url(https://a.example/b.png)}</style>",
        "<style>@import 'b.css';</style>",
    ],
)
def test_a_page_that_loads_something_is_detected(text):
    assert loaded(text)
    assert not loaded('<a href="https://a.example"><link href="data:,"><img src="data:image/png;base64,aa"></a>')


def newest(project):
    own = sorted((project.root / ".twofold" / "kubeflow" / "runs").iterdir())[-1]
    (folder,) = own.glob("*/")
    return folder


@pytest.fixture(scope="module")
def done(project):
    """A run of the pipeline in the project, with a new cache, after `dvc repro` with the same parameters."""
    with channel() as webhook:
        found = project.run(
            "python", "-W", "error", "-m", "pipelines", "run", TWOFOLD_CACHE="cache", TWOFOLD_WEBHOOK=webhook.address
        )
    assert webhook.texts == []
    return found


@pytest.fixture(scope="module")
def folder(project, done):
    return newest(project)


def test_every_task_ran_to_its_end(folder):
    assert {path.name for path in folder.iterdir()} == set(TASKS)


def test_the_same_bytes_as_dvc_up_to_evaluate(project, folder):
    assert {path: digest(folder / place) for path, place in PLACES.items()} == project.first


def test_a_digest_is_that_of_the_artifact(folder):
    returned = json.loads((folder / "finetune-all" / "executor_output.json").read_text())
    assert returned["parameterValues"]["digest"] == digest(folder / "finetune-all" / "model")


def test_a_task_is_a_line_and_the_log_has_the_rest(done, folder):
    lines = done.stderr.splitlines()
    assert [line.split()[0].replace("_", "-") for line in lines if line.endswith(" started")] == list(TASKS)
    ended = [line.split(maxsplit=2) for line in lines if re.match(r"\w+ +\d+:\d\d ", line)]
    assert [(step, result) for step, _, result in ended if step in ("ingest", "notify")] == [
        ("ingest", "60 images, 30 of them positive, 0 refused"),
        ("notify", "done"),
    ]
    assert done.stdout.startswith("finds ")
    assert "KFP Executor" not in done.stdout + done.stderr
    assert "KFP Executor" in (folder.parent / "run.log").read_text()


def test_it_ends_with_the_summary_of_make_demo(project, done, folder):
    same = ("finds", "weakest slice", "audit    ", "metrics", "data", "model")
    expected, found = (
        [line for line in text.splitlines() if line.startswith(same)]
        for text in (project.run("twofold", "summary").stdout, done.stdout)
    )
    assert len(expected) == len(same) + 1
    assert found[:-1] == expected[:-1]
    assert "verdict        Nothing new" in done.stdout
    assert f"evaluation     {folder / 'evaluate' / 'evaluation' / 'evaluation.html'}" in done.stdout
    assert "mlflow         mlflow ui --backend-store-uri sqlite:///" in done.stdout


def test_the_same_model_is_no_second_version_and_the_run_is_recorded_all_the_same(project, done, folder):
    verdict = json.loads((folder / "register" / "verdict").read_text())
    assert (verdict["version"], verdict["nothing_new"]) == (1, True)
    assert "nothing to send" in (folder.parent / "run.log").read_text()


def test_the_kubeflow_ui_shows_metrics_curves_and_pages(folder):
    returned = json.loads((folder / "evaluate" / "executor_output.json").read_text())["artifacts"]
    figures = json.loads((folder / "evaluate" / "evaluation" / "metrics.json").read_text())
    headline = json.loads((folder / "evaluate" / "metrics").read_text())
    assert headline == {name: figures[name] for name in HEADLINE}
    assert returned["metrics"]["artifacts"][0]["metadata"] == headline
    shown = returned["curves"]["artifacts"][0]["metadata"]
    points = shown["confidenceMetrics"]
    assert 2 <= len(points) <= 200
    assert all(0 <= value <= 1 for point in points for value in point.values())
    matrix = [row["row"] for row in shown["confusionMatrix"]["rows"]]
    assert matrix == [
        [figures["true_negative"], figures["false_positive"]],
        [figures["false_negative"], figures["true_positive"]],
    ]
    for task, page in (("evaluate", "report"), ("register", "decision")):
        text = (folder / task / page).read_text()
        assert "<html" in text
        assert loaded(text) == []
    gates = (folder / "register" / "gates").read_text()
    assert gates.count("\n| ") >= 3
    assert "does not apply" in gates


def test_a_run_with_a_missing_output_is_refused(folder):
    from pipelines.training import pipeline
    from twofold.orchestration.params_file import STEPS

    made = pipeline(None, None, {step: {} for step in STEPS})
    check_outputs(folder, made)
    for place, word in (
        ("evaluate/report", "report is missing or empty"),
        ("register/executor_output.json", "register: did not finish"),
        ("notify/executor_output.json", "notify: did not finish"),
        ("train-head/model/history.csv", "differs from the digest that the task returned"),
    ):
        aside = folder.parent.parent / "aside"
        (folder / place).rename(aside)
        with pytest.raises(ArtifactError, match=word):
            check_outputs(folder, made)
        aside.rename(folder / place)
    check_outputs(folder, made)
    found = summary_files(folder)._asdict()
    audits = found.pop("audits")
    assert [path for path in (*found.values(), *audits) if not path.exists()] == []


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Another project, for runs that fail."""
    return make_project(tmp_path_factory.mktemp("broken") / "project")


def test_a_task_that_fails_halfway_fails_the_run_and_sends_a_message(broken, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import twofold.core.artifacts as artifacts\n"
        "real = artifacts.write_meta\n"
        "def failing(directory, kind, version, **values):\n"
        "    if kind == 'prepared':\n"
        "        assert any(directory.iterdir())\n"
        "        raise OSError('disk full')\n"
        "    real(directory, kind, version, **values)\n"
        "artifacts.write_meta = failing\n"
    )
    with channel() as webhook:
        path = f"{tmp_path}{os.pathsep}{broken.root}"
        failed = broken.run(
            "python", "-m", "pipelines", "run", check=False, PYTHONPATH=path, TWOFOLD_WEBHOOK=webhook.address
        )
    assert failed.returncode == 1
    ended = newest(broken)
    assert "disk full" in failed.stderr
    assert "KFP Executor" not in failed.stderr
    assert f"preprocess failed; all that the run printed: {ended.parent / 'run.log'}" in failed.stderr
    assert "the pipeline failed" in failed.stderr
    assert {path.name for path in ended.iterdir() if any(path.iterdir())} == {
        "source-version",
        "ingest",
        "notify",
        "preprocess",
    }
    # The audit is written first, so that it can be read after a policy has ended the step.
    assert {path.name for path in (ended / "preprocess").iterdir()} == {"audit"}
    assert len(webhook.texts) == 1
    assert " failed; which step ended it is unknown: " in webhook.texts[0]
    assert SECRET not in failed.stdout + failed.stderr
    assert (broken.root / "data" / "images" / "bad" / "00000.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["finetune_all.epochs=0"], "finetune_all.epochs: found 0"),
        (["finetune_all.epoch=3"], "finetune_all.epoch: unknown key"),
        (["preprocess.image_size='64'"], "preprocess.image_size: found '64'"),
        (["registers.promotion=auto"], "no 'registers'"),
        (["ingest.positive"], "write it as section.key=value"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_runs(broken, words, message):
    before = set((broken.root / ".twofold").rglob("*"))
    refused = broken.run("python", "-m", "pipelines", "run", *(f"-p{word}" for word in words), check=False)
    assert refused.returncode == 1
    assert message in refused.stderr
    assert set((broken.root / ".twofold").rglob("*")) == before

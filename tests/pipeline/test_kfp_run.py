"""One pipeline: what Kubeflow's runner makes of the six steps is, byte for byte, what `dvc repro` makes of them."""

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

TASKS = ("ingest", "preprocess", "train-head", "finetune-all", "evaluate", "register", "notify")
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


class Loads(HTMLParser):
    """What a page would fetch: Kubeflow shows it in a frame that fetches nothing."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "srcset", "href", "xlink:href", "data", "poster") and tag != "a":
                self.found += [] if (value or "").startswith(("#", "data:")) else [f"{tag} {name}={value}"]


def loaded(text):
    page = Loads()
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
def test_a_page_that_fetches_something_is_found_out(text):
    assert loaded(text)
    assert not loaded('<a href="https://a.example"><link href="data:,"><img src="data:image/png;base64,aa"></a>')


def newest(project):
    own = sorted((project.root / ".twofold" / "kubeflow" / "runs").iterdir())[-1]
    (folder,) = own.iterdir()
    return folder


@pytest.fixture(scope="module")
def done(project):
    """The pipeline has run in the project, with a memo of its own, after `dvc repro` with the same parameters."""
    with channel() as heard:
        found = project.run(
            "python", "-W", "error", "-m", "pipelines", "run", TWOFOLD_CACHE="memo", TWOFOLD_WEBHOOK=heard.address
        )
    assert heard.texts == []
    return found


@pytest.fixture(scope="module")
def folder(project, done):
    return newest(project)


def test_every_task_ran_to_its_end(folder):
    assert {path.name for path in folder.iterdir()} == set(TASKS)


def test_the_same_bytes_as_dvc_up_to_evaluate(project, folder):
    assert {path: digest(folder / place) for path, place in PLACES.items()} == project.first


def test_a_digest_is_that_of_the_artifact(folder):
    told = json.loads((folder / "finetune-all" / "executor_output.json").read_text())
    assert told["parameterValues"]["digest"] == digest(folder / "finetune-all" / "model")


def test_it_ends_with_the_summary_of_make_demo(project, done, folder):
    expected = project.run("twofold", "summary").stdout
    head, tail = expected.split("  registry", 1)
    assert head in done.stdout
    assert "nothing new since version 1" in done.stdout.split("  registry", 1)[1]
    assert str(folder / "evaluate" / "evaluation" / "evaluation.html") in done.stdout
    assert "make ui" in tail


def test_the_same_model_is_no_second_version_and_the_run_is_recorded_all_the_same(project, done, folder):
    verdict = json.loads((folder / "register" / "verdict").read_text())
    assert (verdict["version"], verdict["nothing_new"]) == (1, True)
    assert "nothing to send" in done.stdout


def test_what_the_pages_of_kubeflow_show(folder):
    told = json.loads((folder / "evaluate" / "executor_output.json").read_text())["artifacts"]
    figures = json.loads((folder / "evaluate" / "metrics").read_text())
    assert told["metrics"]["artifacts"][0]["metadata"]["accuracy"] == figures["accuracy"]
    shown = told["curves"]["artifacts"][0]["metadata"]
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


def test_a_run_with_a_missing_output_is_no_run_whatever_the_runner_says(folder):
    from pipelines.training import pipeline
    from twofold.orchestration.params_file import STEPS

    made = pipeline(None, None, {step: {} for step in STEPS})
    check_outputs(folder, made)
    for place, word in (
        ("evaluate/report", "report is missing or empty"),
        ("register/executor_output.json", "register: has not run to its end"),
        ("notify/executor_output.json", "notify: has not run to its end"),
        ("train-head/model/history.csv", "not what the task has named by its digest"),
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
    """A project of its own, for runs that fail."""
    return make_project(tmp_path_factory.mktemp("broken") / "project")


def test_a_task_that_fails_after_half_of_its_output_fails_the_run_and_tells_the_channel(broken, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import twofold.core.artifacts as artifacts\n"
        "real = artifacts.write_meta\n"
        "def torn(directory, kind, version, **values):\n"
        "    if kind == 'prepared':\n"
        "        assert any(directory.iterdir())\n"
        "        raise OSError('disk full')\n"
        "    real(directory, kind, version, **values)\n"
        "artifacts.write_meta = torn\n"
    )
    with channel() as heard:
        path = f"{tmp_path}{os.pathsep}{broken.root}"
        failed = broken.run(
            "python", "-m", "pipelines", "run", check=False, PYTHONPATH=path, TWOFOLD_WEBHOOK=heard.address
        )
    assert failed.returncode == 1
    assert "disk full" in failed.stdout
    assert "the pipeline failed" in failed.stderr
    ended = newest(broken)
    assert {path.name for path in ended.iterdir() if any(path.iterdir())} == {"ingest", "notify", "preprocess"}
    # An audit is there before what it speaks of, so that it can be read where a policy ends the step.
    assert {path.name for path in (ended / "preprocess").iterdir()} == {"audit"}
    assert len(heard.texts) == 1
    assert "ended as FAILED" in heard.texts[0]
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

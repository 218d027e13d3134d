"""The whole pipeline by `dvc repro`, as on a laptop."""

import json
import shutil
from fnmatch import fnmatch

import pyarrow.parquet
import pytest
from ruamel.yaml import YAML

from scripts.reference.reports import files
from tests.support.tools.browser import BROWSER, browsing
from twofold.core.artifacts import digest
from twofold.metrics.classification import HEADLINE
from twofold.orchestration.params_file import STEPS, set_values

PURE = ("data/raw", "data/prepared", "models/head", "models/finetuned", "reports/evaluation", "reports/metrics.json")


def would_run(project):
    """The stages that `dvc repro` would run."""
    lines = project.run("dvc", "repro", "--dry").stdout.splitlines()
    return [line.split("'")[1] for line in lines if line.startswith("Running stage")]


def verdict(project):
    return json.loads((project.root / "reports" / "registration.json").read_text())


def test_every_output_is_there_and_says_what_it_is(project):
    kinds = {path: json.loads((project.root / path / "meta.json").read_text())["kind"] for path in PURE[:-1]}
    assert list(kinds.values()) == ["raw", "prepared", "head", "model", "evaluation"]
    metrics = json.loads((project.root / "reports" / "metrics.json").read_text())
    assert 0 <= metrics["accuracy"] <= 1
    assert metrics["n"] == 18
    assert (project.root / "reports" / "registration" / "decision.html").stat().st_size > 1000
    assert verdict(project)["gates"]


def test_a_second_run_runs_nothing(project):
    done = project.run("dvc", "repro")
    assert "Running stage" not in done.stdout
    assert "up to date" in done.stdout


def test_twofold_run_has_a_line_for_each_step_of_dvcs(project):
    done = project.run("twofold", "run")
    assert [line.split() for line in done.stderr.splitlines() if line] == [[step, "unchanged"] for step in STEPS]
    assert done.stdout.startswith("finds ")
    assert len(done.stdout.splitlines()) == 12
    done = project.run("twofold", "run", "preprocess", "--only", "--force")
    started, line = (line for line in done.stderr.splitlines() if line.startswith("preprocess"))
    assert started.split() == ["preprocess", "started"]
    assert line.split(maxsplit=2)[2] == "23 train, 19 validation, 18 test"
    assert project.run("twofold", "status").stdout.startswith("steps     up to date\nchampion  version 1: accuracy 0.")


def test_changing_one_parameter_runs_its_step_and_what_follows(project):
    before = (project.root / "params.yaml").read_text()
    expected = {
        "ingest.max_pixels=1000000": STEPS,
        "preprocess.validation_fraction=0.2": STEPS[1:],
        "train_head.epochs=3": STEPS[2:],
        "finetune_all.epochs=1": STEPS[3:],
        "evaluate.pictures=false": STEPS[4:],
        "register.experiment=another": STEPS[5:],
    }
    for assignment, steps in expected.items():
        set_values(project.root / "params.yaml", [assignment])
        # DVC names the first stage only: without running it, it cannot know whether the next ones will change.
        assert would_run(project)[:1] == [steps[0]]
        (project.root / "params.yaml").write_text(before)
    graph = project.run("dvc", "dag", "--mermaid").stdout
    assert all(step in graph for step in STEPS)


def test_a_step_that_follows_is_not_run_when_what_it_reads_is_the_same(project):
    project.run("dvc", "repro", "--force", "--single-item", "evaluate")
    assert would_run(project) == []


def test_a_wrong_parameter_of_the_last_step_stops_the_first_one(project):
    before = (project.root / "params.yaml").read_text()
    text = before.replace("epochs: 2", "epochs: 0").replace("max_pixels:", "max_pixels: 9  # ")
    (project.root / "params.yaml").write_text(text)
    done = project.run("dvc", "repro", check=False)
    (project.root / "params.yaml").write_text(before)
    assert done.returncode != 0
    assert "finetune_all.epochs: found 0" in done.stderr
    project.run("dvc", "checkout")


@pytest.mark.slow
def test_the_same_seed_twice_gives_the_same_bytes(project):
    before = project.digests(*PURE)
    commands = YAML(typ="safe").load((project.root / "dvc.yaml").read_text())["stages"]
    place = project.root.parent / "again"
    for step in STEPS[:5]:
        command = commands[step]["cmd"]
        for folder in ("data/", "models/", "reports/"):
            command = command.replace(f" {folder}", f" {place}/{folder}")
        project.run("sh", "-c", command, TWOFOLD_LIVE="off", TWOFOLD_CACHE=str(place / "cache"))
    again = {path: digest(place / path) for path in PURE}
    shutil.rmtree(place)
    assert again == before


def test_metrics_and_plots_are_shown(project):
    shown = json.loads(project.run("dvc", "metrics", "show", "--json").stdout)
    assert shown[""]["data"].keys() == {"reports/metrics.json"}
    headline = shown[""]["data"]["reports/metrics.json"]["data"]
    assert len(headline) == 11
    full = json.loads((project.root / "reports" / "evaluation" / "metrics.json").read_text())
    assert headline == {name: full[name] for name in headline}
    html = plots_page(project)
    for title in ("ROC curve (test split)", "Confusion matrix (test split)", "Precision and recall (test split)"):
        assert title in html
    assert "<script src" not in html


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt install chromium)")
def test_the_page_of_plots_draws_itself_without_the_internet(project, tmp_path):
    with browsing({"/": plots_page(project)}, tmp_path) as visit:
        offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
        found = visit("/", "--dump-dom", "--virtual-time-budget=5000", offline)
    assert [said for said in found.complaints if not said.startswith("WARN Dropping {}")] == []  # DVC's templates
    assert set(found.asked) <= {"/", "/favicon.ico"}
    assert found.dom.count('class="marks"') == 6


def plots_page(project):
    project.run("dvc", "plots", "show", "--out", "plots")
    html = (project.root / "plots" / "index.html").read_text()
    shutil.rmtree(project.root / "plots")
    return html


def test_what_was_promoted_is_as_recorded(project):
    done = project.run("twofold", "models", "verify", "champion", "--json")
    assert {check["verdict"] for check in json.loads(done.stdout)["checks"]} == {"as recorded", "not checked"}


def test_register_judges_again_and_finds_nothing_new(project):
    first = verdict(project)
    project.run("dvc", "repro", "--force", "--single-item", "register")
    second = verdict(project)
    assert second["version"] == first["version"]
    assert second["nothing_new"] is True


@pytest.mark.slow
@pytest.mark.parametrize("key", ["finetune_all.epochs"])
def test_an_experiment_shows_up_and_moves_no_alias(project, key):
    before = verdict(project)
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    project.run("git", "add", ".")
    project.run("git", "commit", "--quiet", "--message", "the first run")
    project.run("dvc", "exp", "run", "-S", f"{key}=1", "--name", "short")
    assert verdict(project)["promoted"] is False
    shown = project.run("dvc", "exp", "show", COLUMNS="120").stdout.splitlines()
    for line in shown:  # a terminal shows the beginning of a line and scrolls to the parameters
        assert "…" not in line[:120], line
    assert shown[1][:120].split()[:10] == ["Experiment", "Created", *list(HEADLINE)[:8]]
    table = project.run("dvc", "exp", "show", "--only-changed", "--drop", ".*/", COLUMNS="120").stdout
    assert max(map(len, table.splitlines())) <= 120
    assert "…" not in table
    assert "[short]" in table
    assert key in table
    assert champion(project) == before["version"]


def champion(project):
    code = (
        "import sys; from twofold.tracking.store import address; from mlflow import MlflowClient;"
        "c = MlflowClient(address(), address());"
        "print(c.get_model_version_by_alias(sys.argv[1], 'champion').version)"
    )
    name = YAML(typ="safe").load((project.root / "params.yaml").read_text())["register"]["model_name"]
    return int(project.run("python", "-W", "ignore", "-c", code, name).stdout)


def test_every_file_in_reports_with_its_keys_and_columns_is_in_the_reference(project):
    reports = project.root / "reports"
    for path in sorted(path for path in reports.rglob("*") if path.is_file()):
        name = str(path.relative_to(reports)).removesuffix(".png")
        name += ".svg" if path.suffix == ".png" else ""
        described = [file for file in files() if fnmatch(name, file.path)]
        assert described, f"{name}: not in scripts/reference/reports.py"
        keys = described[0].keys
        if path.suffix == ".json" and keys:
            found = [*json.loads(path.read_text())]
        elif path.suffix == ".csv":
            found = path.read_text().splitlines()[0].split(",")
        elif path.suffix == ".parquet":
            found = pyarrow.parquet.read_schema(path).names
        else:
            continue
        assert [key for key in found if not any(fnmatch(key, known) for known in keys)] == [], name
        assert [known for known in keys if not any(fnmatch(key, known) for key in found)] in ([], ["undefined"]), name

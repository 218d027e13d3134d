"""From a wheel to a promoted model and through an upgrade, with no checkout of Twofold in reach."""

import json
import re
import sys

import pytest

from tests.pipeline.conftest import Project
from tests.support import wheel_case
from tests.support.makers import make_folder
from twofold.orchestration.params_file import load_yaml

pytestmark = pytest.mark.slow
QUICK = ("train_head.epochs=8", "finetune_all.epochs=1", "preprocess.image_size=96", "evaluate.robustness=0")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return wheel_case.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def project(wheel, tmp_path_factory):
    """A project made by the installed package for two folders of 150 images, in which the pipeline has run."""
    root = tmp_path_factory.mktemp("own")
    make_folder(root / "parts", per_class=150)
    made = Project(root / "line")
    made.env["PYTHONPATH"] = str(wheel_case.install(wheel, root / "site"))
    made.env |= {f"GIT_{role}_{key}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    words = ("init", "line", "--source", "parts", "--positive", "bad", "--orientation", "mirrored")
    made.root = root
    made.said = twofold(made, *words).stdout
    made.root = root / "line"
    twofold(made, "params", "set", *QUICK)
    made.run("git", "commit", "--quiet", "--all", "--message", "quicker")
    made.run("dvc", "repro")
    return made


def twofold(project, *words):
    return project.run(sys.executable, "-m", "twofold.cli", *words)


def test_the_model_is_promoted_without_an_edit_of_a_file(project):
    assert "git: a repository with a first commit" in project.said
    verdict = json.loads((project.root / "reports" / "registration.json").read_text())
    assert (verdict["promoted"], verdict["version"]) == (True, 1)
    assert "verdict        Promoted: version 1 is the champion" in twofold(project, "summary").stdout
    assert project.run("git", "status", "--porcelain").stdout == "?? dvc.lock\n"
    answers = twofold(project, "predict", "champion", "../parts/bad").stdout.splitlines()
    assert len(answers) == 150


def test_nothing_runs_twice_and_a_changed_digest_runs_its_stage_alone(project):
    assert "Data and pipelines are up to date." in project.run("dvc", "repro").stdout
    path = project.root / "engine.yaml"
    before = path.read_text()
    path.write_text(re.sub(r"(?m)^evaluate: .*$", "evaluate: other", before))
    changed = json.loads(project.run("dvc", "status", "--json").stdout)
    path.write_text(before)
    assert changed == {"evaluate": [{"changed deps": {"engine.yaml": {"evaluate": "modified"}}}]}


def test_its_own_tests_pass(project):
    assert "2 passed" in project.run(sys.executable, "-m", "pytest", "-q", "tests").stdout


def test_after_an_upgrade_only_what_changed_runs_and_the_champion_still_answers(project, wheel):
    changes = {"params.yaml": ("    narrow_range: warn\n", ""), "README.md": ("**Review.**", "**Look.**")}
    wheel_case.make_older(wheel, project.root, changes)
    # As if the older version's register, which had other code, had run.
    digest = load_yaml(project.root / "engine.yaml")["register"]
    for name in ("engine.yaml", "dvc.lock"):
        path = project.root / name
        path.write_text(path.read_text().replace(digest, "0" * 64))
    # Its owner has edited params.yaml (QUICK) and these two.
    edits = {"README.md": "\nOur own last line.\n", "components/register.py": "\n# Ours.\n"}
    for name, text in edits.items():
        (project.root / name).write_text((project.root / name).read_text() + text)
    wheel_case.commit(project.root)
    said = twofold(project, "upgrade").stdout
    assert f"twofold {wheel_case.OLDER} -> " in said
    assert load_yaml(project.root / "params.yaml")["train_head"]["epochs"] == 8
    for name, text in edits.items():
        assert (project.root / name).read_text().endswith(text)
    assert "**Review.**" in (project.root / "README.md").read_text()
    wheel_case.commit(project.root)
    assert list(json.loads(project.run("dvc", "status", "--json").stdout)) == ["register"]
    twofold(project, "params", "set", "finetune_all.seed=1")
    project.run("dvc", "repro")
    verdict = json.loads((project.root / "reports" / "registration.json").read_text())
    assert (verdict["judged_against"], verdict["comparison"]["version"]) == (1, 1)
    assert len(twofold(project, "predict", "1", "../parts/good").stdout.splitlines()) == 150

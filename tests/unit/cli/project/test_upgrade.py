import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support import wheel_case
from twofold.cli.main import main
from twofold.cli.project.init import init
from twofold.cli.project.upgrade import upgrade
from twofold.core.errors import ParameterError
from twofold.orchestration.engine_file import check_engine_file
from twofold.orchestration.params_file import STEPS, load_yaml, read

CHANGES = {
    "params.yaml": ("    narrow_range: warn\n", ""),
    "pipelines/training.py": ("From images to a judged classifier", "A pipeline"),
    "README.md": ("**Review.**", "**Look.**"),
    "components/doctor.py": ('"""', '"""Formerly: '),
}


@pytest.fixture(scope="session")
def older(wheel, site, parts, tmp_path_factory):
    """A project of an older version, as it was made; tests copy it."""
    root = tmp_path_factory.mktemp("older")
    with pytest.MonkeyPatch.context() as patch:
        import twofold
        from twofold.training import pretrained_weights

        patch.setattr(twofold, "__file__", str(site / "twofold" / "__init__.py"))
        patch.setattr(pretrained_weights, "fetch_weights", lambda backbone, weights=None: Path(f"{backbone}.pth"))
        init(root / "line", str(parts), "bad", None, wheel, dry_run=False, ask=False)
    wheel_case.make_older(wheel, root / "line", CHANGES)
    return root / "line"


@pytest.fixture
def project(older, installed):
    return Path(shutil.copytree(older, installed / "line", symlinks=True))


def git(project, *words):
    return subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, check=True).stdout


def edit(project):
    """What its owner has changed, in three places."""
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 60", "epochs: 7"))
    resources = project / "pipelines" / "resources.yaml"
    resources.write_text(f"# Ours.\n{resources.read_text()}")
    (project / "components" / "doctor.py").unlink()
    (project / "notes.md").write_text("ours\n")
    wheel_case.commit(project)


def test_edits_stay_new_parts_come_and_the_engine_is_the_new_one(project, wheel):
    edit(project)
    text = upgrade(project, wheel)
    sections = read(project / "params.yaml")
    assert (sections["train_head"].epochs, sections["ingest"].audit.narrow_range) == (7, "warn")
    assert (project / "pipelines" / "resources.yaml").read_text().startswith("# Ours.\n")
    assert "From images to a judged classifier" in (project / "pipelines" / "training.py").read_text()
    assert (project / "notes.md").read_text() == "ours\n"
    assert not (project / "components" / "doctor.py").exists()
    assert [path.name for path in (project / "docker" / "wheel").glob("*.whl")] == [wheel.name]
    assert wheel.name in (project / "requirements.txt").read_text()
    assert load_yaml(project / "engine.yaml")["version"] == version("twofold")
    for step in STEPS:
        check_engine_file(project, step)
    assert f"twofold {wheel_case.OLDER} -> {version('twofold')}" in text
    assert "new parameter: ingest.audit.narrow_range=warn" in text
    assert "conflicts" not in text
    wheel_case.commit(project)
    assert upgrade(project, wheel).splitlines()[1:] == ["next: git diff; git commit --all; twofold run"]


def test_what_both_sides_have_changed_is_marked(project, wheel):
    readme = project / "README.md"
    readme.write_text(readme.read_text().replace("**Look.**", "**Our own look.**"))
    wheel_case.commit(project)
    text = upgrade(project, wheel)
    assert "conflicts, marked in the files; edit them, then: git add README.md\n" in text
    for line in ("<<<<<<< before updating", "**Our own look.**", "**Review.**", ">>>>>>> after updating"):
        assert line in readme.read_text()


def test_uncommitted_changes_are_never_touched(project, wheel):
    (project / "params.yaml").write_text("mine")
    with pytest.raises(ParameterError, match=r"uncommitted changes; commit or stash them first:\n?.*params\.yaml"):
        upgrade(project, wheel)
    assert (project / "params.yaml").read_text() == "mine"


def test_what_is_no_project_is_refused(installed):
    with pytest.raises(ParameterError, match="was not made by `twofold init`; change to a project that was, or make"):
        upgrade(installed)


def test_a_newer_project_is_refused(project, wheel):
    (project / "engine.yaml").write_text("version: 99.1\n")
    wheel_case.commit(project)
    with pytest.raises(ParameterError, match=r"made with twofold 99\.1; .* is installed, which is older"):
        upgrade(project, wheel)


def test_the_command_takes_the_current_folder(project, wheel, monkeypatch, capsys):
    monkeypatch.chdir(project)
    with pytest.raises(SystemExit) as ended:
        main(["upgrade", "--wheel", str(wheel)])
    assert ended.value.code == 0
    assert f"{wheel_case.OLDER} -> " in capsys.readouterr().out

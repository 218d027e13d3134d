import io
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from twofold.cli.main import main
from twofold.cli.project.init import init as init_project
from twofold.core.errors import DataError, ParameterError
from twofold.orchestration import engine_file
from twofold.orchestration.params_file import STEPS, get_value, load_yaml, read


def init(directory, source, positive, *, wheel=None, orientation=None, dry_run=False, ask=False):
    return init_project(directory, source, positive, orientation, wheel, dry_run=dry_run, ask=ask)


def git(project, *words):
    return subprocess.run(["git", *words], cwd=project, capture_output=True, text=True, check=True).stdout


def test_a_project_is_ready_to_run_and_committed(installed, parts, wheel):
    text = init(Path("line"), str(parts), "bad", wheel=wheel, orientation="free")
    project = installed / "line"
    read(project / "params.yaml")
    for address, value in (
        ("ingest.source", str(parts)),
        ("ingest.positive", "bad"),
        ("train_head.backbone", "efficientnet_lite0"),
        ("finetune_all.orientation_free", True),
        ("evaluate.views", 4),
        ("register.promotion", "review"),
    ):
        assert get_value(project / "params.yaml", address) == value
    assert load_yaml(project / "engine.yaml").keys() == {"version", *STEPS}
    for step in STEPS:
        engine_file.check_engine_file(project, step)
    assert git(project, "status", "--porcelain") == ""
    assert {"requirements.txt", "docker/images", f"docker/wheel/{wheel.name}"} <= {*git(project, "ls-files").split()}
    for words in ("60 bad", "shorter sides 24 to 24 px", "could not be downloaded", "cd line && twofold run"):
        assert words in text
    assert f"engine: twofold {version('twofold')}" in text
    assert [path.name for path in installed.iterdir() if "line" in path.name] == ["line"]


def test_a_relative_source_is_meant_from_the_current_folder(installed, parts, wheel):
    (installed / "images").symlink_to(parts)
    init(Path("deep/line"), "images", "bad", wheel=wheel)
    assert get_value(installed / "deep" / "line" / "params.yaml", "ingest.source") == str(parts)


def test_a_dry_run_writes_nothing(installed, parts):
    text = init(Path("line"), str(parts), "bad", dry_run=True)
    assert "train_head.backbone=efficientnet_lite0" in text
    assert "nothing was written" in text
    assert not (installed / "line").exists()


def test_a_folder_in_use_is_refused_before_anything_is_read(installed):
    (installed / "line").mkdir()
    (installed / "line" / "mine").touch()
    (installed / "file").touch()
    for name in ("line", "file"):
        with pytest.raises(ParameterError, match=f"^{name}: (exists and is not empty|is a file)"):
            init(Path(name), "nowhere", "bad")
    assert [path.name for path in (installed / "line").iterdir()] == ["mine"]


def test_an_empty_folder_is_used(installed, parts, wheel):
    (installed / "line").mkdir()
    init(Path("line"), str(parts), "bad", wheel=wheel)
    assert (installed / "line" / "dvc.yaml").is_file()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"positive": "worse"}, r"--positive: found 'worse'; the classes of .* are \['bad', 'good'\]"),
        ({"source": "nowhere"}, "nowhere: no such folder; set --source, or"),
    ],
)
def test_what_cannot_be_used_is_named_and_leaves_nothing(installed, parts, error, words):
    with pytest.raises(DataError, match=words):
        init(Path("line"), **{"source": str(parts), "positive": "bad"} | error)
    assert not (installed / "line").exists()


def test_a_wheel_that_cannot_be_had_leaves_nothing(installed, parts):
    with pytest.raises(ParameterError, match="not a wheel of twofold"):
        init(Path("line"), str(parts), "bad", wheel=Path("other.whl"))
    assert [path.name for path in installed.iterdir() if "line" in path.name] == []


def test_without_an_identity_nothing_is_committed_and_the_text_says_so(installed, parts, wheel, monkeypatch):
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    (installed / "config").write_text("[user]\n\tuseConfigOnly = true\n")
    monkeypatch.setenv("HOME", str(installed))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(installed / "xdg"))
    (installed / "xdg" / "git").mkdir(parents=True)
    (installed / "config").rename(installed / "xdg" / "git" / "config")
    text = init(Path("line"), str(parts), "bad", wheel=wheel)
    assert "git: no first commit, so models will have no commit; set your name (git config --global user.name" in text
    assert 'then: git -C line add --all && git -C line commit -m "New project"\n' in text
    assert "dvc.yaml" in git(installed / "line", "diff", "--cached", "--name-only")


@pytest.mark.parametrize(
    ("typed", "free", "flips"), [("y\n", True, True), ("n\nyes\n", False, True), ("\n\n", False, False)]
)
def test_on_a_terminal_the_orientation_is_asked(installed, parts, wheel, monkeypatch, typed, free, flips, capsys):
    terminal = io.StringIO(typed)
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    with pytest.raises(SystemExit):
        main(["init", "line", "--source", str(parts), "--positive", "bad", "--wheel", str(wheel)])
    found = [
        get_value(installed / "line" / "params.yaml", f"train_head.{key}") for key in ("orientation_free", "flips")
    ]
    assert found == [free, flips]


def test_the_command(installed, parts, wheel, capsys):
    words = ["init", "line", "--source", str(parts), "--positive", "bad", "--wheel", str(wheel), "--yes"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 0
    assert "nobody said that a turned or mirrored image keeps its class" in capsys.readouterr().out

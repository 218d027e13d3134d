import hashlib
import re
import subprocess
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import twofold
from twofold.cli.project import engine_wheel
from twofold.core.errors import ParameterError
from twofold.orchestration.params_file import STEPS

ROOT = Path(__file__).resolve().parents[4]


def tracked(*places):
    done = subprocess.run(["git", "ls-files", "--", *places], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_wheel_holds_the_package_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names} == {"twofold", f"twofold-{version('twofold')}.dist-info"}
    assert "twofold/reporting/templates/page.html" in names
    assert not [name for name in names if name.endswith((".pyc", ".whl"))]


def test_the_skeleton_is_this_repositorys_own_files(site):
    skeleton = site / "twofold" / "skeleton"
    shared = (".dockerignore", ".dvc", ".dvcignore", ".gitignore", "components", "docker", "params.yaml", "pipelines")
    own = {name.removeprefix("skeleton/") for name in tracked("skeleton")}
    found = {path.relative_to(skeleton).as_posix() for path in skeleton.rglob("*") if path.is_file()}
    assert found == own | tracked(*shared, "dvc.yaml", "requirements.lock")
    for name in found - {"dvc.yaml"}:
        source = ROOT / "skeleton" / name if name in own else ROOT / name
        assert (skeleton / name).read_bytes() == source.read_bytes(), name
        assert (skeleton / name).stat().st_mode & 0o111 == source.stat().st_mode & 0o111, name


def test_the_stages_of_a_project_depend_on_the_engines_digests_instead_of_its_files(site):
    yaml = YAML(typ="safe")
    here, there = (yaml.load((folder / "dvc.yaml").read_text()) for folder in (ROOT, site / "twofold" / "skeleton"))
    assert "twofold/" not in (site / "twofold" / "skeleton" / "dvc.yaml").read_text()
    for step in STEPS:
        stage = here["stages"][step]
        stage["deps"] = [dep for dep in stage["deps"] if not str(dep).startswith("twofold/")]
        stage["params"].append({"engine.yaml": [step]})
    assert there == here


def test_a_checkout_makes_no_project(monkeypatch):
    with pytest.raises(ParameterError, match="scripts/wheel dist"):
        engine_wheel.skeleton()


def test_the_wheel_is_put_into_the_project_and_pinned_by_its_hash(wheel, tmp_path):
    older = tmp_path / "docker" / "wheel" / "twofold-0.0.1-py3-none-any.whl"
    older.parent.mkdir(parents=True)
    older.touch()
    engine_wheel.pin_wheel(tmp_path, wheel)
    assert (older.parent / wheel.name).read_bytes() == wheel.read_bytes()
    pin = (tmp_path / "requirements.txt").read_text()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert f"\n./docker/wheel/{wheel.name} --hash=sha256:{digest}\n" in pin
    assert not older.exists()


def test_a_wheel_that_lies_in_the_project_already_stays(wheel, tmp_path):
    folder = tmp_path / "docker" / "wheel"
    folder.mkdir(parents=True)
    inside = folder / wheel.name
    inside.write_bytes(wheel.read_bytes())
    engine_wheel.pin_wheel(tmp_path, inside)
    assert [path.read_bytes() for path in folder.iterdir()] == [wheel.read_bytes()]


def test_a_wheel_of_another_version_is_refused(tmp_path):
    with pytest.raises(ParameterError, match=f"not a wheel of twofold {re.escape(version('twofold'))}"):
        engine_wheel.find_wheel(tmp_path / "twofold-9.9.9-py3-none-any.whl", tmp_path)


def test_the_file_that_pip_has_installed_is_used(wheel, tmp_path, monkeypatch):
    text = f'{{"url": "{wheel.as_uri()}", "archive_info": {{}}}}'
    installed = type("Installed", (), {"read_text": lambda self, name: text if name == "direct_url.json" else None})
    monkeypatch.setattr(engine_wheel, "distribution", lambda name: installed())
    assert engine_wheel.find_wheel(None, tmp_path) == wheel


def test_a_wheel_that_cannot_be_had_is_asked_for(tmp_path, monkeypatch):
    installed = type("Installed", (), {"read_text": lambda self, name: None})
    monkeypatch.setattr(engine_wheel, "distribution", lambda name: installed())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ParameterError, match=r"--wheel FILE \(No matching distribution"):
        engine_wheel.find_wheel(None, tmp_path)


def test_a_wheel_that_came_from_an_index_is_downloaded_again(wheel, tmp_path, monkeypatch):
    installed = type("Installed", (), {"read_text": lambda self, name: None})
    monkeypatch.setattr(engine_wheel, "distribution", lambda name: installed())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    found = engine_wheel.find_wheel(None, tmp_path)
    assert found == tmp_path / wheel.name
    assert found.read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize("count", [0, 2])
def test_a_project_has_exactly_one_wheel(count, tmp_path):
    (tmp_path / "docker" / "wheel").mkdir(parents=True)
    for number in range(count):
        (tmp_path / "docker" / "wheel" / f"twofold-0.{number}-py3-none-any.whl").touch()
    with pytest.raises(ParameterError, match="must hold exactly one wheel"):
        engine_wheel.extract_skeleton(tmp_path, tmp_path / "out")


def test_a_skeleton_is_the_same_from_the_wheel_and_from_the_installation(wheel, site, tmp_path, monkeypatch):
    monkeypatch.setattr(twofold, "__file__", str(site / "twofold" / "__init__.py"))
    (site / "twofold" / "skeleton" / "components" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "docker" / "wheel").mkdir(parents=True)
    engine_wheel.pin_wheel(tmp_path, wheel)
    engine_wheel.extract_skeleton(tmp_path, tmp_path / "one")
    engine_wheel.copy_skeleton(tmp_path / "other")
    one, other = (
        {path.relative_to(root): (path.read_bytes(), path.stat().st_mode) for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "one", tmp_path / "other")
    )
    assert one == other

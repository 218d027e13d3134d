import shutil
from importlib.metadata import version
from pathlib import Path

import pytest

from twofold.core import code_digest
from twofold.core.errors import ParameterError
from twofold.orchestration import engine_file, step_cli
from twofold.orchestration.params_file import STEPS, load_yaml
from twofold.steps.ingest import ingest

ROOT = Path(__file__).resolve().parents[3]


def test_a_change_of_code_changes_the_digests_of_the_steps_that_reach_it_only(tmp_path, monkeypatch):
    engine_file.write_engine_file(tmp_path)
    before = load_yaml(tmp_path / "engine.yaml")
    assert before["version"] == version("twofold")
    copy = tmp_path / "site"
    shutil.copytree(ROOT / "twofold", copy / "twofold", ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "twofold" / "reporting" / "decision_page.py").open("a") as file:
        file.write("# changed\n")
    digest = code_digest.code_digest
    monkeypatch.setattr(engine_file, "code_digest", lambda module: digest(module, copy))
    engine_file.write_engine_file(tmp_path)
    after = load_yaml(tmp_path / "engine.yaml")
    assert [step for step in STEPS if before[step] != after[step]] == ["register"]


def test_a_step_refuses_to_run_with_other_code_than_dvc_was_told_of(tmp_path, monkeypatch, capsys):
    engine_file.write_engine_file(tmp_path)
    text = (tmp_path / "engine.yaml").read_text()
    (tmp_path / "engine.yaml").write_text(text.replace("\ningest: ", "\ningest: 0"))
    engine_file.check_engine_file(tmp_path, "preprocess")
    with pytest.raises(ParameterError, match=r"engine\.yaml: was written for twofold .* run `twofold upgrade`"):
        engine_file.check_engine_file(tmp_path, "ingest")
    shutil.copy(ROOT / "tests" / "params.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        step_cli.main(ingest, ["--raw", "raw", "--metrics", "m.json", "--audit", "audit"])
    assert ended.value.code == 1
    assert "twofold ingest: error: engine.yaml: was written for" in capsys.readouterr().err


def test_a_project_without_the_file_is_a_copy_of_the_repository(tmp_path):
    engine_file.check_engine_file(tmp_path, "ingest")

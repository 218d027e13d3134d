"""`twofold audit`: both audits of any source, without a pipeline, and an exit status for scripts."""

import json
import shutil
from pathlib import Path

import pytest

from tests.unit.audit.test_ingest_checks import add_issues, write
from twofold.cli.main import main
from twofold.core.code_digest import ROOT
from twofold.orchestration.params_file import load_yaml, set_values

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with images, and parameters whose positive class is not one of theirs."""
    write(tmp_path / "images", per_class=60)
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def audit(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["audit", "images", *arguments])
    return ended.value.code


def policies(step):
    return policies_of(f"audit/{step}")


def policies_of(folder):
    checks = json.loads(Path(f"{folder}/audit.json").read_text())["checks"]
    return {name: check["policy"] for name, check in checks.items()}


def test_it_writes_both_pages_and_a_table_and_nothing_else(project, capsys):
    add_issues(project / "images")
    (project / "images" / "bad" / "cut.png").write_bytes(b"\x89PNG")
    before = (project / "params.yaml").read_bytes()
    assert audit() == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["step", "check", "policy", "found"] in lines
    assert ["ingest", "blurred", "warn", "1"] in lines
    assert ["ingest", "refused", "quarantine", "1"] in lines
    assert [line[0] for line in lines[-2:]] == ["audit/ingest/audit.html", "audit/preprocess/audit.html"]
    assert {path.name for path in project.iterdir()} - {".twofold"} == {"audit", "images", "params.yaml"}
    assert (project / "params.yaml").read_bytes() == before


def test_an_issue_whose_policy_is_fail_ends_with_status_1_and_both_pages(project, capsys):
    data = (project / "images" / "bad" / "bad-000.jpg").read_bytes()
    (project / "images" / "good" / "wrong.jpg").write_bytes(data)
    assert audit("--to", "audit") == 1
    lines = capsys.readouterr().out.splitlines()
    assert ["ingest", "both", "labels", "fail", "1"] in [line.split() for line in lines]
    assert lines[-1] == "issues whose policy is fail: ingest.audit.both_labels"
    assert policies("ingest")["both_labels"] == "fail"
    assert Path("audit/preprocess/audit.html").exists()


def test_the_policy_fail_in_ingest_lets_the_second_audit_run(project):
    data = (project / "images" / "bad" / "bad-000.jpg").read_bytes()
    (project / "images" / "bad" / "again.jpg").write_bytes(data)
    set_values(Path("params.yaml"), ["ingest.audit.exact_duplicates=fail"])
    assert audit() == 1
    assert Path("audit/preprocess/audit.html").exists()
    set_values(Path("params.yaml"), ["ingest.audit.exact_duplicates=warn"])
    assert audit() == 0


def test_outside_of_a_project_the_policies_are_those_of_a_new_one(project, capsys):
    Path("params.yaml").unlink()
    assert audit("--to", "pages") == 0
    assert capsys.readouterr().err.count("no project here") == 1
    assert policies_of("pages/ingest") == load_yaml(ROOT / "params.yaml")["ingest"]["audit"] | {"refused": "quarantine"}


def test_a_missing_source_is_an_error_of_one_line(project, capsys):
    shutil.rmtree("images")
    assert audit() == 1
    assert capsys.readouterr().err.startswith("twofold: error: images")
    assert not Path("audit").exists()

"""`twofold audit`: both audits of any source, without a pipeline, and an exit status that a script can use."""

import json
import shutil
from pathlib import Path

import pytest

from tests.unit.audit.test_ingest_checks import soil, write
from twofold.cli.main import main
from twofold.orchestration.params_file import set_values

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with images and parameters whose positive class is none of theirs."""
    write(tmp_path / "images", per_class=60)
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def audit(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["audit", "images", *arguments])
    return ended.value.code


def policies(step):
    return {
        name: one["policy"] for name, one in json.loads(Path(f"audit/{step}/audit.json").read_text())["checks"].items()
    }


def test_both_pages_and_a_table_and_nothing_else(project, capsys):
    soil(project / "images")
    (project / "images" / "bad" / "cut.png").write_bytes(b"\x89PNG")
    before = (project / "params.yaml").read_bytes()
    assert audit() == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["step", "check", "policy", "found"] in lines
    assert ["ingest", "blurred", "warn", "1"] in lines
    assert ["ingest", "refused", "quarantine", "1"] in lines
    assert [line[0] for line in lines[-2:]] == ["audit/ingest/audit.html", "audit/preprocess/audit.html"]
    assert sorted(path.name for path in project.iterdir() if path.name != ".twofold") == [
        "audit",
        "images",
        "params.yaml",
    ]
    assert (project / "params.yaml").read_bytes() == before


def test_what_a_policy_forbids_ends_with_status_1_and_both_pages_all_the_same(project, capsys):
    data = (project / "images" / "bad" / "bad-000.jpg").read_bytes()
    (project / "images" / "good" / "wrong.jpg").write_bytes(data)
    assert audit("--to", "audit") == 1
    said = capsys.readouterr().out.splitlines()
    assert ["ingest", "both", "labels", "fail", "1"] in [line.split() for line in said]
    assert said[-1] == "found, and the policy is fail: ingest.audit.both_labels"
    assert policies("ingest")["both_labels"] == "fail"
    assert Path("audit/preprocess/audit.html").exists()


def test_a_policy_fail_lets_the_second_audit_run(project):
    data = (project / "images" / "bad" / "bad-000.jpg").read_bytes()
    (project / "images" / "bad" / "again.jpg").write_bytes(data)
    set_values(Path("params.yaml"), ["ingest.audit.exact_duplicates=fail"])
    assert audit() == 1
    assert Path("audit/preprocess/audit.html").exists()
    set_values(Path("params.yaml"), ["ingest.audit.exact_duplicates=warn"])
    assert audit() == 0


def test_a_source_that_is_not_there_is_an_error_of_one_line(project, capsys):
    shutil.rmtree("images")
    assert audit() == 1
    assert capsys.readouterr().err.startswith("twofold: error: images")
    assert not Path("audit").exists()

import pytest

from twofold.orchestration.kept_audit import find_audit, keep_audit

RUN = "0b5e1c6e-0d1f-4f6e-9f62-0c7a64e7a0f1"


@pytest.fixture
def audit(tmp_path):
    """A failed step's audit where Kubeflow puts its outputs."""
    folder = tmp_path / "twofold-training" / RUN / "ingest" / "9a1b" / "audit"
    folder.mkdir(parents=True)
    (folder / "audit.html").write_text("<html>leaks</html>")
    return folder


def test_without_a_bucket_the_log_says_how_to_keep_the_page(audit, monkeypatch, capsys):
    monkeypatch.setenv("TWOFOLD_CACHE", "cache")
    keep_audit(str(audit), "ingest")
    assert "ingest: its audit page is deleted with this pod; to keep it, set TWOFOLD_CACHE" in capsys.readouterr().err
    assert find_audit(RUN) == ""


def test_a_step_without_a_page_or_outside_a_run_says_nothing(audit, tmp_path, capsys):
    (audit / "audit.html").rename(tmp_path / "audit.html")
    keep_audit(str(audit), "ingest")
    keep_audit(str(tmp_path), "ingest")
    assert capsys.readouterr().err == ""


def test_a_bucket_that_is_not_there_is_named_and_hides_no_other_error(audit, monkeypatch, capsys):
    monkeypatch.setattr("twofold.storage.s3_client.ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("TWOFOLD_CACHE", "s3://bucket/team")
    keep_audit(str(audit), "ingest")
    assert "ingest: its audit page cannot be kept in TWOFOLD_CACHE: Could not connect" in capsys.readouterr().err
    assert find_audit(RUN) == ""
    monkeypatch.setenv("TWOFOLD_CACHE", "s3://no_bucket!/team")
    keep_audit(str(audit), "ingest")
    assert "TWOFOLD_CACHE: found 's3://no_bucket!/team'" in capsys.readouterr().err

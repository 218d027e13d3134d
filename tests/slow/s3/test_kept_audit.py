"""A step that ends by an audit policy on Kubeflow leaves its page in the cache's bucket, and notify names it."""

from pathlib import Path

import pytest

from tests.support.channel import channel
from tests.support.makers import make_folder
from twofold.orchestration.notifications import notify
from twofold.orchestration.params_file import load_yaml
from twofold.orchestration.task import run_step
from twofold.steps.ingest import ingest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.slow
RUN = "0b5e1c6e-0d1f-4f6e-9f62-0c7a64e7a0f1"


def test_the_page_of_a_failed_ingest_is_kept_and_its_address_is_told(store, tmp_path, monkeypatch, capsys):
    store.create_bucket(Bucket="audit-pages")
    monkeypatch.setenv("TWOFOLD_CACHE", "s3://audit-pages/team")
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")  # a task would set them for the tests after this one
    folder = make_folder(tmp_path / "images", per_class=10)
    (folder / "bad" / "copy.png").write_bytes((folder / "good" / "00000.png").read_bytes())
    section = load_yaml(ROOT / "tests" / "params.yaml")["ingest"] | {"source": str(folder), "positive": "bad"}
    section["audit"] = section["audit"] | {"both_labels": "fail"}
    place = tmp_path / "v2" / "twofold-training" / RUN / "ingest" / "9a1b"
    with pytest.raises(SystemExit):
        run_step(ingest, section, {}, {}, **{name: str(place / name) for name in ("raw", "metrics", "audit")})
    address = f"s3://audit-pages/team/audits/{RUN}/ingest.html"
    assert f"ingest: its audit page is {address}" in capsys.readouterr().err
    found = store.get_object(Bucket="audit-pages", Key=f"team/audits/{RUN}/ingest.html")
    assert found["Body"].read() == (place / "audit" / "audit.html").read_bytes()
    assert found["ContentType"].startswith("text/html")
    with channel() as webhook:
        monkeypatch.setenv("TWOFOLD_WEBHOOK", webhook.address)
        notify(state="FAILED", message="", register={}, run=RUN)
    assert webhook.texts[0].endswith(f" Audit page: {address}")

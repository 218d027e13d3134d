"""The audit of ingest: planted issues are found, listed and excluded by policy; clean data has none."""

import json
import re
import tarfile

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.support.makers import CLASSES, UNJUDGED, encode, file_bytes, make_raw
from twofold.cli.forget import forget
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError, ParameterError
from twofold.data.raw import RawDataset

WARN = dict.fromkeys(UNJUDGED, "warn") | {"both_labels": "fail"}
SIDE = 48


def picture(*seed):
    """Noise over a gradient, the same for both classes, so that nothing predicts the label."""
    rng = np.random.default_rng(seed)
    grey = rng.normal(128, 25, (SIDE, SIDE)) + np.linspace(-40, 40, SIDE)[None, :]
    return np.clip(grey, 0, 255).astype(np.uint8)


def write(folder, per_class=60, seed=0):
    for place, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            data = encode(picture(seed, place, number), "JPEG", quality=90)
            (folder / label / f"{label}-{number:03d}.jpg").write_bytes(data)
    return folder


@pytest.fixture
def images(tmp_path):
    return write(tmp_path / "images")


def add_issues(images):
    """Add one image for each check of image quality; returns {check: key}."""
    base = Image.fromarray(picture(9, 9, 9))
    pictures = {
        "blank": np.full((SIDE, SIDE), 130, np.uint8),
        "under_exposed": (picture(9, 1) * 0.1).astype(np.uint8),
        "over_exposed": np.clip(picture(9, 2).astype(int) + 200, 0, 255).astype(np.uint8),
        "blurred": np.asarray(base.filter(ImageFilter.GaussianBlur(5))),
        "odd_aspect": np.asarray(Image.fromarray(picture(9, 4)).resize((200, 40))),
    }
    for name, pixels in pictures.items():
        (images / "bad" / f"{name}.png").write_bytes(encode(pixels))
    return {name: f"bad/{name}.png" for name in pictures}


def run_ingest(images, out, **policies):
    return make_raw(images, out, audit=WARN | policies)


def found(out):
    rows = read_csv(out.with_suffix(".audit") / "findings.csv")
    return {(row["check"], row["key"]) for row in rows}


def test_clean_data_has_no_issues(images, tmp_path, capsys):
    out = run_ingest(images, tmp_path / "raw")
    assert found(out) == set()
    assert "the audit found nothing" in capsys.readouterr().err + capsys.readouterr().out
    figures = json.loads((tmp_path / "raw.json").read_text())
    assert {figures[name] for name in figures if name.startswith("found_")} == {0}


def test_planted_issues_are_listed_and_stay_with_warn(images, tmp_path):
    planted = add_issues(images)
    out = run_ingest(images, tmp_path / "raw")
    assert found(out) - {("readable_label", "")} == set(planted.items())
    assert len(RawDataset.open(out).images) == 125
    html = (tmp_path / "raw.audit" / "audit.html").read_text()
    assert html.count("<img ") == len(planted)
    figures = json.loads((tmp_path / "raw.json").read_text())
    assert (figures["found_blurred"], figures["left_out"], figures["refused"]) == (1, 0, 0)


def test_quarantined_images_are_in_no_shard_and_only_in_quarantine_csv(images, tmp_path):
    clean = run_ingest(images, tmp_path / "clean")
    planted = add_issues(images)
    (images / "bad" / "blank-again.png").write_bytes((images / "bad" / "blank.png").read_bytes())
    out = run_ingest(images, tmp_path / "raw", **dict.fromkeys(planted, "quarantine"))
    rows = read_csv(out / "quarantine.csv")
    assert {row["key"] for row in rows} == {*planted.values(), "bad/blank-again.png"}
    assert {row["kind"] for row in rows} == {"audit"}
    assert next(row for row in rows if row["key"] == "bad/blurred.png")["reason"].startswith("blurred: variance")
    assert read_csv(out / "duplicates.csv") == []
    opened = RawDataset.open(out)
    with tarfile.open(out / "images-00000.tar") as shard:
        assert {name.split(".")[0] for name in shard.getnames()} == {one.sha256 for one in opened.images}
    assert [opened.read(one) for one in opened.images] == [RawDataset.open(clean).read(one) for one in opened.images]
    # As if they had never existed.
    same = {name: data for name, data in file_bytes(out).items() if name != "quarantine.csv"}
    assert same == {name: data for name, data in file_bytes(clean).items() if name != "quarantine.csv"}
    figures = json.loads((tmp_path / "raw.json").read_text())
    assert (figures["left_out"], figures["refused"], figures["ignored"], figures["images"]) == (6, 0, 0, 120)


@pytest.mark.parametrize("name", ["blank", "blurred", "exact_duplicates", "imbalance"])
def test_the_policy_fail_writes_the_audit_and_nothing_else(images, tmp_path, name):
    add_issues(images)
    (images / "bad" / "again.jpg").write_bytes((images / "bad" / "bad-000.jpg").read_bytes())
    if name == "imbalance":
        for number in range(5, 60):
            (images / "good" / f"good-{number:03d}.jpg").unlink()
    with pytest.raises(DataError, match=rf"audit\.html(?s:.*)ingest\.audit\.{name} is fail"):
        run_ingest(images, tmp_path / "raw", **{name: "fail"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "raw.audit"]
    assert {check for check, _ in found(tmp_path / "raw")} >= {name}


def test_every_copy_with_conflicting_labels_is_excluded(images, tmp_path):
    data = (images / "bad" / "bad-000.jpg").read_bytes()
    (images / "good/wrong.jpg").write_bytes(data)
    with Image.open(images / "bad/bad-000.jpg") as same:
        (images / "good/wrong-again.jpg").write_bytes(encode(np.asarray(same)))  # other bytes, the same pixels
    (images / "bad/saved-anew.jpg").write_bytes((images / "good/wrong-again.jpg").read_bytes() + b" ")
    out = run_ingest(images, tmp_path / "raw", both_labels="quarantine")
    conflicting = {"bad/bad-000.jpg", "bad/saved-anew.jpg", "good/wrong.jpg", "good/wrong-again.jpg"}
    assert {row["key"] for row in read_csv(out / "quarantine.csv")} == conflicting
    assert not conflicting & {one.key for one in RawDataset.open(out).images}
    assert found(out) == {("both_labels", "bad/bad-000.jpg")}
    with tarfile.open(out / "images-00000.tar") as shard:
        assert len(shard.getnames()) == 119


def test_conflicting_labels_cannot_be_ignored(images, tmp_path):
    with pytest.raises(ParameterError, match=r"ingest\.audit\.both_labels: found 'warn'"):
        run_ingest(images, tmp_path / "raw", both_labels="warn")


def test_a_correlation_with_brightness_is_reported(images, tmp_path):
    for path in (images / "bad").iterdir():
        number = int(path.stem[-3:])
        path.write_bytes(encode(np.clip(picture(0, 0, number) * 1.15, 0, 255).astype(np.uint8), "JPEG", quality=90))
    out = run_ingest(images, tmp_path / "raw")
    rows = [row for row in read_csv(out.with_suffix(".audit") / "findings.csv") if row["check"] == "readable_label"]
    assert "brightness alone (mean brightness and mean colour): ROC-AUC 1.00" in rows[0]["detail"]


def deep(bits, kind, number, label="bad"):
    """A picture of `bits` bits in a file of 16."""
    samples = picture(3, number, label == "bad").astype(np.uint16) << (bits - 8)
    return encode(samples, kind)


def faint(kind, number, label="bad"):
    """A colour picture of 28 levels."""
    return encode(np.stack([picture(3, number, label == "bad") // 10 + 100] * 3, 2), kind, lossless=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda *name: deep(12, "TIFF", *name), "24 images of mode I;16: .* between [3-6] and 1[0-5] of 255"),
        (lambda *name: deep(10, "PNG", *name), "24 images of mode I;16: .* between [01] and 3 of 255"),
        (lambda *name: faint("WEBP", *name), "24 images of mode RGB: .* between 10. and 12. of 255"),
    ],
)
def test_a_set_that_uses_a_small_part_of_its_range_is_reported(images, tmp_path, make, words):
    for label in CLASSES:
        for number in range(12):
            (images / label / f"deep{number}.tif").write_bytes(make(number, label))
    # One image of full range among them does not hide the others.
    (images / "bad" / "deep0.tif").write_bytes(
        deep(16, "TIFF", 0) if "I;16" in words else encode(np.stack([picture(1)] * 3, 2))
    )
    out = run_ingest(images, tmp_path / "raw")
    rows = [row for row in read_csv(out.with_suffix(".audit") / "findings.csv") if row["check"] == "narrow_range"]
    assert [re.match(words, row["detail"]) is not None for row in rows] == [True]
    assert "MaxSampleValue" in (tmp_path / "raw.audit" / "audit.html").read_text()
    with pytest.raises(DataError, match=r"ingest\.audit\.narrow_range is fail"):
        run_ingest(images, tmp_path / "raw2", narrow_range="fail")


@pytest.mark.parametrize("bits", [14, 16])
def test_a_set_that_uses_its_range_is_not(images, tmp_path, bits):
    for label in CLASSES:
        for number in range(12):
            (images / label / f"deep{number}.tif").write_bytes(deep(bits, "TIFF", number, label))
    assert "narrow_range" not in {check for check, _ in found(run_ingest(images, tmp_path / "raw"))}


def test_policies_that_change_no_image_change_no_byte_of_raw(images, tmp_path):
    add_issues(images)
    warned = file_bytes(run_ingest(images, tmp_path / "raw"))
    assert file_bytes(make_raw(images, tmp_path / "other", audit=UNJUDGED)) == warned
    assert found(tmp_path / "other") == set()


def test_the_audit_has_the_same_bytes_whatever_the_number_of_workers(images, tmp_path, monkeypatch):
    add_issues(images)
    audits = []
    for workers in ("1", "3"):
        monkeypatch.setenv("TWOFOLD_WORKERS", workers)
        monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / f"cache-{workers}"))
        run_ingest(images, tmp_path / workers)
        audits.append(file_bytes(tmp_path / f"{workers}.audit"))
    assert audits[0] == audits[1]


def test_refused_files_are_listed_with_their_reasons(images, tmp_path):
    (images / "bad" / "cut.png").write_bytes(encode(picture(1))[:-30])
    out = make_raw(images, tmp_path / "raw", audit=WARN, max_refused_fraction=0.5)
    assert found(out) == {("refused", "bad/cut.png")}
    html = (tmp_path / "raw.audit" / "audit.html").read_text()
    assert "damaged or cut short" in html
    assert "ingest.max_refused_fraction" in html


def test_the_statistics_of_the_classes(images, tmp_path):
    out = run_ingest(images, tmp_path / "raw")
    figures = json.loads((out.with_suffix(".audit") / "audit.json").read_text())["figures"]
    assert figures["classes"]["bad"]["images"] == 60
    assert figures["sizes"] == {f"{SIDE} x {SIDE}": {"bad": 60, "good": 60}}
    assert figures["source folders"] == {"bad": {"bad": 60, "good": 0}, "good": {"bad": 0, "good": 60}}


def test_forgetting_an_image_deletes_the_audit_that_shows_it(images, tmp_path):
    planted = add_issues(images)
    taken = RawDataset.open(run_ingest(images, tmp_path / "data" / "raw"))
    reports = tmp_path / "reports" / "audit"
    reports.mkdir(parents=True)
    (tmp_path / "data" / "raw.audit").rename(reports / "ingest")
    (reports / "other").mkdir()
    (reports / "other" / "audit.json").write_text("{}")
    (sha256,) = [one.sha256 for one in taken.images if one.key == planted["blurred"]]
    assert "reports/audit/ingest: deleted" in forget(sha256, tmp_path)
    assert [path.name for path in reports.iterdir()] == ["other"]

"""Counts of the images in the splits, and of the files and images left out, by reason."""

import re

from tests.unit.reporting.test_evaluation_report import read
from twofold.audit.split_leakage import ExcludedImage
from twofold.core.artifacts import write_csv
from twofold.data.prepared import LEFT_OUT
from twofold.data.raw import DUPLICATES, QUARANTINE, Duplicate, QuarantinedFile
from twofold.reporting import data_summary, html_page

COUNTS = {"train": {"good": 1200, "bad": 30}, "validation": {"good": 10}, "test": {"good": 20, "bad": 7}}


def make(root, refused=(), copies=(), left_out=()):
    write_csv(root / QUARANTINE, QuarantinedFile._fields, refused)
    write_csv(root / DUPLICATES, Duplicate._fields, copies)
    write_csv(root / LEFT_OUT, ExcludedImage._fields, left_out)
    return data_summary.summarize_data(root, root, COUNTS, ["bad", "good"])


def test_splits_are_counted_by_class_and_removed_images_by_reason(tmp_path):
    refused = [
        QuarantinedFile("a.png", "bad", "refused", "damaged", ""),
        QuarantinedFile("b.png", "bad", "refused", "damaged", ""),
        QuarantinedFile("c.png", "bad", "audit", "blank", "c" * 64),
        QuarantinedFile("notes.txt", "", "ignored", "not an image", ""),
    ]
    copies = [Duplicate(f"{n}.png", "d" * 64, "pixels", "e.png", "e" * 64, "good") for n in range(3)]
    left_out = [ExcludedImage("f" * 64, "f.png", "train", "nearly the same picture as an image of test", "0" * 64)]
    found = make(tmp_path, refused, copies, left_out)
    text, _ = read(html_page.render("x", "data_summary.html", {"data": found}))
    assert re.search(r"train 30\s*1,200\s*1,230", text)
    assert re.search(r"validation 0\s*10\s*10", text)
    assert re.search(r"test 7\s*20\s*27", text)
    assert "Files refused or quarantined: 3 (damaged: 2; blank: 1)" in text
    assert "one copy is kept: 3 (identical pixels: 3)" in text
    assert "between the splits: 1 (train, nearly the same picture as an image of test: 1)" in text


def test_counts_are_zero_if_nothing_was_left_out(tmp_path):
    text, _ = read(html_page.render("x", "data_summary.html", {"data": make(tmp_path)}))
    assert "Files refused or quarantined: 0" in text
    assert "(" not in text[text.index("Files refused") : text.index("The audit pages show")]


def test_rare_reasons_are_counted_together(tmp_path):
    refused = [QuarantinedFile(f"{n}.png", "bad", "refused", f"reason {n:02}", "") for n in range(12)]
    refused += [QuarantinedFile("x.png", "bad", "refused", "reason 11", "")]
    (_, n, reasons), *_ = make(tmp_path, refused)["removed"]
    assert n == 13
    assert reasons[0] == ("reason 11", 2)
    assert reasons[-1] == ("other reasons", 5)
    assert sum(times for _, times in reasons) == 13

"""index.html: it links the pages, and shows the champions and the metrics of all versions."""

import re

from tests.unit.reporting.test_evaluation_report import all_of, read
from twofold.reporting import index_page

VERDICT = {"name": "parts", "headline": "Passed: version 3 waits for review", "reasons": ["<b>why"], "champion": 1}
BLOCK = {"tone": "good", "sentence": "finds 1 of 2 bad", "verdict": [("Date", "2026-12-01 10:20 UTC")]}
PAGES = {"Verdict": "registration/decision.html", "Data audit of ingest": "audit/ingest/audit.html"}
FIGURES = {"accuracy": 0.9, "f1": 0.8, "roc_auc": 0.95}


def version(number, standing="", **figures):
    return {"version": number, "standing": standing, "figures": figures, "n": 656, "commit": "c0ffee" * 7}


def entry(action, number):
    about = {"actor": "Ada <ada@example.com>", "reason": "it is better", "time": "2026-12-01T10:20:33+00:00"}
    return {"action": action, "version": number, **about}


def show(pages=PAGES, versions=(), decisions=()):
    return read(index_page.render(VERDICT, BLOCK, pages, versions, decisions))


def test_it_begins_with_the_verdict_and_links_every_page():
    text, elements = show()
    places = [
        text.index(words) for words in ("waits for review", "The model finds 1 of 2 bad.", "<b>why", "Pages Verdict")
    ]
    assert places == sorted(places)
    assert {a["href"] for a in all_of(elements, "a") if not a["href"].startswith("#")} == set(PAGES.values())
    assert "No version has been registered." in text


def test_without_addresses_it_says_where_the_pages_are():
    text, elements = show(pages={})
    assert "In Kubeflow, each page is the HTML output of its task" in text
    assert all(a["href"].startswith("#") for a in all_of(elements, "a"))


def test_the_changes_of_the_champion_are_listed_latest_first():
    decisions = [entry("promote", 1), entry("challenge", 2), entry("reject", 2), entry("rollback", None)]
    text, _ = show(decisions=decisions)
    one = "2026-12-01 10:20 UTC {} Ada <ada@example.com> it is better"
    table = text[text.index("date decision") :]
    assert re.search(f"{one.format('rolled back to no champion')}.*{one.format('promoted version 1')}", table)
    assert "version 2" not in table[: table.index("Metrics over versions")]


def test_metrics_are_drawn_over_the_versions_that_have_them():
    versions = [version(3, **FIGURES), version(2, "rejected"), version(1, "champion", accuracy=0.8)]
    text, elements = show(versions=versions)
    (chart,) = all_of(elements, "svg")
    assert chart["aria-label"].startswith("metric on its test images over 2 versions: Accuracy, F1, ROC-AUC.")
    assert re.search(r"3 none\s+656\s+0\.900\s+0\.800\s+0\.950\s+c0ffeec0ffee", text)
    assert re.search("1 champion\\s+656\\s+0\\.800\\s+\N{EN DASH}\\s+\N{EN DASH}", text)
    assert "twofold models compare 2 3" in text
    assert "models compare" not in show(versions=versions[:1])[0]
    assert all_of(show(versions=versions[:2])[1], "svg") == []

"""The comment on a pull request: the verdict, and the metrics beside the champion's."""

import pytest
from markdown_it import MarkdownIt

from tests.unit.orchestration.test_kfp_display import VERDICT
from tests.unit.orchestration.test_run_summary import METRICS
from twofold.cli import main
from twofold.core.artifacts import write_json
from twofold.metrics.number_format import NOTHING

FIGURES = {
    "accuracy": {"candidate": 0.91, "champion": 0.85, "difference": 0.06, "low": -0.01, "high": 0.1234},
    "roc_auc": {"candidate": 0.95, "champion": 0.97, "no_interval": "too few images"},
}


@pytest.fixture
def comment(tmp_path, capsys):
    """A function that returns what the command prints for a comparison with the champion."""

    def print_comment(comparison):
        for folder in ("evaluation", "registration"):
            (tmp_path / "reports" / folder).mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / "reports" / "evaluation" / "metrics.json", METRICS)
        write_json(tmp_path / "reports" / "registration.json", VERDICT | {"comparison": comparison})
        with pytest.raises(SystemExit) as ended:
            main.main(["report", "--markdown", "--root", str(tmp_path)])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return print_comment


def rows(text):
    return [line.strip("|").strip() for line in text.partition("Metrics on ")[2].splitlines() if line.startswith("|")]


def test_it_shows_the_verdict_and_the_difference_to_the_champion(comment):
    text = comment({"version": 3, "problem": None, "n": 580, "figures": FIGURES})
    assert text.startswith("# Refused\n")
    assert "| roc_auc at least 0.85 | 0.8000 is below 0.8500 | **failed** |" in text
    assert (
        "Metrics on 600 test images. Those of version 3 and the difference: on 580 that neither model learned from."
        in text
    )
    assert rows(text) == [
        "metric | value | 95 % interval | version 3 | difference | 95 % interval",
        "--- | --- | --- | --- | --- | ---",
        "accuracy | 0.900 | 0.800 to 0.950 | 0.850 | +0.060 | -0.010 to +0.123",
        f"roc_auc | 0.950 | {NOTHING} | 0.970 | {NOTHING} | {NOTHING}",
        f"ece | 0.020 | {NOTHING}" + f" | {NOTHING}" * 3,
    ]
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<table>") == 3


def test_without_a_champion_there_are_the_metrics_alone(comment):
    text = comment(None)
    assert "Metrics on 600 test images.\n" in text
    assert rows(text)[2] == "accuracy | 0.900 | 0.800 to 0.950"


def test_a_champion_that_could_not_be_compared_is_named_with_the_reason(comment):
    text = comment({"version": 3, "problem": "its files | are gone"})
    assert "600 test images. Not compared with version 3: its files \\| are gone.\n" in text
    assert rows(text)[2] == "accuracy | 0.900 | 0.800 to 0.950"


def test_a_run_that_has_not_ended_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["report", "--markdown", "--root", str(tmp_path)])
    assert ended.value.code == 1
    assert "reports/evaluation/metrics.json: no such file; has the step" in capsys.readouterr().err

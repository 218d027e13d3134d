"""Quality tables: metrics at both thresholds, paired intervals, and runs that are kept while nothing has changed."""

from argparse import Namespace

import numpy as np

from bench.studies import model_quality
from bench.studies.model_quality import Case, measure, paired_interval, quality_table


def test_accuracy_is_measured_at_the_decision_threshold_and_at_one_half():
    found = measure(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.4, 0.8]), 0.35)
    assert (found["accuracy"], found["accuracy_half"], found["roc_auc"], found["recall"]) == (1, 0.75, 1, 1)
    assert set(found) == set(model_quality.METRICS)


def test_the_interval_of_paired_differences_is_students():
    assert paired_interval([0.01, 0.02, 0.03]) == "+0.020 (-0.005 to +0.045)"  # 4.303 x 0.01 / sqrt(3)
    assert paired_interval([0.01]) == "+0.010"


def test_a_table_pairs_the_seeds():
    runs = [
        {"ours": {"all": {"accuracy": a, "threshold": 0.4}}, "baseline": {"all": {"accuracy": b, "threshold": 0.5}}}
        for a, b in ((0.9, 0.8), (0.8, 0.7))
    ]
    ours, baseline, difference = quality_table(runs).splitlines()[2:]
    assert ours.startswith("| Twofold, all | 0.850 ± 0.071 |")
    assert baseline.startswith("| baseline, all | 0.750 ± 0.071 |")
    assert difference.startswith("| difference, all | +0.100 (+0.100 to +0.100) |")


def test_a_finished_run_is_kept_until_a_parameter_changes(tmp_path, monkeypatch):
    calls = []

    def run(case, source, folder):
        calls.append(case.name)
        return {"ours": {"all": {"accuracy": 1}}, "baseline": {"all": {"accuracy": 1}}, "seconds": {}}

    monkeypatch.setattr(model_quality, "_run", run)
    options = Namespace(out=tmp_path, fraction=0.005, set=[])
    case = Case("texture", 0.3, 0)
    first = model_quality._run_or_read(case, options)
    assert model_quality._run_or_read(case, options) == first
    assert calls == ["texture-0.3-0"]
    model_quality._run_or_read(case, Namespace(out=tmp_path, fraction=0.005, set=["finetune_all.epochs=1"]))
    assert len(calls) == 2

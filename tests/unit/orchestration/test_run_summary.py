"""The lines of `twofold summary` about the test split."""

from twofold.orchestration.run_summary import _test_metrics


def metrics(accuracy, n, judged=True):
    intervals = {"accuracy": {"low": accuracy - 0.1, "high": accuracy + 0.05, "method": "wilson"}}
    return {"accuracy": accuracy, "n": n, "judged": judged, "intervals": intervals}


METRICS = {
    **metrics(0.9, 600),
    "roc_auc": 0.95,
    "ece": 0.02,
    "threshold": 0.4321,
    "temperature": 1.25,
    "undefined": {"precision": "no image was called positive at this threshold"},
    "slices": {
        "image size": {"301 px or more": metrics(0.8, 400), "up to 300 px": metrics(0.7, 200)},
        "type": {"rare": metrics(0.5, 12, judged=False), **{f"kind {k}": metrics(0.6, 50 - k) for k in range(11)}},
    },
}


def test_metrics_have_their_intervals_and_slices_their_number_of_images():
    lines = _test_metrics(METRICS)
    assert lines[0].startswith("on 600 unseen images; temperature 1.250 and threshold 0.432 were chosen on validation")
    assert lines[1:4] == [
        "accuracy           0.900 (0.800 to 0.950)",
        "roc_auc            0.950",  # without an interval
        "ece                0.020",
    ]
    assert lines[4:6] == [
        "image size up to 300 px: accuracy 0.700 (0.600 to 0.750), n = 200",
        "image size 301 px or more: accuracy 0.800 (0.700 to 0.850), n = 400",
    ]
    assert lines[6] == "type kind 0: accuracy 0.600 (0.500 to 0.650), n = 50"
    assert lines[-1] == "type: 2 more values are in the report"


def test_a_slice_of_few_images_is_marked():
    few = METRICS | {"slices": {"type": {"rare": metrics(0.5, 12, judged=False)}}}
    assert _test_metrics(few)[-1] == "type rare: accuracy 0.500 (0.400 to 0.550), n = 12, too few to judge"

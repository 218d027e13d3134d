"""The parameters of evaluate: allowed values, and errors for others."""

import pytest

from tests.support.evaluation_case import PARAMS
from twofold.core.errors import ParameterError
from twofold.core.params import check_section
from twofold.steps.evaluate import Evaluate


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        ({"policy": "best"}, r"evaluate\.threshold: found \{'policy': 'best'\}; .*one of max_accuracy, max_val"),
        ({"recall": 0.9}, r"evaluate\.threshold: found \{'recall': 0.9\}; a rule has a 'policy'"),
        (0.5, r"evaluate\.threshold: found 0.5; a rule has a 'policy'"),
        ({"policy": "recall_at_least"}, r"evaluate\.threshold\.recall: missing; add it \(smallest share of the"),
        ({"policy": "recall_at_least", "recall": 1.0}, r"evaluate\.threshold\.recall: found 1.0; must be below 1"),
        ({"policy": "recall_at_least", "recall": 0}, r"evaluate\.threshold\.recall: found 0; .*above 0 to below 1"),
        ({"policy": "precision_at_least", "recall": 0.9}, r"evaluate\.threshold\.recall: unknown key"),
        ({"policy": "max_f1", "recall": 0.9}, r"evaluate\.threshold\.recall: unknown key; .*: policy$"),
        ({"policy": "min_cost", "missed": 3}, r"evaluate\.threshold\.false_alarm: missing; add it \(what a false"),
        ({"policy": "min_cost", "missed": "3", "false_alarm": 1}, r"evaluate\.threshold\.missed: found '3'"),
        ({"policy": "min_cost", "missed": float("inf"), "false_alarm": 1}, r"evaluate\.threshold\.missed: found inf"),
    ],
)
def test_a_rule_accepts_its_own_keys_only(threshold, message):
    values = PARAMS.model_dump() | {"threshold": threshold}
    with pytest.raises(ParameterError, match=message):
        check_section(Evaluate, "evaluate", values)


def test_rules_with_floats_from_kubeflow_are_accepted():
    values = PARAMS.model_dump() | {"threshold": {"policy": "min_cost", "missed": 10.0, "false_alarm": 1}}
    assert check_section(Evaluate, "evaluate", values).model_dump()["threshold"] == {
        "policy": "min_cost",
        "missed": 10.0,
        "false_alarm": 1.0,
    }


def test_other_values_are_refused():
    values = PARAMS.model_dump()
    assert check_section(Evaluate, "evaluate", values | {"views": 4.0}).views == 4
    with pytest.raises(ParameterError, match=r"evaluate\.views: found 3; .*allowed are 1, 2, 4, 8"):
        check_section(Evaluate, "evaluate", values | {"views": 3})
    with pytest.raises(ParameterError, match=r"evaluate\.pictures: found 'no'"):
        check_section(Evaluate, "evaluate", values | {"pictures": "no"})
    with pytest.raises(ParameterError, match=r"evaluate\.robustness: found -1"):
        check_section(Evaluate, "evaluate", values | {"robustness": -1})
    assert check_section(Evaluate, "evaluate", values | {"robustness": 400.0}).robustness == 400

"""Finds label issues: images whose out-of-fold prediction contradicts their label (confident learning).

Takes the features of the frozen base (view 0), the labels and the groups of all images; returns the check
`label_issues`, the least plausible label first, and statistics. The weights of the model do not change.

The out-of-fold predictions come from a ridge-penalised logistic regression on the standardised features, not from the
network's own head. On the sample data (2,618 images, 1,280 features, five folds) its ROC-AUC is 0.913, against 0.917 to
0.920 for five trainings of the head, in one second. It has one solution, and needs no epochs, no seed and no random
numbers.

Label issues are selected as in Northcutt, Jiang, Chuang, "Confident Learning", JAIR 70, 2021, implemented by cleanlab.
The confidence threshold of a class is the mean probability of the class over the images with that label, so a head that
is more confident in one class does no harm. The method assumes predictions on unseen images, and label noise that
depends on the class rather than the image. Hard images violate the second assumption and look like wrong labels.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twofold.audit.checks import Check, Issue, PolicyOfAll
from twofold.audit.logistic_regression import StandardizedFeatures, fit_logistic_regression, log_odds, sigmoid
from twofold.data.prepared import PreparedDataset
from twofold.metrics.number_format import percent

NAME, TITLE = "label_issues", "Label issues"
SPLITS = ("train", "validation", "test")
FOLDS = 5
Integers = npt.NDArray[np.int64]
Objects = npt.NDArray[Any]
Features = Callable[[str], npt.NDArray[np.float32]]
STRENGTH = 0.01  # C of the regression, from 0.0001 to 0.1 the one with the best log loss on the sample data
MEANING = (
    "An out-of-fold prediction contradicts the label with confidence (confident learning; five folds over all splits, "
    "groups kept together). Wrong labels in training teach the model errors; in the test they hide how good it is. An "
    "issue is not always an error: a hard image looks the same. Judge by the picture, not by the prediction, and "
    "review other images too: if only the test labels that contradict the model are corrected, it looks better than it "
    "is."
)


class LabelIssues(NamedTuple):
    """The result of `find_label_issues`; accuracy and ROC-AUC compare out-of-fold predictions with the given labels."""

    rows: Integers  # of images with a label issue, the least plausible label first, equal ones in the order of the rows
    accuracy: float
    roc_auc: float
    noise: float  # estimated fraction of wrong labels, 0..1: off-diagonal of confident learning's joint distribution


def check_labels(
    policy: PolicyOfAll, images: PreparedDataset, features: Features, names: Mapping[str, str]
) -> tuple[Check, dict[str, Any]]:
    """The check and the statistics of the audit.

    Test labels are checked too, because the gates depend on them. Nothing leaks into the model: the audit's own head is
    discarded.

    Args:
        policy: of the check; `ignore` does nothing and requests no features.
        features: returns the base's features (n, F) of a split, in the order of its rows.
        names: the path of every image in the source, by SHA-256.

    Raises:
        TrainingError: a feature is not finite.
    """
    check = Check(NAME, policy, TITLE, MEANING, [])
    if policy == "ignore":
        return check, {}
    group = images.column("group")
    if impossible := too_few_images(images.target, group, images.meta["labels"]):
        return check._replace(impossible=impossible), {"images looked at": 0}
    parts = [features(split) for split in SPLITS]
    order = np.concatenate([images.rows(split) for split in SPLITS])
    probability = out_of_fold_probabilities(parts, order, images.target, group)
    issues = find_label_issues(images.target, probability)
    found = [_issue(images, row, probability[row], names) for row in issues.rows]
    return check._replace(found=found), _statistics(images, issues)


def too_few_images(target: Integers, group: Objects, labels: list[str]) -> str:
    """Why these images cannot be split into folds; empty if they can."""
    groups = _number_groups(group)
    for value, label in enumerate(labels):
        count = len(np.unique(groups[target == value]))
        if count < FOLDS:
            what = "images" if len(np.unique(groups)) == len(groups) else "groups of images"
            return f"{count} {what} of class {label!r}, at least {FOLDS} are needed for out-of-fold predictions."
    return ""


def assign_folds(target: Integers, group: Objects) -> list[tuple[Objects, Objects]]:
    """Five pairs (rows to train on, rows to predict): stratified, groups kept together, deterministic."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = _number_groups(group)
    # Rows are sorted by a hash, so they need no shuffling. If every image is its own group, the simple splitter gives
    # equivalent folds in a fraction of the time.
    if len(np.unique(groups)) == len(groups):
        return list(StratifiedKFold(FOLDS).split(groups, target))
    return list(StratifiedGroupKFold(FOLDS).split(groups, target, groups))


def out_of_fold_probabilities(
    parts: Sequence[npt.NDArray[np.float32]], order: Integers, target: Integers, group: Objects
) -> npt.NDArray[np.float64]:
    """Probability (N,) of the positive class, predicted for each image by a head trained without it and its group.

    The features are standardised by the moments of all images, including the predicted fold: moments contain no label.

    Args:
        parts: features, arrays (n, F) of N rows together; neither changed nor copied.
        order: (N,) the index in `target` of each row of the parts.
        target: (N,) 0 or 1, each in at least five groups (`too_few_images`).
        group: (N,) names, None for an image without a group.

    Raises:
        TrainingError: a feature is not finite.
    """
    # A dependency of scikit-learn. One thread: the number of threads changes the last digits of a sum, and several
    # threads are slower at this size, much slower beside other work.
    from threadpoolctl import threadpool_limits

    probability = np.empty(len(target), np.float64)
    with threadpool_limits(1):
        features = StandardizedFeatures(parts)
        for train, test in assign_folds(target, group):
            # Weights of 0 and 1 give the same solution as a copy of four fifths of the rows.
            weight = np.zeros(len(target))
            weight[train] = 1
            regression = fit_logistic_regression(features, target[order], weight[order], STRENGTH)
            predicted = np.empty(len(target))
            predicted[order] = sigmoid(log_odds(regression, features))
            probability[test] = predicted[test]
    return probability


def find_label_issues(target: Integers, probability: npt.NDArray[np.float64]) -> LabelIssues:
    """The label issues among images with (N,) labels 0 or 1, from out-of-fold probabilities (N,) of 1."""
    from cleanlab.count import estimate_joint
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import accuracy_score, roc_auc_score

    both = np.column_stack([1 - probability, probability])
    # Its default rule: in each class as many images as the estimated joint distribution has wrong labels, those with
    # the most confident predictions. One process, because by default it starts one for each class.
    rows = np.flatnonzero(find_label_issues(target, both, filter_by="prune_by_noise_rate", n_jobs=1))
    quality = get_label_quality_scores(target, both, method="self_confidence")
    return LabelIssues(
        rows=rows[np.argsort(quality[rows], kind="stable")],
        accuracy=float(accuracy_score(target, probability >= 0.5)),
        roc_auc=float(roc_auc_score(target, probability)),
        noise=float(1 - np.trace(estimate_joint(target, both))),
    )


def _number_groups(group: Objects) -> Integers:
    """A number for the group of each image; an image without a group gets its own."""
    numbers: dict[Any, int] = {}
    named = [(row, None) if name is None else (-1, name) for row, name in enumerate(group.tolist())]
    return np.array([numbers.setdefault(name, len(numbers)) for name in named], np.int64)


def relabel_command(key: str, label: str, other: str) -> str:
    """A command that corrects an image's label: the image moves to the other class folder, or labels.csv changes."""
    parts = key.split("/")
    if label in parts[:-1][:2]:  # <class>/… or <split>/<class>/…
        parts[parts.index(label)] = other
        return f"mv {shlex.quote(key)} {shlex.quote('/'.join(parts))}"
    row, old, new = (re.sub(r"[][\\.*^$|&]", r"\\\g<0>", text) for text in (key, label, other))
    return "sed -i " + shlex.quote(rf"\|{row}|s|,{old}|,{new}|") + " labels.csv"


def _issue(images: PreparedDataset, row: int, probability: float, names: Mapping[str, str]) -> Issue:
    labels, target, sha256 = images.meta["labels"], int(images.target[row]), str(images.sha256[row])
    given = float(probability if target else 1 - probability)
    detail = f"labelled {labels[target]}; the out-of-fold prediction is {labels[1 - target]}, {percent(1 - given)}"
    key, command = names[sha256], relabel_command(names[sha256], labels[target], labels[1 - target])
    return Issue(NAME, sha256, key, labels[target], str(images.split[row]), detail, value=given, command=command)


def _statistics(images: PreparedDataset, issues: LabelIssues) -> dict[str, Any]:
    is_issue = np.zeros(len(images), bool)
    is_issue[issues.rows] = True
    labels = images.meta["labels"]
    tables = {
        "Suspects by label": _count_by_value(np.array(labels, object)[images.target], is_issue),
        "Suspects by split": _count_by_value(images.split, is_issue, SPLITS),
    }
    for name in images.meta["slices"]:
        tables[f"Suspects by {name}"] = _count_by_value(images.column(f"slice.{name}"), is_issue)
    return {
        "images looked at": len(images),
        "suspects": len(issues.rows),
        "out-of-fold accuracy": round(issues.accuracy, 4),
        "out-of-fold ROC-AUC": round(issues.roc_auc, 4),
        "estimated share of wrong labels, hard images among them": round(issues.noise, 4),
        **tables,
    }


def _count_by_value(
    values: Objects, is_issue: npt.NDArray[np.bool_], order: tuple[str, ...] | None = None
) -> Mapping[str, Mapping[str, Any]]:
    """{value: images, suspects, share}; images without a value are not counted."""
    table = {}
    for value in order or sorted({value for value in values.tolist() if value is not None}):
        n, found = int((values == value).sum()), int(is_issue[values == value].sum())
        table[str(value)] = {"images": n, "suspects": found, "share": round(found / n, 4) if n else None}
    return table

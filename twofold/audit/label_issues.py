"""Labels that may be wrong: images that a head which never saw them puts, with confidence, into the other class.

In: what the frozen base sees in every image (view 0), the labels, the groups. Out: the audit's check
`label_issues`, the least believable label first, and figures. Nothing here touches a weight of the model.

The head of the out-of-fold predictions is a ridge-penalised logistic regression on the standardised features, not
the network's own head. On the sample data (2,618 images, 1,280 features, five folds) it comes as far (ROC-AUC 0.913,
against 0.917 to 0.920) in a second instead of the time of five trainings; it has one solution, needs no epochs,
no seed and nobody's generator of random numbers.

Which of them are suspects is confident learning's answer (Northcutt, Jiang, Chuang: Confident Learning, JAIR 70,
2021) as cleanlab has it: per class, the mean probability of the class among the images labelled so is what counts as
confident, so a head that is surer of one class than of the other does no harm. It assumes predictions on unseen
images and noise that depends on the class, not on the image; hard images break the second, and look like wrong ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from twofold.audit.checks import Check, Issue, PolicyOfAll
from twofold.audit.logistic_regression import StandardizedFeatures, fit_logistic_regression, log_odds, sigmoid
from twofold.data.prepared import PreparedDataset
from twofold.metrics.number_format import percent

NAME, TITLE = "label_issues", "Labels that may be wrong"
SPLITS = ("train", "validation", "test")
FOLDS = 5
STRENGTH = 0.01  # C of the regression: of 0.0001 to 0.1, the best log loss on the sample data
MEANING = (
    "A head that never saw an image puts it, with confidence, into the other class (five folds, groups kept together, "
    "all splits; confident learning). Wrong labels in training teach the model errors; in the test they hide how good "
    "it is. This is a suspicion, not an error: an image that is merely hard looks the same. Judge by the picture, not "
    "by the model's answer, and look at other images too: a test in which only its contradictions were corrected "
    "flatters the model. An image's name here is the SHA-256 of its file; the manifest of data/raw has its path."
)


class LabelIssues(NamedTuple):
    """What was found.

    Attributes:
        rows: of the suspects, the least believable label first, equal ones in the order of the rows.
        accuracy, roc_auc: of the out-of-fold predictions, against the labels as given.
        noise: estimated share of wrong labels, 0..1: the off-diagonal of confident learning's joint distribution.
    """

    rows: npt.NDArray[np.int64]
    accuracy: float
    roc_auc: float
    noise: float


def check_labels(
    policy: PolicyOfAll, images: PreparedDataset, features: Callable[[str], npt.NDArray[np.float32]]
) -> tuple[Check, dict[str, Any]]:
    """The check and the figures of the audit.

    The test's labels are looked at too, as the judgement stands on them. That leaks nothing into the model: the head
    of this audit is thrown away.

    Args:
        policy: of the check; `ignore` looks at nothing and asks for no features.
        images: prepared.
        features: a split's name -> what the base sees in its images (n, F), in the order of its rows.

    Raises:
        TrainingError: a feature is not finite.
    """
    if policy == "ignore":
        return Check(NAME, policy, TITLE, MEANING, []), {}
    group = images.column("group")
    impossible = too_few_images(images.target, group, images.meta["labels"])
    if impossible:
        return Check(NAME, policy, TITLE, MEANING, [], impossible=impossible), {"images looked at": 0}
    parts = [features(split) for split in SPLITS]
    order = np.concatenate([images.rows(split) for split in SPLITS])
    probability = out_of_fold_probabilities(parts, order, images.target, group)
    suspects = find_label_issues(images.target, probability)
    check = Check(NAME, policy, TITLE, MEANING, [_found(images, row, probability[row]) for row in suspects.rows])
    return check, _figures(images, suspects)


def too_few_images(target: npt.NDArray[np.int64], group: npt.NDArray[Any], labels: list[str]) -> str:
    """Why these images cannot be cut into folds, in words; empty if they can."""
    whole = _groups(group)
    for value, label in enumerate(labels):
        apart = len(np.unique(whole[target == value]))
        if apart < FOLDS:
            what = "images" if len(np.unique(whole)) == len(whole) else "groups of images"
            return f"{apart} {what} of class {label!r}, at least {FOLDS} are needed for predictions on unseen ones."
    return ""


def assign_folds(
    target: npt.NDArray[np.int64], group: npt.NDArray[Any]
) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """(rows to learn from, rows to predict) five times; classes in proportion, groups whole, the same each time."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    whole = _groups(group)
    # Rows are in the order of a hash: there is nothing to shuffle. With every image a group of its own, the plain
    # splitter does the same in a fraction of the time.
    apart = len(np.unique(whole)) == len(whole)
    splitter = StratifiedKFold(FOLDS) if apart else StratifiedGroupKFold(FOLDS)
    return list(splitter.split(whole, target, None if apart else whole))


def out_of_fold_probabilities(
    parts: Sequence[npt.NDArray[np.float32]],
    order: npt.NDArray[np.int64],
    target: npt.NDArray[np.int64],
    group: npt.NDArray[Any],
) -> npt.NDArray[np.float64]:
    """Probability (N,) of the positive class, of each image by a head that saw neither it nor its group.

    The moments by which the features are standardised are those of all images and not of a fold's four fifths: they
    know no label.

    Args:
        parts: features, arrays (n, F) of N rows together; they are left as they are, and not copied.
        order: (N,) the image of each row of the parts, by its place in `target`.
        target: (N,) 0 or 1, both of them in at least five groups (`too_few`).
        group: (N,) names, None where an image stands for itself.

    Raises:
        TrainingError: a feature is not finite.
    """
    # Known with scikit-learn, which is built on it. One thread: the last digits of a sum depend on their number, and
    # several are slower at this size, much slower beside other work.
    from threadpoolctl import threadpool_limits

    probability = np.empty(len(target), np.float64)
    with threadpool_limits(1):
        features = StandardizedFeatures(parts)
        for learned, predicted in assign_folds(target, group):
            # Weights of 0 and 1 instead of a copy of four fifths of the rows: the same solution.
            weight = np.zeros(len(target))
            weight[learned] = 1
            regression = fit_logistic_regression(features, target[order], weight[order], STRENGTH)
            seen = np.empty(len(target))
            seen[order] = sigmoid(log_odds(regression, features))
            probability[predicted] = seen[predicted]
    return probability


def find_label_issues(target: npt.NDArray[np.int64], probability: npt.NDArray[np.float64]) -> LabelIssues:
    """The suspects among images of (N,) labels 0 or 1, from out-of-fold probabilities (N,) of 1."""
    from cleanlab.count import estimate_joint
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores
    from sklearn.metrics import accuracy_score, roc_auc_score

    both = np.column_stack([1 - probability, probability])
    # Its default rule: as many images as the estimated joint has wrong labels of each class, those of which the head
    # is surest. One process: it would start two for two classes.
    suspected = np.flatnonzero(find_label_issues(target, both, filter_by="prune_by_noise_rate", n_jobs=1))
    believable = get_label_quality_scores(target, both, method="self_confidence")
    joint = estimate_joint(target, both)
    return LabelIssues(
        rows=suspected[np.argsort(believable[suspected], kind="stable")],
        accuracy=float(accuracy_score(target, probability >= 0.5)),
        roc_auc=float(roc_auc_score(target, probability)),
        noise=float(1 - np.trace(joint)),
    )


def _groups(group: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """A number for each image's group; an image without one has a number of its own."""
    numbers: dict[Any, int] = {}
    named = [(row, None) if name is None else (-1, name) for row, name in enumerate(group.tolist())]
    return np.array([numbers.setdefault(name, len(numbers)) for name in named], np.int64)


def _found(images: PreparedDataset, row: int, probability: float) -> Issue:
    labels, target, sha256 = images.meta["labels"], int(images.target[row]), str(images.sha256[row])
    given = float(probability if target else 1 - probability)
    detail = f"labelled {labels[target]}; a head that never saw it gives {labels[1 - target]} {percent(1 - given)}"
    return Issue(NAME, sha256, sha256, labels[target], str(images.split[row]), detail, value=given)


def _figures(images: PreparedDataset, suspects: LabelIssues) -> dict[str, Any]:
    chosen = np.zeros(len(images), bool)
    chosen[suspects.rows] = True
    labels = images.meta["labels"]
    tables = {
        "Suspects by label": _shares(np.array(labels, object)[images.target], chosen),
        "Suspects by split": _shares(images.split, chosen, SPLITS),
    }
    for name in images.meta["slices"]:
        tables[f"Suspects by {name}"] = _shares(images.column(f"slice.{name}"), chosen)
    return {
        "images looked at": len(images),
        "suspects": len(suspects.rows),
        "out-of-fold accuracy": round(suspects.accuracy, 4),
        "out-of-fold ROC-AUC": round(suspects.roc_auc, 4),
        "estimated share of wrong labels, hard images among them": round(suspects.noise, 4),
        **tables,
    }


def _shares(
    values: npt.NDArray[Any], chosen: npt.NDArray[np.bool_], order: tuple[str, ...] | None = None
) -> Mapping[str, Mapping[str, Any]]:
    """{value: images, suspects, share}; images without a value are in no row."""
    table = {}
    for value in order or sorted({value for value in values.tolist() if value is not None}):
        here = values == value
        n, found = int(here.sum()), int((here & chosen).sum())
        table[str(value)] = {"images": n, "suspects": found, "share": round(found / n, 4) if n else None}
    return table

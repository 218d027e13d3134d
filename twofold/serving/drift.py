"""`twofold drift MODEL SOURCE`: whether new images look to a model like those that it was tested on.

In: a sealed model with its reference (see `twofold/evaluation/drift_reference.py`), and images, with or without labels. Out: two
tests, one on the features and one on the scores, each with a p-value, and the verdict: drift, if one of the two is at
most half of `alpha` (Bonferroni), so that no larger share than `alpha` of comparisons without drift raises an alarm.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from twofold.core.errors import DataError, ParameterError, listed
from twofold.evaluation.drift_reference import BATCH, MOST, ReferenceSample, first_of_each_group, pooled_features, read
from twofold.metrics.two_sample_tests import DEALS, TestResult, classifier_test, psi_test
from twofold.serving.model_resolver import ResolvedModel, resolve_model

TESTS = 2
FEWEST = 30  # images on either side: with fewer, no difference short of a catastrophe would show
_SHOWN = 5


class Verdict(NamedTuple):
    """Both tests: `features` is the area under the ROC curve of a classifier that tells new from old, `scores` the
    population stability index.
    """

    features: TestResult
    scores: TestResult
    alpha: float

    @property
    def limit(self) -> float:
        """What a p-value must not exceed for drift to be found."""
        return self.alpha / TESTS

    @property
    def drift(self) -> bool:
        return min(self.features.p, self.scores.p) <= self.limit


class Comparison(NamedTuple):
    """What was compared.

    Attributes:
        version: of the model.
        source: for people.
        offered: images that the source holds.
        refused: (name, reason) of those that were to be compared and are no images that the model accepts.
        new, old: how many images were compared.
        called: share that is called positive, of the new and of the old ones.
        verdict: of both tests.
    """

    version: str
    source: str
    offered: int
    refused: list[tuple[str, str]]
    new: int
    old: int
    called: tuple[float, float]
    verdict: Verdict


def drift(model: str, address: str, *, name: Callable[[], str], alpha: float) -> Comparison:
    """Compare the images of a source with the model's reference; the same images give the same answer.

    At most MOST images are looked at, the same number as of the reference; of a group only one.

    Args:
        model: as `twofold.serving.model_resolver` takes it.
        address: as `ingest.source`, with labels or without.
        name: gives the name of the registered model, where `model` names none.
        alpha: share of comparisons without drift that may raise an alarm.

    Raises:
        ParameterError: an alpha that no p-value can reach, or that half of all comparisons would.
        DataError: the source is not there or has too few images.
        SourceError: it failed while it was read.
        RegistryError, ArtifactError: the model cannot be had, or was sealed without a reference.
    """
    from twofold.sources.unlabelled import list_unlabelled

    if not TESTS / (DEALS + 1) <= alpha <= 0.5:
        raise ParameterError(f"--alpha: found {alpha}; allowed are {TESTS / (DEALS + 1):g} to 0.5")
    listed = list_unlabelled(address)
    # In an order that has nothing to do with names, in which days and cameras hide.
    images = sorted(listed.images, key=lambda image: hashlib.sha256(image[0].encode()).digest())
    chosen = [images[place][0] for place in first_of_each_group([group for _, group in images])][:MOST]
    if len(chosen) < FEWEST:
        raise DataError(f"{address}: {len(chosen)} images, at least {FEWEST} are needed (of a group, one counts)")
    with resolve_model(model, name) as picked:
        old = read(picked.folder)
        if len(old.scores) < FEWEST:
            raise DataError(
                f"{picked.version}: its reference holds {len(old.scores)} images, at least {FEWEST} are needed; "
                "enlarge the test split"
            )
        new, refused = _look(picked, listed.source, chosen)
        if len(new.scores) < FEWEST:
            raise DataError(
                f"{address}: {len(new.scores)} of {len(chosen)} images can be read, at least {FEWEST} are needed; "
                f"{refused[0][0]}: {refused[0][1]}"
            )
        threshold = picked.sealed.threshold
        called = tuple(float((sample.scores >= threshold).mean()) for sample in (new, old))
        return Comparison(
            picked.version,
            listed.source.name,
            len(images),
            refused,
            len(new.scores),
            len(old.scores),
            (called[0], called[1]),
            drift_verdict(old, new, alpha),
        )


def drift_verdict(old: ReferenceSample, new: ReferenceSample, alpha: float) -> Verdict:
    """Both tests; `alpha` in (0, 1)."""
    random = np.random.default_rng(0)
    return Verdict(classifier_test(old.features, new.features, random), psi_test(old.scores, new.scores, random), alpha)


def _look(picked: ResolvedModel, source: Any, keys: list[str]) -> tuple[ReferenceSample, list[tuple[str, str]]]:
    """What the model sees and says of images, and those that are none."""
    from twofold.core.progress import track
    from twofold.model.device import device, make_deterministic, warn_if_emulated
    from twofold.serving.image_loader import ImageFile, load_images

    make_deterministic()
    sealed = picked.sealed
    warn_if_emulated(sealed.precision, device())
    sealed.classifier.to(device())
    refused: list[tuple[str, str]] = []
    seen, scores = [], []
    files = [ImageFile(key, source, key) for key in keys]
    for some in track(load_images(files, sealed.preprocessing), "looking", len(keys), per_item=BATCH):
        refused += [(one.name, one.reason) for one in some if one.pixels is None]
        pixels = [one.pixels for one in some if one.pixels is not None]
        if not pixels:
            continue
        about = sealed.architecture
        batch = np.stack([np.repeat(one, 3, axis=2) if one.shape[2] == 1 else one for one in pixels])
        seen.append(pooled_features(sealed.network, [batch], mean=about["mean"], std=about["std"]))
        scores.append(sealed.score(pixels).astype(np.float32))
    if not seen:
        return ReferenceSample(np.zeros((0, 0), np.float16), np.zeros(0, np.float32)), refused
    return ReferenceSample(np.concatenate(seen), np.concatenate(scores)), refused


def as_json(found: Comparison) -> dict[str, Any]:
    """For a program."""
    verdict = found.verdict
    return {
        "drift": verdict.drift,
        "model": found.version,
        "source": found.source,
        "offered": found.offered,
        "new": found.new,
        "old": found.old,
        "refused": len(found.refused),
        "features": {"roc_auc": verdict.features.statistic, "p": verdict.features.p},
        "scores": {"psi": verdict.scores.statistic, "p": verdict.scores.p},
        "p_limit": verdict.limit,
        "called_positive": {"new": found.called[0], "old": found.called[1]},
    }


def as_text(found: Comparison) -> str:
    """For a person."""
    verdict, words = found.verdict, {True: "drift", False: "no drift"}
    area, index = verdict.features, verdict.scores
    lines = [
        f"model     {found.version}, tested on {found.old} images",
        f"source    {found.source}: {found.new} of {found.offered} images compared",
        f"features  a classifier tells new from old with a ROC-AUC of {area.statistic:.3f}, p = {area.p:.3f}: "
        f"{words[area.p <= verdict.limit]}",
        f"scores    population stability index {index.statistic:.3f}, p = {index.p:.3f}: "
        f"{words[index.p <= verdict.limit]}",
        f"positive  {found.called[0]:.1%} of the new images, {found.called[1]:.1%} of the old ones",
    ]
    if found.refused:
        title = f"refused   {len(found.refused)} files are no images that the model accepts"
        lines.append(listed(title, [f"{name}: {reason}" for name, reason in found.refused], _SHOWN))
    rule = f"each p is held to {verdict.limit:g}, that is {verdict.alpha:g} over {TESTS} tests"
    lines.append(f"{'drift found' if verdict.drift else 'no drift found'} ({rule})")
    return "\n".join(lines)

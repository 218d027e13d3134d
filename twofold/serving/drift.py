"""`twofold drift MODEL SOURCE`: test whether new images differ from the images that a model was tested on.

Reads a sealed model with its reference sample (`twofold/evaluation/drift_reference.py`) and images, with or without
labels. Returns two tests, one on the features and one on the scores, each with a p-value. Drift is found if a p-value
is at most half of `alpha` (Bonferroni), so at most a share `alpha` of comparisons without drift raises an alarm.
"""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from twofold.core.errors import DataError, ParameterError, listed
from twofold.core.progress import track
from twofold.evaluation.drift_reference import BATCH, MOST, ReferenceSample, first_of_each_group, pooled_features, read
from twofold.metrics.two_sample_tests import DEALS, TestResult, classifier_test, psi_test
from twofold.serving.image_loader import ImageFile, load_images
from twofold.serving.model_resolver import prepare_inference, resolve_model
from twofold.serving.sealed_model import SealedModel, colour_batches
from twofold.sources.base import Source
from twofold.sources.unlabelled import list_unlabelled

TESTS = 2
FEWEST = 30  # images of each sample; with fewer, only an extreme difference would be significant
_MOST_REFUSED_SHOWN = 5


class Verdict(NamedTuple):
    """Both tests: `features` with the ROC-AUC of a classifier of new against old images, `scores` with the PSI."""

    features: TestResult
    scores: TestResult
    alpha: float

    @property
    def limit(self) -> float:
        """The largest p-value of a test that counts as drift."""
        return self.alpha / TESTS

    @property
    def drift(self) -> bool:
        return min(self.features.p, self.scores.p) <= self.limit


class Comparison(NamedTuple):
    """The result of comparing a source with a model's reference.

    Attributes:
        source: address without credentials.
        offered: number of images in the source.
        refused: (name, reason) of the chosen files that the model does not accept.
        new, old: number of images compared: of the source, of the reference.
        positive: share of the new and of the reference images that the model calls positive.
    """

    version: str
    source: str
    offered: int
    refused: list[tuple[str, str]]
    new: int
    old: int
    positive: tuple[float, float]
    verdict: Verdict


def drift(model: str, address: str, *, name: Callable[[], str], alpha: float) -> Comparison:
    """Compare the images of a source with the model's reference; the same images give the same result.

    At most MOST images are compared, and one image of each group.

    Args:
        model, name: see `resolve_model`.
        address: as `ingest.source`, with or without labels.
        alpha: share of comparisons without drift that may raise an alarm.

    Raises:
        ParameterError: no p-value can be as small as alpha requires, or alpha is above 0.5.
        DataError: the source does not exist or has too few images.
        SourceError: the source failed while it was read.
        RegistryError, ArtifactError: the model is not available, or was sealed without a reference.
    """
    if not TESTS / (DEALS + 1) <= alpha <= 0.5:
        raise ParameterError(f"--alpha: found {alpha}; allowed are {TESTS / (DEALS + 1):g} to 0.5")
    found = list_unlabelled(address)
    # Ordered by hash, since the order of names follows days and cameras.
    images = sorted(found.images, key=lambda image: hashlib.sha256(image[0].encode()).digest())
    keys = [images[place][0] for place in first_of_each_group([group for _, group in images])][:MOST]
    if len(keys) < FEWEST:
        raise DataError(f"{address}: {len(keys)} images, at least {FEWEST} are needed (one image of a group counts)")
    with resolve_model(model, name) as resolved:
        old = read(resolved.folder)
        if len(old.scores) < FEWEST:
            raise DataError(
                f"{resolved.version}: its reference holds {len(old.scores)} images, at least {FEWEST} are needed; "
                "enlarge the test split"
            )
        new, refused = sample_images(resolved.sealed, found.source, keys)
        if len(new.scores) < FEWEST:
            raise DataError(
                f"{address}: {len(new.scores)} of {len(keys)} images can be read, at least {FEWEST} are needed; "
                f"{refused[0][0]}: {refused[0][1]}"
            )
        new_positive, old_positive = (float((each.scores >= resolved.sealed.threshold).mean()) for each in (new, old))
        return Comparison(
            version=resolved.version,
            source=found.source.name,
            offered=len(images),
            refused=refused,
            new=len(new.scores),
            old=len(old.scores),
            positive=(new_positive, old_positive),
            verdict=drift_verdict(old, new, alpha),
        )


def drift_verdict(old: ReferenceSample, new: ReferenceSample, alpha: float) -> Verdict:
    """Run both tests; `alpha` in (0, 1)."""
    random = np.random.default_rng(0)
    return Verdict(classifier_test(old.features, new.features, random), psi_test(old.scores, new.scores, random), alpha)


def sample_images(
    sealed: SealedModel, source: Source, keys: list[str]
) -> tuple[ReferenceSample, list[tuple[str, str]]]:
    """Return the model's features and scores of images, and (name, reason) of the files that it does not accept."""
    prepare_inference(sealed)
    mean, std = sealed.architecture["mean"], sealed.architecture["std"]
    refused: list[tuple[str, str]] = []
    features, scores = [], []
    files = [ImageFile(key, source, key) for key in keys]
    for images in track(load_images(files, sealed.preprocessing), "computing features", len(keys), per_item=BATCH):
        refused += [(image.name, image.reason) for image in images if image.pixels is None]
        pixels = [image.pixels for image in images if image.pixels is not None]
        if pixels:
            features.append(pooled_features(sealed.network, colour_batches(pixels), mean=mean, std=std))
            scores.append(sealed.score(pixels).astype(np.float32))
    if not features:
        return ReferenceSample(np.zeros((0, 0), np.float16), np.zeros(0, np.float32)), refused
    return ReferenceSample(np.concatenate(features), np.concatenate(scores)), refused


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as a JSON object."""
    verdict = comparison.verdict
    return {
        "drift": verdict.drift,
        "model": comparison.version,
        "source": comparison.source,
        "offered": comparison.offered,
        "new": comparison.new,
        "old": comparison.old,
        "refused": len(comparison.refused),
        "features": {"roc_auc": verdict.features.statistic, "p": verdict.features.p},
        "scores": {"psi": verdict.scores.statistic, "p": verdict.scores.p},
        "p_limit": verdict.limit,
        "called_positive": dict(zip(("new", "old"), comparison.positive, strict=True)),
    }


def as_text(comparison: Comparison) -> str:
    """Return the comparison as lines of text."""
    verdict, words = comparison.verdict, {True: "drift", False: "no drift"}
    auc, psi, limit = verdict.features, verdict.scores, verdict.limit
    new_positive, old_positive = comparison.positive
    lines = [
        f"model     {comparison.version}, tested on {comparison.old} images",
        f"source    {comparison.source}: {comparison.new} of {comparison.offered} images compared",
        f"features  ROC-AUC of a classifier of new against old images {auc.statistic:.3f}, p = {auc.p:.3f}: "
        f"{words[auc.p <= limit]}",
        f"scores    population stability index {psi.statistic:.3f}, p = {psi.p:.3f}: {words[psi.p <= limit]}",
        f"positive  {new_positive:.1%} of the new images, {old_positive:.1%} of the old images",
    ]
    if comparison.refused:
        title = f"refused   {len(comparison.refused)} files are not images that the model accepts"
        lines.append(listed(title, [f"{name}: {reason}" for name, reason in comparison.refused], _MOST_REFUSED_SHOWN))
    rule = f"drift: a p-value of at most {limit:g}, which is alpha {verdict.alpha:g} over {TESTS} tests"
    lines.append(f"{'drift found' if verdict.drift else 'no drift found'} ({rule})")
    return "\n".join(lines)

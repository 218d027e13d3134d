"""Test reuse: how many candidates the test images have judged, and the error rate that is left for the next one.

Reads which earlier candidates were judged on which images; returns the candidate's number on its test images and, by
`register.test_reuse`, the error rate of its gates against another model. Every judgement is a chance to pass by luck,
so the error rate falls with the number of judgements: the sum over all of them bounds the chance that a candidate that
is not better ever passes (Bonferroni), and `bench/studies/weekly_candidates.py` measures it. Images count one by one:
new images and corrected labels do not start the count again.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pydantic import Field

from twofold.core.params import Integer, Number, Section

ERROR_RATE = 0.05  # one-sided, of a gate against another model where test reuse is not limited
SPENT = "the error budget of these test images is spent (register.test_reuse)"
FRESH_IMAGES = (
    "add new labelled images: preprocess draws its test_fraction of them into the test, and the count, a mean over the "
    "test images, falls with each of them (another split_salt or test_fraction is no remedy: images that the champion "
    "has learned from are left out of the comparison)"
)


class TestReuse(Section):
    """How many candidates the same test images may compare with another model, and at which error rate."""

    candidates: Integer = Field(
        description="Candidates that the same test images may judge, 0 (no limit, and an error rate of 0.05 each) to "
        "1000000; after them, gates against another model refuse until there are new images",
        ge=0,
        le=1_000_000,
    )
    error_rate: Number = Field(
        description="The lowest one-sided error rate of a gate against another model, above 0 to 0.05: the first "
        "comparison on the same test images has 0.05, the second half of it, the third a third, and so on down to this",
        gt=0,
        le=ERROR_RATE,
    )


class EarlierTest(NamedTuple):
    """A test that earlier candidates were judged on."""

    images: frozenset[str] | None  # their SHA-256; None: the list is gone
    candidates: int  # judged on it
    promoted: int  # of these, how many became champion


class Looks(Section):
    """The use of the test images up to a candidate; recorded with its run and its version.

    Attributes:
        candidate: its number: 1 + the mean over its test images of the number of candidates judged on them before.
        promoted: the mean over the images of the number of these that became champion.
        uncounted: number of earlier candidates whose lists of test images are gone.
        allowed: `register.test_reuse.candidates`.
        error_rate: one-sided, of the gates against another model; 0 if the budget is spent.
    """

    candidate: Integer = 1
    promoted: Integer = 0
    uncounted: Integer = 0
    allowed: Integer = 0
    error_rate: Number = ERROR_RATE

    @property
    def words(self) -> str:
        """Such as "candidate 37 (limit 50) on these test images, 3 promoted before"."""
        allowed = f" (limit {self.allowed})" if self.allowed else ""
        gone = f" (not counted: {self.uncounted}, their lists of images are gone)" if self.uncounted else ""
        return f"candidate {self.candidate}{allowed} on these test images, {self.promoted} promoted before{gone}"


def error_rate(reuse: TestReuse, look: int) -> float:
    """Return the one-sided error rate of the gates against another model at a look, 1-based; 0 if none is left."""
    if not reuse.candidates:
        return ERROR_RATE
    # The first candidate on new test images has usually no champion beside it, so the second is the first compared.
    return max(ERROR_RATE / max(look - 1, 1), reuse.error_rate) if look <= reuse.candidates else 0.0


def confidence_text(rate: float) -> str:
    """Return the confidence level of a one-sided bound, such as "99.8 %"."""
    return f"{100 * (1 - rate):.4g} %"


def count_looks(
    images: Collection[str], reuse: TestReuse, earlier: Sequence[EarlierTest], recorded: Looks | None = None
) -> Looks:
    """Return the use of the test images up to a candidate; means over the images are rounded up.

    Args:
        images: SHA-256 of the test images, at least one, without those that the champion has learned from.
        earlier: the tests of the candidates that were judged before.
        recorded: when this candidate was first judged, which takes precedence.
    """
    shared = [(len(test.images.intersection(images)), test) for test in earlier if test.images is not None]
    looks = recorded or Looks(
        candidate=1 + math.ceil(sum(n * test.candidates for n, test in shared) / len(images)),
        promoted=math.ceil(sum(n * test.promoted for n, test in shared) / len(images)),
        uncounted=sum(test.candidates for test in earlier if test.images is None),
    )
    return looks.model_copy(update={"allowed": reuse.candidates, "error_rate": error_rate(reuse, looks.candidate)})

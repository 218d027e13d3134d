"""Unusual kinds of intact images: what becomes of each, and that docs/reference/images.md says the same."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.odd_images import KINDS, READ, write_tiff
from twofold.core.errors import DataError
from twofold.data.decoding import Limits, decode

LIMITS = Limits(max_bytes=1_000_000, max_pixels=1_000_000, min_side=4)
DOCS = Path(__file__).resolve().parents[3] / "docs" / "reference" / "images.md"


@pytest.mark.parametrize("name", KINDS)
def test_what_becomes_of_each_kind(name):
    kind = KINDS[name]
    if kind.outcome not in READ:
        with pytest.raises(DataError, match=kind.outcome) as caught:
            decode(kind.make(), LIMITS)
        assert "damaged" not in str(caught.value) or name == "JPEG without its end"
        return
    pixels = decode(kind.make(), LIMITS).pixels
    expected = kind.pixels if kind.pixels.ndim == 3 else kind.pixels[:, :, None]
    assert pixels.shape == expected.shape
    np.testing.assert_allclose(pixels.astype(int), expected, atol=1)


@pytest.mark.parametrize("name", KINDS)
def test_the_documentation_has_a_row_for_each_kind(name):
    outcome = KINDS[name].outcome
    result = READ.get(outcome, f"refused: {outcome.replace('has no mode for', 'the decoder has no mode for it')}")
    assert f"| {name} | {result} |" in DOCS.read_text(encoding="utf-8")


@pytest.mark.parametrize("changes", [{"t257": ()}, {"t257": (0,)}, {"t256": ()}])
def test_a_tiff_without_the_entries_of_a_picture_is_damaged(changes):
    with pytest.raises(DataError, match="damaged or cut short"):
        decode(write_tiff(np.zeros((40, 48), np.uint16), 16, **changes), LIMITS)


def test_what_a_header_declares_is_quoted_in_short():
    data = write_tiff(np.zeros((40, 48), np.uint16), 16, t258=(10,) * 2000)
    with pytest.raises(DataError, match=r"bits a sample \(10, 10, ") as caught:
        decode(data, LIMITS)
    assert len(str(caught.value)) < 300

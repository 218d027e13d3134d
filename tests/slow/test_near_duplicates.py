"""Near duplicates among 2,624 very similar photographs: solar cells under one camera."""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from bench.studies.near_duplicate_recall import CHANGES, COUNT, make_thumbnails
from twofold.audit.near_duplicates import find_near_duplicates
from twofold.data.process_pool import worker_count

pytestmark = pytest.mark.slow
CUT = [name for name in CHANGES if "cut off each side" in name]  # not found, as docs/guides/audit.md states


@pytest.fixture(scope="module")
def cells():
    chunks = [range(start, min(start + 64, COUNT)) for start in range(0, COUNT, 64)]
    with ProcessPoolExecutor(worker_count()) as executor:
        thumbnails = executor.map(make_thumbnails, ["solar cells"] * len(chunks), chunks)
        return np.stack([each for chunk in thumbnails for each in chunk])


def test_few_solar_cells_are_reported_as_near_duplicates(cells):
    assert len({place for pair in find_near_duplicates(cells) for place in pair[:2]}) <= COUNT // 100


def test_95_percent_of_changed_copies_are_found_and_no_other_pairs(cells):
    changes = [name for name in CHANGES if name not in CUT]
    before = {pair[:2] for pair in find_near_duplicates(cells)}
    chosen = range(0, COUNT, 13)  # 202 images; each change is applied to eight or nine of them
    copies = [
        make_thumbnails("solar cells", range(n, n + 1), changes[place % len(changes)])[0]
        for place, n in enumerate(chosen)
    ]
    found = {pair[:2] for pair in find_near_duplicates(np.concatenate([cells, np.stack(copies)]))} - before
    planted = {(number, COUNT + place) for place, number in enumerate(chosen)}
    assert len(found & planted) >= 0.95 * len(planted)
    with_duplicates = {place for pair in before for place in pair}
    assert not {pair for pair in found - planted if pair[0] not in with_duplicates}

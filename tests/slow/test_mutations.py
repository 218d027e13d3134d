"""Thousands of randomly changed image files: each is decoded within the limits, twice with the same result, or refused.

`make test-slow` tests 500 of them; `make soak` sets TWOFOLD_SOAK to the full count.
"""

import os
import re
from collections import Counter

import pytest

from tests.slow.test_hostile_images import GIB, NOISE
from tests.support.mutations import mutation
from tests.support.tools.confined import confined, limits_of_params

pytestmark = pytest.mark.slow
COUNT = int(os.environ.get("TWOFOLD_SOAK", "500"))
BATCH = 500


@pytest.mark.parametrize("start", range(0, COUNT, BATCH))
def test_every_mutation_is_decoded_or_refused(start, tmp_path):
    limits = limits_of_params()
    for seed in range(start, min(COUNT, start + BATCH)):
        (tmp_path / f"{seed:06d}").write_bytes(mutation(seed))
    first, second = confined(tmp_path, limits, 20.0), confined(tmp_path, limits, 20.0)
    failures = {
        name: cost
        for name, cost in first.items()
        if not cost.found.startswith(("decoded: ", "refused: "))
        or cost.found != second[name].found
        or cost.peak >= GIB
        or not all(NOISE.fullmatch(line) for line in cost.stderr.splitlines())
        or re.search(r"0x[0-9a-f]{6}", cost.found)
    }
    assert failures == {}
    results = Counter(cost.found.partition(":")[0] for cost in first.values())
    slowest, largest = max(cost.seconds for cost in first.values()), max(cost.peak for cost in first.values())
    print(f"{len(first)} mutations: {dict(results)}, at most {slowest:.1f} s and {largest / 2**20:.0f} MiB each")
    # If nearly all were refused before decoding, the decoders would not be tested.
    assert min(results["decoded"], results["refused"]) > len(first) // 10

"""The best former champion of each metric and slice, which guards against slow decline over many small losses.

Each version has the tag `twofold.best`, {metric: version}: the former champion that the version was not proven to be
better than when it was judged, on the same test images. Without an entry the version itself is the best. Entries are
made for every metric, whatever the gates, so that a gate can be removed and put back; and also on every slice with
enough images, as `recall|type=mono`, or `*|type=mono` for every metric. What is too long for one tag continues in
`twofold.best.1` and so on. To reset, set `register.reference_since` to the first version that counts.
"""

import json
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, urlencode

import numpy as np

from twofold.core.errors import RegistryError
from twofold.evaluation.predictions import Predictions
from twofold.metrics.classification import METRICS, classification_metrics
from twofold.promotion.gate_evaluation import asks
from twofold.promotion.gate_slices import MetricKey, test_subsets
from twofold.promotion.gates import LESS_IS_BETTER, Gate
from twofold.promotion.paired_comparison import PairedComparison
from twofold.promotion.test_reuse import ERROR_RATE
from twofold.tracking.registry_client import LONGEST_TAG

BEST = "twofold.best"  # tag of a version
_EVERY = "*"


def best_champions_before(
    tags: Mapping[str, str], gates: Sequence[Gate], since: int, test: Predictions
) -> dict[MetricKey, str]:
    """Return the former champions that a candidate is compared with besides the champion.

    Args:
        tags: of the champion; a champion from before there was `twofold.best` has no such tag.
        gates: of params.yaml.
        since: the first version that counts.
        test: of the candidate; only slices with enough images are compared.

    Raises:
        RegistryError: a tag cannot be read.
    """
    return {
        key: version
        for key, version in _read_tags(tags, since).items()
        if any(asks(gate, key) for gate in gates) and any(subset.judged for subset in test_subsets(key.slice, test)[0])
    }


def inherited_best(
    tags: Mapping[str, str],
    since: int,
    champion: PairedComparison | None,
    best: Mapping[MetricKey, PairedComparison],
    metrics: Sequence[str] = METRICS,
) -> dict[MetricKey, str]:
    """Return the candidate's own entries: the former champions that it is not proven to be better than.

    The champion's entry is inherited unless the one-sided 95 % lower bound of the candidate's gain over that version is
    above 0: a higher estimate is often luck. Then the champion is the entry, unless it is beaten too. An entry is kept
    if its version was not scored or its slice has too few images now.

    Args:
        tags, since: see `best_champions_before`.
        champion: the candidate compared with the champion; None if there is none.
        best: the candidate compared with the best former champions.
        metrics: for which entries are made; others are kept as they are.
    """
    if champion is None:
        return {}
    inherited = _read_tags(tags, since)
    scored = {comparison.version: comparison for comparison in (*best.values(), champion)}
    subsets = [each for column in (None, *champion.test.slices) for each in test_subsets(column, champion.test)[0]]
    for key in (subset.key(metric) for subset in subsets if subset.judged for metric in metrics):
        for version in dict.fromkeys((inherited.pop(key, champion.version), champion.version)):
            if version not in scored or not _proven_better(scored[version], key):
                inherited[key] = version
                break
    return inherited


def as_tags(best: Mapping[MetricKey, str], present: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a version, each short enough for MLflow.

    Args:
        present: the version's tags until now; those that are no longer needed become empty.
    """
    entries: dict[str, str] = {}
    for key, version in best.items():
        same = key.column is not None and all(best.get(key._replace(metric=each)) == version for each in METRICS)
        entries[_text(key._replace(metric=_EVERY) if same else key)] = version
    items = sorted(entries.items())
    longest = max((len(json.dumps(dict([item]))) for item in items), default=LONGEST_TAG)
    count = max(LONGEST_TAG // longest, 1)
    texts = [json.dumps(dict(items[start : start + count])) for start in range(0, max(len(items), 1), count)]
    unused = {name: "{}" for name in present if name.startswith(f"{BEST}.")}
    return unused | {f"{BEST}.{number}" if number else BEST: text for number, text in enumerate(texts)}


def _proven_better(comparison: PairedComparison, key: MetricKey) -> bool:
    sign = -1 if key.metric in LESS_IS_BETTER else 1
    for rows in (subset.rows for subset in test_subsets(key.slice, comparison.test)[0] if len(subset.rows)):
        target = comparison.test.target[rows]
        own, other = (
            classification_metrics(target, np.asarray(model.probability)[rows], model.threshold).get(key.metric)
            for model in (comparison.one, comparison.other)
        )
        # An interval takes longer than the estimates, which are therefore asked first.
        if own is not None and other is not None and sign * own > sign * other:
            found = comparison.difference(key.metric, 1 - 2 * ERROR_RATE, rows)
            return found is not None and min(sign * found.low, sign * found.high) > 0
    return False


def _text(key: MetricKey) -> str:
    return f"{key.metric}|{urlencode(key.slice)}" if key.slice else key.metric


def _read_tags(tags: Mapping[str, str], since: int) -> dict[MetricKey, str]:
    found: dict[MetricKey, str] = {}
    for name in sorted(name for name in tags if name == BEST or name.startswith(f"{BEST}.")):
        try:
            for text, version in json.loads(tags[name]).items():
                metric, cut, rest = text.partition("|")
                slice_ = parse_qsl(rest, keep_blank_values=True)[0] if cut else ()
                metrics = METRICS if metric == _EVERY else (metric,)
                found |= {MetricKey(each, *slice_): str(int(version)) for each in metrics if int(version) >= since}
        except (ValueError, AttributeError, TypeError, IndexError, OverflowError, RecursionError):
            raise RegistryError(
                f"the champion's tag {name} is {tags[name]!r}, not {{metric: version}}; correct it in MLflow, or reset "
                "it to {}, and run register again"
            ) from None
    return found

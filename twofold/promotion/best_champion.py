"""The best former champion of each metric, which guards against slow decline over many small losses.

Each version has the tag `twofold.best`: {metric: version} of the former champions that were better than it when it was
judged, on the same test images; in a metric without an entry the version itself is the best. This file reads the
champion's tag and computes that of the candidate. To reset, set `register.reference_since` to the first version that
counts.
"""

import json
from collections.abc import Mapping, Sequence

from twofold.core.errors import RegistryError
from twofold.promotion.gates import LESS_IS_BETTER, Gate, NonInferior
from twofold.promotion.paired_comparison import PairedComparison

BEST = "twofold.best"  # tag of a version


def best_champions_before(tag: str | None, gates: Sequence[Gate], since: int) -> dict[str, str]:
    """Return, by metric of a non-inferiority gate, the former champion that is better than the champion, if any.

    Args:
        tag: `twofold.best` of the champion; None for a champion from before there was such a tag.
        gates: of params.yaml.
        since: the first version that counts.

    Raises:
        RegistryError: the tag cannot be read.
    """
    metrics = _gated_metrics(gates)
    return {metric: version for metric, version in _parse_tag(tag, since).items() if metric in metrics}


def inherited_best(
    tag: str | None,
    gates: Sequence[Gate],
    since: int,
    champion: PairedComparison | None,
    best: Mapping[str, PairedComparison],
) -> dict[str, str]:
    """Return the candidate's own tag: by metric, the former champion that is better than the candidate too.

    Metrics without a gate keep their entry, so that removing a gate for a week loses nothing.

    Args:
        tag, gates, since: see `best_champions_before`.
        champion: the candidate compared with the champion; None if there is none.
        best: by metric, the candidate compared with the best former champion.
    """
    if champion is None:
        return {}
    inherited = _parse_tag(tag, since)
    for metric in _gated_metrics(gates):
        comparison = best.get(metric, champion)
        own, other = comparison.own.get(metric), comparison.metrics.get(metric)
        if own is not None and other is not None and (own <= other if metric in LESS_IS_BETTER else own >= other):
            inherited.pop(metric, None)
        else:
            inherited[metric] = comparison.version
    return inherited


def as_tag(values: Mapping[str, str]) -> str:
    """Return the text of the tag."""
    return json.dumps(dict(values), sort_keys=True)


def _gated_metrics(gates: Sequence[Gate]) -> list[str]:
    return sorted({gate.figure for gate in gates if isinstance(gate, NonInferior)})


def _parse_tag(tag: str | None, since: int) -> dict[str, str]:
    try:
        versions = {str(metric): int(version) for metric, version in json.loads(tag or "{}").items()}
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        raise RegistryError(
            f"the champion's tag {BEST} is {tag!r}, not {{metric: version}}; correct it in MLflow, or reset it to "
            "{}, and run register again"
        ) from None
    return {metric: str(version) for metric, version in versions.items() if version >= since}

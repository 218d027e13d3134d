"""The best champion before: what a candidate must not fall behind, so that small steps down do not add up.

In: the champion's version, the gates and the version since which champions count. Out: by figure, the older version
that is still better than the champion; and, for the version that a candidate becomes, the same handed on.

Each version carries the tag `twofold.best`: {figure: version} of the champions before it that were better than it when
it was judged, both on the same test images. What is not in it, the version itself is best in. A reset is an explicit
act: `register.reference_since` set to the version from which on champions count.
"""

import json
from collections.abc import Mapping, Sequence

from twofold.core.errors import RegistryError
from twofold.promotion.gates import LESS_IS_BETTER, Gate, NonInferior
from twofold.promotion.paired_comparison import PairedComparison

BEST = "twofold.best"  # tag of a version


def best_champions_before(tag: str | None, gates: Sequence[Gate], since: int) -> dict[str, str]:
    """By figure of a gate against the champion, the version before it that is better; none where it is the best.

    Args:
        tag: `twofold.best` of the champion; None where it has none, being from before there was such a tag.
        gates: of params.yaml.
        since: the first version that counts.

    Raises:
        RegistryError: the tag cannot be read.
    """
    asked = {gate.figure for gate in gates if isinstance(gate, NonInferior)}
    return {figure: version for figure, version in _read(tag, since).items() if figure in asked}


def inherited_best(
    tag: str | None,
    gates: Sequence[Gate],
    since: int,
    champion: PairedComparison | None,
    best: Mapping[str, PairedComparison],
) -> dict[str, str]:
    """What the candidate's own tag is to say: by figure, the champion before that is better than the candidate too.

    A figure that no gate asks for is handed on as it is, so that a gate which is taken out for a week forgets nothing.

    Args:
        tag: of the champion, as the gates and `since`.
        gates: of params.yaml.
        since: the first version that counts.
        champion: the candidate beside it; None if there is none.
        best: by figure, the candidate beside the best champion before.
    """
    if champion is None:
        return {}
    handed = _read(tag, since)
    for figure in sorted({gate.figure for gate in gates if isinstance(gate, NonInferior)}):
        beside = best.get(figure, champion)
        own, other = beside.own.get(figure), beside.figures.get(figure)
        if own is not None and other is not None and (own <= other if figure in LESS_IS_BETTER else own >= other):
            handed.pop(figure, None)
        else:
            handed[figure] = beside.version
    return handed


def as_tag(values: Mapping[str, str]) -> str:
    """The text of the tag."""
    return json.dumps(dict(values), sort_keys=True)


def _read(tag: str | None, since: int) -> dict[str, str]:
    try:
        found = json.loads(tag or "{}")
        versions = {str(figure): int(version) for figure, version in found.items()}
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        raise RegistryError(
            f"the champion's tag {BEST} is {tag!r}, which is no {{figure: version}}: set it right in MLflow, or to "
            "{} to begin anew, then run register again"
        ) from None
    return {figure: str(version) for figure, version in versions.items() if version >= since}

"""What was judged and what followed: the facts behind registration.json, the decision page and the model card.

Reads a candidate, its verdict, the champion, provenance and the outcome in the registry; returns one object, and the
content of `reports/registration.json`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twofold.audit.summary import group_by_outcome
from twofold.promotion.candidate import Candidate
from twofold.promotion.gate_slices import MetricKey
from twofold.promotion.paired_comparison import PairedComparison
from twofold.promotion.test_reuse import FRESH_IMAGES, SPENT, Looks
from twofold.promotion.verdict import Verdict
from twofold.tracking.registry_client import CHALLENGER, CHAMPION, REJECTED

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Judgement:
    """A candidate and its verdict.

    Attributes:
        name: of the registered model.
        champion: the candidate compared with the champion; None if there was none.
        provenance: see `twofold.registry.provenance`.
        dvc_experiment: name of a DVC experiment, which is judged but not registered; None if it is not one.
        best: by metric and slice, the candidate compared with the best former champion, if that is not the champion.
        inherited_best: by metric and slice, the former champion that stays the best if the candidate is promoted.
        vanished: test images of these champions that the candidate's test lacks, by SHA-256, and where they are now.
        measured: metrics that register measured itself.
        looks: the use of the test images up to the candidate.
    """

    name: str
    candidate: Candidate
    verdict: Verdict
    champion: PairedComparison | None
    provenance: Mapping[str, str]
    dvc_experiment: str | None
    best: Mapping[MetricKey, PairedComparison] = field(default_factory=dict)
    inherited_best: Mapping[MetricKey, str] = field(default_factory=dict)
    vanished: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)
    looks: Looks = field(default_factory=Looks)

    @property
    def comparisons(self) -> dict[str, PairedComparison]:
        """The candidate compared with the champion and the best former champions that could be scored, by version."""
        found = [each for each in (self.champion, *self.best.values()) if each is not None and not each.problem]
        return {comparison.version: comparison for comparison in found}


@dataclass(frozen=True)
class Outcome:
    """What followed in the registry.

    Attributes:
        version: of the candidate; None if it was not registered.
        alias: that the version was given, now or before: champion, challenger or None; or `rejected`.
        nothing_new: the version and its promotion existed before.
        champion: the current champion's version.
    """

    version: int | None
    alias: str | None
    nothing_new: bool
    champion: int | None

    @property
    def promoted(self) -> bool:
        """Whether the candidate was made the champion and still is."""
        return self.alias == CHAMPION and self.version == self.champion


def reasons(judgement: Judgement, outcome: Outcome) -> list[str]:
    """Return why the candidate is not the champion and what else to know, one sentence each."""
    found, version = list(judgement.verdict.reasons), outcome.version
    if found and judgement.champion is not None and not judgement.looks.error_rate:
        found.append(f"{SPENT}: {judgement.looks.words}; {FRESH_IMAGES}")
    if judgement.dvc_experiment:
        found.append(f"'{judgement.dvc_experiment}' is a DVC experiment: it is recorded, and no alias moves")
    if outcome.nothing_new and outcome.alias == CHAMPION and not outcome.promoted:
        now = "there is none now" if outcome.champion is None else f"the champion is now version {outcome.champion}"
        found.append(
            f"version {version} was champion before and {now}; register does not restore a former champion, a person "
            f"can: twofold models rollback {version} --reason WHY"
        )
    elif outcome.alias == REJECTED:
        found.append(
            f"version {version} was rejected, and register does not undo that; a person can: twofold models approve "
            f"{version} --reason WHY"
        )
    elif outcome.alias == CHALLENGER and not outcome.promoted:
        found.append(
            f"version {version} waits as 'challenger' (register.promotion: review); a person promotes it: "
            f"twofold models approve {version} --reason WHY"
        )
    return found


def headline(judgement: Judgement, outcome: Outcome) -> str:
    """Return the verdict in a few words."""
    if judgement.dvc_experiment:
        return "An experiment: judged and recorded, nothing registered"
    if outcome.nothing_new:
        return f"Nothing new since version {outcome.version}"
    if outcome.promoted:
        return f"Promoted: version {outcome.version} is the champion"
    if judgement.verdict.passed:
        return f"Passed: version {outcome.version} waits for review"
    return "Refused"


def as_json(judgement: Judgement, outcome: Outcome) -> dict[str, Any]:
    """Return the content of registration.json, without the places where it is recorded."""
    candidate, champion = judgement.candidate, judgement.champion
    return {
        "schema_version": SCHEMA_VERSION,
        "name": judgement.name,
        "headline": headline(judgement, outcome),
        "passed": judgement.verdict.passed,
        "registered": outcome.version is not None,
        "promoted": outcome.promoted,
        "nothing_new": outcome.nothing_new,
        "version": outcome.version,
        "alias": outcome.alias,
        "champion": outcome.champion,
        "judged_against": None if champion is None else int(champion.version),
        "champion_figures": {} if champion is None else dict(champion.metrics),
        "reasons": reasons(judgement, outcome),
        "gates": judgement.verdict.as_json(),
        "comparison": None if champion is None else champion.as_json(),
        "best_before": {str(key): comparison.as_json() for key, comparison in judgement.best.items()},
        "vanished_test_images": len(judgement.vanished),
        "measured": dict(judgement.measured),
        "test_reuse": judgement.looks.model_dump() | {"words": judgement.looks.words},
        "dvc_experiment": judgement.dvc_experiment,
        "candidate": {
            "key": candidate.key,
            "model": candidate.digests["finetune_all"],
            "decision": candidate.digests["decision"],
            "test_fingerprint": candidate.test_fingerprint,
            "data_fingerprint": candidate.decision["fingerprint"],
        },
        "audits": [
            {"step": audit.step, "check": audit.check, "policy": audit.policy, "found": audit.found}
            for audit in candidate.audits
        ],
        "raised": group_by_outcome(candidate.audits).found,
    }


def digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 that identifies a complete record of a verdict, whether or not it is new."""
    kept = {key: value for key, value in values.items() if key not in ("nothing_new", "headline", "reasons")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

"""What was judged and what followed from it: the facts of which verdict, decision page and model card are made.

In: a candidate, its verdict, the champion it was held against, provenance, and what happened in the registry. Out:
one object, and its form as `reports/registration.json`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twofold.promotion.candidate import Candidate
from twofold.promotion.paired_comparison import PairedComparison
from twofold.promotion.verdict import Verdict
from twofold.tracking.registry_client import CHALLENGER, CHAMPION, REJECTED

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Judgement:
    """A candidate's verdict.

    Attributes:
        name: of the registered model.
        champion: the candidate beside the champion that it was held against; None if there was none.
        provenance: see `twofold.registry.provenance`.
        dvc_experiment: its name, if this is one: it is judged, and nothing is registered.
        best: by figure, the candidate beside the best champion before, where that is not the champion.
        heirs: by figure, the champion before that stays the best one if the candidate is promoted; see `reference`.
        vanished: test images of these champions that the candidate's test lacks, by SHA-256, and where they are now.
        measured: figures that register found out itself.
    """

    name: str
    candidate: Candidate
    verdict: Verdict
    champion: PairedComparison | None
    provenance: Mapping[str, str]
    dvc_experiment: str | None
    best: Mapping[str, PairedComparison] = field(default_factory=dict)
    inherited_best: Mapping[str, str] = field(default_factory=dict)
    vanished: Mapping[str, str] = field(default_factory=dict)
    measured: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What followed in the registry.

    Attributes:
        version: that holds the candidate, None if none does.
        alias: that it was given, now or before: champion, challenger or None; or `rejected`.
        nothing_new: the version and its promotion were there before.
        champion: the version that is champion now.
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
    """Why the candidate is not the champion, and what else is to be known, a sentence each."""
    found = list(judgement.verdict.reasons)
    if judgement.dvc_experiment:
        found.append(f"'{judgement.dvc_experiment}' is a DVC experiment: it is recorded, and no alias moves")
    if outcome.nothing_new and outcome.alias == CHAMPION and not outcome.promoted:
        now = "there is none now" if outcome.champion is None else f"the champion is now version {outcome.champion}"
        found.append(
            f"version {outcome.version} was champion before and {now}; register does not bring a model back, a person "
            f"may: twofold models rollback {outcome.version} --reason WHY"
        )
    elif outcome.alias == REJECTED:
        found.append(
            f"version {outcome.version} was rejected, and register does not undo that; a person may: twofold models "
            f"approve {outcome.version} --reason WHY"
        )
    elif outcome.alias == CHALLENGER and not outcome.promoted:
        found.append(
            f"version {outcome.version} waits as 'challenger' (register.promotion: review); a person promotes it: "
            f"twofold models approve {outcome.version} --reason WHY"
        )
    return found


def headline(judgement: Judgement, outcome: Outcome) -> str:
    """The verdict in a few words."""
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
    """The content of registration.json, without where it is recorded."""
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
        "champion_figures": {} if champion is None else dict(champion.figures),
        "reasons": reasons(judgement, outcome),
        "gates": judgement.verdict.as_json(),
        "comparison": None if champion is None else champion.as_json(),
        "best_before": {figure: beside.as_json() for figure, beside in judgement.best.items()},
        "vanished_test_images": len(judgement.vanished),
        "measured": dict(judgement.measured),
        "dvc_experiment": judgement.dvc_experiment,
        "candidate": {
            "key": candidate.key,
            "model": candidate.digests["finetune_all"],
            "decision": candidate.digests["decision"],
            "test_fingerprint": candidate.test_fingerprint,
            "data_fingerprint": candidate.decision["fingerprint"],
        },
        "audits": [
            {"step": one.step, "check": one.check, "policy": one.policy, "found": one.found} for one in candidate.audits
        ],
    }


def digest(values: Mapping[str, Any]) -> str:
    """SHA-256 of what a verdict says, by which a complete record of it is known; whether it is new does not count."""
    kept = {key: value for key, value in values.items() if key not in ("nothing_new", "headline", "reasons")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

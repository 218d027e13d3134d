"""Notifies a team about a pipeline run: a webhook message if it failed or its model was refused, else a log line.

`tag_run_outcome` stores the verdict of register in MLflow under the pipeline run's id. `notify` reads it back when the
run has ended, and sends one POST of `{"text": ...}`, which Slack, Mattermost and Teams workflows accept. The webhook's
address is a secret in TWOFOLD_WEBHOOK. KF_PIPELINES_UI_ENDPOINT (the Kubeflow UI for browsers) adds a link.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema

from twofold.core.artifacts import read_json
from twofold.core.errors import RegistryError, TwofoldError, exit_with_message
from twofold.core.progress import say
from twofold.core.redaction import redact
from twofold.orchestration.kept_audit import find_audit
from twofold.orchestration.run_ending import describe_ending
from twofold.orchestration.task import retry_transient

TAG = "twofold.pipeline_run"  # followed by the pipeline run's id; its value is the verdict as JSON
SUCCESS = ("SUCCEEDED", "COMPLETE")  # COMPLETE: servers that use ML Metadata, as those of KFP 2.16 do
LONGEST = 5000  # bytes of the tag; MLflow's tables keep 8,000 characters of a run's
FIELDS = ("headline", "refused", "model", "reasons", "open")
TIMEOUT = 30  # seconds for the webhook to answer


@exit_with_message("twofold register")
def tag_run_outcome(verdict: str, run: str) -> None:
    """Tag the candidate's MLflow run with the outcome of this pipeline run.

    Several pipeline runs may share one MLflow run: judging the same model again opens no new one.

    Args:
        verdict: path of register's JSON file.
        run: id of the pipeline run.
    """
    from twofold.tracking import store as tracking

    found = read_json(Path(verdict))
    value = {
        "headline": found["headline"],
        "refused": not found["passed"] and not found["nothing_new"] and not found["dvc_experiment"],
        "model": found["name"],
        "open": found["open"],
    }
    reasons = "\n".join(found["reasons"])
    for length in range(LONGEST, 0, -10):
        value["reasons"] = reasons[:length] + " …" * (length < len(reasons))
        text = json.dumps(value, sort_keys=True, ensure_ascii=False)
        if len(text.encode()) <= LONGEST:
            break
    store = tracking.connect()

    def tag() -> None:
        with tracking.readable_errors(store.uri):
            store.client.set_tag(found["run_id"], f"{TAG}.{run}", text)

    retry_transient("register", tag)


@exit_with_message("twofold notify")
def notify(*, state: str, message: str, register: Mapping[str, Any], run: str) -> None:
    """Report how a pipeline run ended: to the webhook if it failed or its model was refused, otherwise to the log.

    Args:
        state: of the run, as Kubeflow names it; a run whose model was refused has SUCCEEDED too.
        message: Kubeflow's error message, if there is one.
        register: section of the parameters; names the MLflow experiment.
        run: id of the pipeline run.
    """
    if state not in SUCCESS:
        ui = os.environ.get("KF_PIPELINES_UI_ENDPOINT", "").rstrip("/")
        text = f"Twofold: pipeline run {run} {describe_ending(run, state, message)}."
        text += f" Audit page: {page}" if (page := find_audit(run)) else ""
        _post(text + (f" {ui}/#/runs/details/{run}" if ui else ""))
        return
    # By default MLflow retries for longer than this task may run.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    try:
        outcome = _read_outcome(str(register["experiment"]), run)
    except RegistryError as error:
        _post(f"Twofold: pipeline run {run} succeeded, but its verdict cannot be read: {error}")
        raise
    text = f"{outcome['model']}: {outcome['headline']} (pipeline run {run}). {outcome['open']}"
    if outcome["refused"]:
        _post(f"Twofold: {text}\n{outcome['reasons']}")
    else:
        say(f"notify: {text}; nothing to send")


def _read_outcome(experiment: str, run: str) -> dict[str, Any]:
    from twofold.tracking import store as tracking
    from twofold.tracking.live_run import joined_run

    store = tracking.connect()
    key = f"{TAG}.{run}"
    with tracking.readable_errors(store.uri):
        places = {os.environ.get("MLFLOW_EXPERIMENT_ID")}
        if joined := joined_run(store):
            places.add(joined.info.experiment_id)
        if named := store.client.get_experiment_by_name(experiment):
            places.add(named.experiment_id)
        known = sorted(str(place) for place in places if place)
        found = store.client.search_runs(known, f"tags.`{key}` LIKE '%'") if known else []
    if found:
        try:
            outcome = json.loads(found[0].data.tags[key])
            return {field: outcome[field] for field in FIELDS}
        except (ValueError, TypeError, KeyError) as error:
            message = f"the tag {key} of run {found[0].info.run_id} in MLflow holds no verdict ({error!r})"
            raise RegistryError(f"{message}; run register again") from None
    raise RegistryError(
        f"pipeline run {run} succeeded, but MLflow at {store.uri} holds no verdict of it "
        f"in the experiment '{experiment}'; check that register ran in it"
    )


def _post(text: str) -> None:
    """Send a message. The address stays out of logs and errors: anyone who has it can write to the channel."""
    say(f"notify: {text}")
    address = os.environ.get("TWOFOLD_WEBHOOK", "").strip()
    if not address:
        say("notify: TWOFOLD_WEBHOOK is not set, so no message was sent")
        return
    try:
        # Following a redirect would turn the POST into a GET.
        response = requests.post(address, json={"text": redact(text)}, timeout=TIMEOUT, allow_redirects=False)
    except (InvalidSchema, InvalidURL, MissingSchema):
        raise TwofoldError("TWOFOLD_WEBHOOK holds no http or https address (it is a secret and not shown)") from None
    except (OSError, ValueError) as error:
        raise TwofoldError(f"the webhook cannot be reached ({type(error).__name__}); no message was sent") from None
    if response.status_code // 100 != 2:
        raise TwofoldError(f"the webhook answered {response.status_code}; no message was sent")
    say(f"notify: sent ({response.status_code})")

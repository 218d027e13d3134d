"""What a team hears of a pipeline's run: a message when it failed or when its model was refused, else a line in a log.

In: the verdict of register; the run's id and how it ended; TWOFOLD_WEBHOOK, an address that is a secret. Out: a tag
in MLflow by which the verdict of a run is found again; one POST of `{"text": ...}`, which Slack, Mattermost and
Teams' workflows take.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twofold.core.artifacts import read_json
from twofold.core.errors import RegistryError, TwofoldError
from twofold.core.progress import say
from twofold.orchestration.task import exit_with_message
from twofold.tracking.urls import NoRedirects

TAG = "twofold.pipeline_run"  # and the run's id: what that run's register came to, as JSON
# Servers that keep their records in ML Metadata, as those of KFP 2.16 do, call it COMPLETE.
SUCCESS = ("SUCCEEDED", "COMPLETE")
LONGEST = 4000  # characters of a verdict that are kept; every store of MLflow takes them
PATIENCE = 30  # seconds for the webhook to answer


def tag_run_outcome(verdict: str, run: str) -> None:
    """Tag the candidate's run in MLflow with what this run of the pipeline has come to.

    One judgement may be that of many runs: the same model judged again opens no new run in MLflow.

    Args:
        verdict: register's JSON file.
        run: the id of the pipeline's run.
    """
    from twofold.tracking import store as tracking

    with exit_with_message("register"):
        found = read_json(Path(verdict))
        value = {
            "headline": found["headline"],
            "refused": not found["passed"] and not found["nothing_new"] and not found["dvc_experiment"],
            "model": found["name"],
            "reasons": "\n".join(found["reasons"])[:LONGEST],
            "open": found["open"],
        }
        store = tracking.connect()
        with tracking.readable_errors(store.uri):
            store.client.set_tag(found["run_id"], f"{TAG}.{run}", json.dumps(value, sort_keys=True))


def notify(*, state: str, message: str, register: Mapping[str, Any], run: str) -> None:
    """Say how a run ended: to the webhook if it failed or its model was refused, else only in this log.

    Args:
        state: of the run, as Kubeflow names it; SUCCEEDED also where the model was refused.
        message: of the error, if Kubeflow gives one.
        register: the section of parameters, for MLflow's experiment.
        run: the id of the pipeline's run.
    """
    with exit_with_message("notify"):
        if state not in SUCCESS:
            _post(f"Twofold: pipeline run {run} ended as {state or 'unknown'}. {message}".strip())
            return
        # MLflow's own patience is longer than this task is given.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        try:
            found = _recall(str(register["experiment"]), run)
        except RegistryError as error:
            _post(f"Twofold: pipeline run {run} ended well, but its verdict cannot be read: {error}")
            raise
        text = f"{found['model']}: {found['headline']} (pipeline run {run}). {found['open']}"
        if found["refused"]:
            _post(f"Twofold: {text}\n{found['reasons']}")
        else:
            say(f"notify: {text}; nothing to send")


def _recall(experiment: str, run: str) -> dict[str, Any]:
    """What register has remembered for this run.

    Raises:
        RegistryError: nothing, although the run succeeded.
    """
    from twofold.tracking import store as tracking

    store = tracking.connect()
    key = f"{TAG}.{run}"
    with tracking.readable_errors(store.uri):
        joined = os.environ.get("MLFLOW_RUN_ID")
        if joined:
            runs = [store.client.get_run(joined)]
        else:
            runs = store.client.search_runs([tracking.experiment(store, experiment)], f"tags.`{key}` LIKE '%'")
    for found in runs:
        if key in found.data.tags:
            return dict(json.loads(found.data.tags[key]))
    raise RegistryError(
        f"pipeline run {run} succeeded, and MLflow at {tracking.without_credentials(store.uri)} knows no verdict of it in the "
        f"experiment '{experiment}': was it register that ran?"
    )


def _post(text: str) -> None:
    """Send a message. The address never appears in a log or an error: who knows it can write to the channel."""
    say(f"notify: {text}")
    address = os.environ.get("TWOFOLD_WEBHOOK", "").strip()
    if not address:
        say("notify: TWOFOLD_WEBHOOK is not set, so nobody was told")
        return
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        known = False
    if not known:
        raise TwofoldError("TWOFOLD_WEBHOOK holds no http or https address (it is a secret and not shown)")
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.build_opener(NoRedirects()).open(request, timeout=PATIENCE) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        error.close()
        raise TwofoldError(f"the webhook answered {error.code}; nobody was told") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise TwofoldError(f"the webhook cannot be reached ({type(error).__name__}); nobody was told") from None
    say(f"notify: sent ({status})")

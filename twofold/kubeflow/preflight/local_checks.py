"""The checks of `doctor` that this machine can make: server, images, source, S3 and MLflow.

Takes a server, images, resources and parameters; returns findings with remedies. What cannot be seen from here is
reported as not checked, never as ok. No secret's value is read or shown.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twofold.core.errors import ParameterError, ServerError
from twofold.kubeflow.definition.images import Images, has_digest, parse_images
from twofold.kubeflow.definition.resources import Resources
from twofold.kubeflow.server.commits import compare
from twofold.kubeflow.server.connection import Connection, connect, open_client
from twofold.kubeflow.server.kfp_client import TooOldError
from twofold.kubeflow.server.recurring_runs import list_of_pipeline
from twofold.orchestration.params_file import STEPS, check_all
from twofold.orchestration.preflight import bucket_of
from twofold.orchestration.preflight_findings import Finding, failed, failure, not_checked, ok, warning
from twofold.orchestration.preflight_services import mlflow, mlflow_files, s3_buckets, test_reuse
from twofold.promotion.attainable_gates import find_in_prepared

USE_IN_CLUSTER = "use --in-cluster"


def server_finding(server: Connection) -> tuple[Finding, str]:
    """Check whether Kubeflow Pipelines answers, accepts the credentials and is new enough.

    Returns:
        The finding, and the namespace of the runs.
    """
    import kfp

    check = "Kubeflow Pipelines"
    # On a single-user server, runs are in the namespace of Kubeflow Pipelines itself.
    namespace = server.namespace or "kubeflow"
    try:
        client = open_client(server)
        outdated = client.check_version()
        if client.multi_user:
            if not client.namespace:
                return failure(check, "this is a multi-user server", "give your namespace with --namespace"), namespace
            namespace = client.namespace
        # The version is public; only a call that needs a login tells whether the credentials are accepted.
        client.list_experiments(page_size=1, namespace=client.get_user_namespace())
    except TooOldError as error:
        return failure(check, str(error), "update Kubeflow Pipelines (docs/guides/cluster.md, step 2)"), namespace
    except ServerError as error:
        return failure_of(check, error), namespace
    if outdated:
        return warning(check, outdated, "update the server, or use the SDK of its version"), namespace
    return ok(check, f"{client.version} at {server.host}, SDK {kfp.__version__}"), namespace


def schedule_findings(server: Connection) -> list[Finding]:
    """Compare the commit that each schedule of this pipeline was applied from with the checkout."""
    try:
        schedules = list_of_pipeline(connect(server))[0]
    except ServerError as error:
        return [not_checked("schedules", str(error), "see `twofold kfp schedule list`")]
    findings, remedy = [], "apply it again (it stays unchanged if the compiled pipeline is the same)"
    for each in schedules:
        commit, differs = compare(each.description)
        check, seen = f"schedule {each.display_name}", f"runs commit {commit}"
        report = warning if differs else not_checked
        findings.append(ok(check, seen) if differs is False else report(check, seen, remedy))
    return findings


def failure_of(check: str, error: ServerError) -> Finding:
    """A server's error as a finding: its first sentence is what was found, the rest is the remedy."""
    text, _, remedy = str(error).partition(". ")
    return failure(check, text, remedy or "see docs/guides/cluster.md")


def image_findings(words: Sequence[str]) -> tuple[Images | None, list[Finding]]:
    """The images, or None if a name is invalid; and findings about their names."""
    try:
        images = parse_images(words)
    except ParameterError as error:
        return None, [failure("images", str(error), "--image data=NAME@sha256:… --image train=NAME@sha256:…")]
    text = "{}: a tag, which can be moved to other content without Kubeflow's cache noticing"
    remedy = "name it by its digest, which `docker/push` prints"
    return images, [
        ok(f"image {target}", name) if has_digest(name) else warning(f"image {target}", text.format(name), remedy)
        for target, name in images._asdict().items()
    ]


def source_finding(address: str, resources: Resources) -> Finding:
    """Check whether the pods can reach the source's address; only they can tell whether it holds images."""
    check = "ingest.source"
    remedy = (
        "put the images on a volume that ingest mounts (resources.yaml) and name it, -p ingest.source=/data/…, or "
        "into a bucket (s3://bucket/prefix), or into DVC's remote (dvc+<git url>@<rev>:<path>)"
    )
    if address.startswith("dvc+"):
        if Path(address.removeprefix("dvc+").partition("@")[0]).exists():
            return failure(check, f"{address}: a repository on this machine, which no pod sees", "name it by its URL")
    elif bucket_of(address) is None:
        if not address.startswith("/"):
            return failure(check, f"{address}: a folder of this project, which no pod sees", remedy)
        mounted = [volume.path for volume in resources.volumes if "ingest" in volume.tasks]
        if not any(Path(address).is_relative_to(path) for path in mounted):
            text = f"{address}: not on a volume of ingest ({', '.join(mounted) or 'it has none'})"
            return failure(check, text, remedy)
    return not_checked(check, f"whether the pods find images at {address}", USE_IN_CLUSTER)


def gate_findings(root: Path, sections: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """Warn of gates that even a perfect model fails on the images prepared in this project, if there are any."""
    found = find_in_prepared(root / "data" / "prepared", check_all({step: sections[step] for step in STEPS}))
    return [warning("register.gates", f"{each.gate}: {each.seen}", each.remedy) for each in found]


def service_findings(bucket: str, sections: Mapping[str, Mapping[str, Any]], resources: Resources) -> list[Finding]:
    """Check S3 and MLflow if this machine's environment names them. The pods have their own environment."""
    findings: list[Finding] = []
    if "AWS_ACCESS_KEY_ID" in os.environ or "AWS_PROFILE" in os.environ:
        cache = resources.environment.get("TWOFOLD_CACHE", "")
        findings += s3_buckets(sections["ingest"]["source"], bucket, cache)
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        server = mlflow()
        findings += server
        if not failed(server):
            # An experiment created from here would belong to this user, not to that of the runs.
            findings.append(mlflow_files(sections["register"]["experiment"], create=False))
            findings += test_reuse(sections["register"]["experiment"])
    return [replace(finding, check=f"this machine: {finding.check}") for finding in findings]


def findings_left_to_pods(sections: Mapping[str, Mapping[str, Any]], resources: Resources) -> list[Finding]:
    """What only a pod can check."""
    head = sections["train_head"]
    checks = {
        "S3 from the pods": "whether it answers there, accepts the secret's keys and takes objects",
        "MLflow from the pods": "whether it answers there, in which version, and takes the secret's login and files",
        f"weights {head['backbone']} {head['weights']}": "whether they are in the image or can be downloaded there",
        "user and folders": "whether the pods can write where they must, and do not run as root",
    }
    if any(step.gpu for step in resources.steps.values()):
        checks["GPU in the pod"] = "whether torch sees it, and the node's driver is new enough"
    return [not_checked(check, why, USE_IN_CLUSTER) for check, why in checks.items()]

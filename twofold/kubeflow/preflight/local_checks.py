"""The checks of `doctor` that this machine can make: server, images, source, S3 and MLflow.

In: a server, images, resources, parameters. Out: a finding a check, with a remedy where one is needed. What cannot be
seen from here is said to be so, never called good. No secret's value is read or shown.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.core.errors import ParameterError, ServerError
from twofold.kubeflow.definition.images import Images, by_digest, images_named
from twofold.kubeflow.definition.resources import Resources
from twofold.kubeflow.server.connection import Connection, open_client
from twofold.kubeflow.server.kfp_client import TooOldError
from twofold.orchestration.preflight import bucket_of
from twofold.orchestration.preflight_findings import Finding, failure, not_checked, ok, warning
from twofold.orchestration.preflight_services import mlflow, s3

INSIDE = "use --in-cluster"


def server_finding(server: Connection) -> tuple[Finding, str]:
    """Whether Kubeflow Pipelines answers, lets us in, and is of a version that knows what it is sent.

    Returns:
        The finding, and the namespace in which the runs would be.
    """
    import kfp

    check = "Kubeflow Pipelines"
    # Where it has no users, the runs are where Kubeflow Pipelines itself is.
    namespace = server.namespace or "kubeflow"
    try:
        client = open_client(server)
        old = client.check_version()
        if client.multi_user and not client.get_user_namespace():
            remedy = "give your namespace with --namespace"
            return failure(check, "the server has many users", remedy), namespace
        if client.multi_user:
            namespace = client.get_user_namespace()
        # Only a call that needs a login says whether the credentials are taken: the version is told to everyone.
        client.list_experiments(page_size=1, namespace=client.get_user_namespace())
    except TooOldError as error:
        return failure(check, str(error), "update Kubeflow Pipelines (docs/cluster.md, step 2)"), namespace
    except ServerError as error:
        seen, _, remedy = str(error).partition(". ")
        return failure(check, seen, remedy or "see docs/cluster.md"), namespace
    if old:
        return warning(check, old, "update the server, or take the SDK of its version"), namespace
    return ok(check, f"{client.version} at {server.host}, SDK {kfp.__version__}"), namespace


def image_findings(words: Sequence[str]) -> tuple[Images | None, list[Finding]]:
    """The images, if their names say which ones are meant; and how well they say it."""
    try:
        images = images_named(words)
    except ParameterError as error:
        return None, [failure("images", str(error), "--image data=NAME@sha256:… --image train=NAME@sha256:…")]
    findings = []
    for target, name in zip(Images._fields, images, strict=True):
        if by_digest(name):
            findings.append(ok(f"image {target}", name))
        else:
            seen = f"{name}: a tag, which can be moved to other content without the cache noticing"
            remedy = "name it by its digest, which `make push` prints"
            findings.append(warning(f"image {target}", seen, remedy))
    return images, findings


def source_finding(address: str, resources: Resources | None) -> Finding:
    """Whether the pods can see the images at all; only they know whether there are any."""
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
            return failure(check, f"{address}: a folder beside this project, which no pod sees", remedy)
        mounted = [volume.path for volume in (resources.volumes if resources else []) if "ingest" in volume.tasks]
        if not any(Path(address).is_relative_to(path) for path in mounted):
            return failure(
                check, f"{address}: on none of ingest's volumes ({', '.join(mounted) or 'it has none'})", remedy
            )
    return not_checked(check, f"whether the pods find images at {address}", INSIDE)


def service_findings(bucket: str, sections: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """S3 and MLflow, where this machine's own environment names them. The pods have their own."""
    findings = []
    looked_at = bucket or bucket_of(sections["ingest"]["source"])
    if looked_at and ("AWS_ACCESS_KEY_ID" in os.environ or "AWS_PROFILE" in os.environ):
        findings.append(s3(looked_at))
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        findings += mlflow()
    here = "this machine: "
    return [Finding(here + each.check, each.level, each.seen, each.remedy) for each in findings]


def findings_left_to_pods(sections: Mapping[str, Mapping[str, Any]], resources: Resources | None) -> list[Finding]:
    """What only a pod sees."""
    head = sections["train_head"]
    wanted = {
        "S3 from the pods": "whether it answers there and takes the secret's keys",
        "MLflow from the pods": "whether it answers there, in what version, and takes the secret's credentials",
        f"weights {head['backbone']} {head['weights']}": "whether they are in the image or can be fetched there",
        "user and folders": "whether the pods can write where they must, and run as no root",
    }
    if resources and any(step.gpu for step in resources.steps.values()):
        wanted["GPU in the pod"] = "whether torch sees it, and the node's driver is new enough"
    return [not_checked(check, why, INSIDE) for check, why in wanted.items()]

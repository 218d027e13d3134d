"""`doctor`: what can be known of a run before it costs anything.

In: a Kubeflow server, a kubeconfig if there is one, `resources.yaml`, images, parameters. Out: a line a check, with a
remedy where one is needed; exit status 1 if any check failed. What cannot be seen from here is said to be so, never
called good; `--in-cluster` looks from inside. No secret's value is read or shown.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from twofold.cli.kfp import options as common
from twofold.core.errors import ParameterError, ServerError
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import Resources
from twofold.kubeflow.server.connection import add_connection_options, connect, open_client
from twofold.kubeflow.server.kfp_client import TooOldError
from twofold.orchestration.preflight import bucket_of
from twofold.orchestration.preflight_findings import Finding, failed, failure, lines, ok, unseen, warning
from twofold.orchestration.preflight_services import mlflow, s3

INSIDE = "use --in-cluster"
TOLD_BY_PODS = ("image pull", "ingest.source")  # by having run, and by a finding of their own


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `doctor` to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="check server, cluster, secrets and images before a run costs anything",
        description="Check server, cluster, secrets and images before a run costs anything. Exit status 1 if any "
        "check failed.",
    )
    add_connection_options(parser)
    group = parser.add_argument_group("the cluster")
    group.add_argument("--kubeconfig", type=Path, metavar="FILE", help="(where kubectl looks)")
    group.add_argument("--context", metavar="NAME", help="of the kubeconfig (its current one)")
    group.add_argument("--bucket", default="", metavar="NAME", help="an S3 bucket to look at (that of ingest.source)")
    group.add_argument(
        "--in-cluster", action="store_true", help="look from inside too: a run of two pods, a minute or so, one GPU"
    )
    group.add_argument(
        "--patience", type=float, default=900.0, metavar="SECONDS", help="after which that run is stopped (%(default)s)"
    )
    common.add_compile_options(parser)
    common.add_argument_options(parser)
    parser.set_defaults(func=doctor)


def doctor(options: argparse.Namespace) -> int:
    """Check everything, print the findings, and give the exit status."""
    from twofold.kubeflow.preflight.cluster_checks import Place, cluster_findings

    resources = None if options.cpu else common.resources_from(options)
    sections = common.params_from(options) | {
        name: value for name, value in common.overrides_from(options).items() if name != "force"
    }
    images, findings = image_findings(options)
    server, namespace = server_finding(options)
    place = Place(namespace, options.kubeconfig, options.context)
    findings = [server, *findings, *cluster_findings(place, resources, images)]
    findings += [source_finding(sections["ingest"]["source"], resources), *from_here(options, sections)]
    if options.in_cluster:
        found = inside(options, place, images, resources, sections, findings)
        if found[-1].level == "ok":
            # What only pods could tell, they have told.
            findings = [each for each in findings if each.check not in TOLD_BY_PODS or each.level == "failure"]
        findings += found
    else:
        findings += from_inside_only(sections, resources)
    print("\n".join(lines(findings)))
    return int(failed(findings))


def server_finding(options: argparse.Namespace) -> tuple[Finding, str]:
    """Whether Kubeflow Pipelines answers, lets us in, and is of a version that knows what it is sent.

    Returns:
        The finding, and the namespace in which the runs would be.
    """
    import kfp

    check = "Kubeflow Pipelines"
    # Where it has no users, the runs are where Kubeflow Pipelines itself is.
    namespace = options.namespace or "kubeflow"
    try:
        client = open_client(options)
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
    return ok(check, f"{client.version} at {options.host}, SDK {kfp.__version__}"), namespace


def image_findings(options: argparse.Namespace) -> tuple[Images | None, list[Finding]]:
    """The images, if their names say which ones are meant; and how well they say it."""
    try:
        images = common.images_named(options)
    except ParameterError as error:
        return None, [failure("images", str(error), "--image data=NAME@sha256:… --image train=NAME@sha256:…")]
    findings = []
    for target, name in zip(Images._fields, images, strict=True):
        if common.by_digest(name):
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
    return unseen(check, f"whether the pods find images at {address}", INSIDE)


def from_here(options: argparse.Namespace, sections: dict[str, dict[str, Any]]) -> list[Finding]:
    """S3 and MLflow, where this machine's own environment names them. The pods have their own."""
    findings = []
    bucket = options.bucket or bucket_of(sections["ingest"]["source"])
    if bucket and ("AWS_ACCESS_KEY_ID" in os.environ or "AWS_PROFILE" in os.environ):
        findings.append(s3(bucket))
    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        findings += mlflow()
    here = "this machine: "
    return [Finding(here + each.check, each.level, each.seen, each.remedy) for each in findings]


def from_inside_only(sections: dict[str, dict[str, Any]], resources: Resources | None) -> list[Finding]:
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
    return [unseen(check, why, INSIDE) for check, why in wanted.items()]


def inside(
    options: argparse.Namespace,
    place: Any,
    images: Images | None,
    resources: Resources | None,
    sections: dict[str, dict[str, Any]],
    before: list[Finding],
) -> list[Finding]:
    """The findings of a run in the cluster."""
    from twofold.kubeflow.preflight.in_cluster_run import Asked, in_cluster

    if images is None or before[0].level == "failure":
        return [unseen("run in the cluster", "not started: see the failures above", "mend those first")]
    head = sections["train_head"]
    asked = Asked(images, resources, sections["ingest"]["source"], options.bucket, head["backbone"], head["weights"])
    try:
        return in_cluster(connect(options), place, asked, options.patience)
    except ServerError as error:
        seen, _, remedy = str(error).partition(". ")
        return [failure("run in the cluster", seen, remedy or "see docs/cluster.md")]

"""`twofold-pipelines doctor`: what can be known of a run before it costs anything.

In: a Kubeflow server, a kubeconfig if there is one, `resources.yaml`, images, parameters. Out: a line a check, with a
remedy where one is needed; exit status 1 if any check failed. `--in-cluster` also checks from pods inside the cluster.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.cli.kfp import options as common
from twofold.core.errors import ServerError
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import Resources
from twofold.kubeflow.preflight.local_checks import (
    findings_left_to_pods,
    image_findings,
    server_finding,
    service_findings,
    source_finding,
)
from twofold.kubeflow.server.connection import connect
from twofold.orchestration.preflight_findings import Finding, failed, failure, lines, not_checked

if TYPE_CHECKING:
    from twofold.kubeflow.preflight.cluster_checks import ClusterLocation

    pass

TOLD_BY_PODS = ("image pull", "ingest.source")  # by having run, and by a finding of their own


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `doctor` to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="check server, cluster, secrets and images before a run costs anything",
        description="Check server, cluster, secrets and images before a run costs anything. Exit status 1 if any "
        "check failed.",
    )
    common.add_connection_options(parser)
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
    parser.set_defaults(func=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from twofold.kubeflow.preflight.cluster_checks import ClusterLocation, cluster_findings

    resources = None if options.cpu else common.resources_from(options)
    sections = common.params_from(options) | {
        name: value for name, value in common.overrides_from(options).items() if name != "force"
    }
    images, findings = image_findings(options.image)
    server, namespace = server_finding(common.connection_from(options))
    place = ClusterLocation(namespace, options.kubeconfig, options.context)
    findings = [server, *findings, *cluster_findings(place, resources, images)]
    findings += [source_finding(sections["ingest"]["source"], resources), *service_findings(options.bucket, sections)]
    if options.in_cluster:
        found = _inside(options, place, images, resources, sections, findings)
        if found[-1].level == "ok":
            # What only pods could tell, they have told.
            findings = [each for each in findings if each.check not in TOLD_BY_PODS or each.level == "failure"]
        findings += found
    else:
        findings += findings_left_to_pods(sections, resources)
    print("\n".join(lines(findings)))
    return int(failed(findings))


def _inside(
    options: argparse.Namespace,
    place: "ClusterLocation",
    images: Images | None,
    resources: Resources | None,
    sections: dict[str, dict[str, Any]],
    before: list[Finding],
) -> list[Finding]:
    """The findings of a run in the cluster."""
    from twofold.kubeflow.preflight.in_cluster_run import ClusterRunRequest, run_in_cluster

    if images is None or before[0].level == "failure":
        return [not_checked("run in the cluster", "not started: see the failures above", "mend those first")]
    head = sections["train_head"]
    asked = ClusterRunRequest(
        images, resources, sections["ingest"]["source"], options.bucket, head["backbone"], head["weights"]
    )
    try:
        return run_in_cluster(connect(common.connection_from(options)), place, asked, options.patience)
    except ServerError as error:
        seen, _, remedy = str(error).partition(". ")
        return [failure("run in the cluster", seen, remedy or "see docs/cluster.md")]

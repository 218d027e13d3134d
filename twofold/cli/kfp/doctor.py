"""`twofold kfp doctor`: checks everything that a run needs before the run starts.

Takes a Kubeflow server, a kubeconfig if there is one, resources, images and parameters; prints one line per check, with
a remedy if needed. The exit status is 1 if any check failed. `--in-cluster` also checks from pods inside the cluster.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.cli.kfp import options as common
from twofold.cli.output import Result, add_json
from twofold.core.errors import ServerError
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import Resources
from twofold.kubeflow.preflight import local_checks
from twofold.kubeflow.server.connection import connect
from twofold.orchestration.preflight_findings import Finding, failed, lines, not_checked

if TYPE_CHECKING:
    from twofold.kubeflow.preflight.cluster_checks import ClusterLocation

ANSWERED_BY_PODS = ("image pull", "ingest.source")  # checks that a successful run in the cluster answers


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `doctor` to the command line."""
    text = "check server, cluster, secrets and images before a run"
    description = f"{text[0].upper()}{text[1:]}. Exit status 1 if any check failed."
    parser = subparsers.add_parser("doctor", help=text, description=description)
    common.add_connection_options(parser)
    group = parser.add_argument_group("the cluster")
    group.add_argument("--kubeconfig", type=Path, metavar="FILE", help="(the one that kubectl uses)")
    group.add_argument("--context", metavar="NAME", help="of the kubeconfig (its current one)")
    text_of_bucket = "another S3 bucket to check: an object is written, read and deleted"
    group.add_argument("--bucket", default="", metavar="NAME[/PREFIX]", help=text_of_bucket)
    group.add_argument(
        "--in-cluster", action="store_true", help="also check from inside: a run of two pods, about a minute, one GPU"
    )
    group.add_argument(
        "--patience", type=float, default=900.0, metavar="SECONDS", help="after which that run is stopped (%(default)s)"
    )
    common.add_compile_options(parser)
    common.add_argument_options(parser)
    add_json(parser)
    parser.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> Result:
    from twofold.kubeflow.preflight.cluster_checks import ClusterLocation, cluster_findings

    resources = common.resources_from(options)
    sections = common.params_from(options) | common.overrides_from(options)
    images, findings = local_checks.image_findings(options.image)
    server, namespace = local_checks.server_finding(common.connection_from(options))
    place = ClusterLocation(namespace, options.kubeconfig, options.context)
    schedules = [] if server.level == "failure" else local_checks.schedule_findings(common.connection_from(options))
    findings = [server, *schedules, *findings, *cluster_findings(place, resources, images)]
    findings.append(local_checks.source_finding(sections["ingest"]["source"], resources))
    findings += local_checks.gate_findings(common.params_file(options).parent, sections)
    findings += local_checks.service_findings(options.bucket, sections, resources)
    if options.in_cluster:
        if images is None or server.level == "failure":
            reason = "not started because of the failures above"
            from_pods = [not_checked("run in the cluster", reason, "correct those first")]
        else:
            from_pods = _check_in_cluster(options, place, images, resources, sections)
        if from_pods[-1].level == "ok":
            findings = [each for each in findings if each.check not in ANSWERED_BY_PODS or each.level == "failure"]
        findings += from_pods
    else:
        findings += local_checks.findings_left_to_pods(sections, resources)
    return Result("\n".join(lines(findings)), [asdict(each) for each in findings], int(failed(findings)))


def _check_in_cluster(
    options: argparse.Namespace, place: "ClusterLocation", images: Images, resources: Resources, sections: Any
) -> list[Finding]:
    from twofold.kubeflow.preflight.in_cluster_run import ClusterRunRequest, run_in_cluster

    source, head, experiment = sections["ingest"]["source"], sections["train_head"], sections["register"]["experiment"]
    request = ClusterRunRequest(
        images, resources, source, options.bucket, experiment, head["backbone"], head["weights"]
    )
    try:
        return run_in_cluster(connect(common.connection_from(options)), place, request, options.patience)
    except ServerError as error:
        return [local_checks.failure_of("run in the cluster", error)]

"""The KFP component of ingest. It checks every section, so that a mistake in any of them ends the run at once.

Components have no `from __future__ import annotations`, because kfp reads the annotations.
"""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Metrics, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def ingest(
    params: dict, preprocess: dict, train_head: dict, finetune_all: dict, evaluate: dict, register: dict, force: str,
    raw: Output[Dataset], metrics: Output[Metrics], audit: Output[Artifact], audit_page: Output[HTML],
) -> NamedTuple("Outputs", digest=str, audit_digest=str, experiment=str, source=str):  # fmt: skip
    """Source images, decoded once and stored unchanged in shards with a manifest."""
    from twofold.orchestration.kfp_display import read_metrics
    from twofold.orchestration.task import check_all_sections, copy_output, digest_of, recorded_source, run_step
    from twofold.steps.ingest import ingest

    others = {"preprocess": preprocess, "train_head": train_head, "finetune_all": finetune_all}
    experiment = check_all_sections(ingest=params, evaluate=evaluate, register=register, **others)
    digest = run_step(ingest, params, {}, {}, raw=raw.path, metrics=metrics.path, audit=audit.path)
    for key, value in read_metrics(metrics.path).items():
        metrics.log_metric(key, value)
    copy_output(f"{audit.path}/audit.html", audit_page.path)
    return digest, digest_of(audit.path), experiment, recorded_source(params)

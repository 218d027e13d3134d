"""The KFP component of register, the only step that uses the registry."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import HTML, Artifact, Dataset, Input, Markdown, Model, Output


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def register(
    params: dict, force: str, run: str, source: str,
    raw: Input[Dataset], raw_digest: str, data: Input[Dataset], data_digest: str,
    head: Input[Model], head_digest: str, model: Input[Model], model_digest: str,
    evaluation: Input[Artifact], evaluation_digest: str,
    ingest_audit: Input[Artifact], ingest_audit_digest: str,
    preprocess_audit: Input[Artifact], preprocess_audit_digest: str,
    train_head_audit: Input[Artifact], train_head_audit_digest: str,
    registration: Output[Artifact], verdict: Output[Artifact], gates: Output[Markdown], decision: Output[HTML],
    index: Output[HTML],
) -> NamedTuple("Outputs", [("digest", str)]):  # fmt: skip
    """Gates, and registration of the model if it passes them."""
    from twofold.orchestration.kfp_display import render_verdict
    from twofold.orchestration.notifications import tag_run_outcome
    from twofold.orchestration.task import copy_output, run_step, write_output
    from twofold.steps.register import register

    digests = {"raw": raw_digest, "data": data_digest, "head": head_digest, "model": model_digest}
    digests |= {"evaluation": evaluation_digest, "ingest_audit": ingest_audit_digest}
    digests |= {"preprocess_audit": preprocess_audit_digest, "train_head_audit": train_head_audit_digest}
    artifacts = {"raw": raw, "data": data, "head": head, "model": model, "evaluation": evaluation}
    artifacts |= {"ingest_audit": ingest_audit, "preprocess_audit": preprocess_audit}
    artifacts |= {"train_head_audit": train_head_audit, "registration": registration}
    artifacts |= {"verdict": verdict, "index": index}
    paths = {name: artifact.path for name, artifact in artifacts.items()}
    digest = run_step(register, params, digests, {"TWOFOLD_PIPELINE_RUN": run, "TWOFOLD_SOURCE": source}, **paths)
    tag_run_outcome(verdict.path, run)
    write_output(gates.path, render_verdict(verdict.path))
    copy_output(f"{registration.path}/decision.html", decision.path)
    return (digest,)

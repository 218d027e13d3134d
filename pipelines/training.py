"""Defines the pipeline `twofold-training`: the order of the six steps and what passes between them.

Takes images, resources and parameters; returns the pipeline as a kfp object. Its arguments are the parameter sections,
and `force`, a text that is part of every task's cache key.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from kfp import dsl

from components.check_gates import check_gates as check_gates_component
from components.evaluate import evaluate as evaluate_component
from components.finetune_all import finetune_all as finetune_all_component
from components.ingest import ingest as ingest_component
from components.notify import notify as notify_component
from components.preprocess import preprocess as preprocess_component
from components.register import register as register_component
from components.source_version import source_version as source_version_component
from components.train_head import train_head as train_head_component
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.placement import place, run_limits
from twofold.kubeflow.definition.resources import Resources, Task

NAME = "twofold-training"
ON_DATA_IMAGE = ("source_version", "ingest", "preprocess", "check_gates")  # the others need torch or MLflow


def pipeline(
    images: Images | None, resources: Resources | None, params: Mapping[str, Mapping[str, Any]]
) -> Callable[..., Any]:
    """Build the pipeline.

    Args:
        images: None to run the tasks as processes on this machine.
        resources: what each task requests from the cluster; None to run the tasks on this machine.
        params: every section; they become the defaults of the pipeline's arguments.
    """
    defaults = {name: dict(section) for name, section in params.items()}

    def put(task: Any, name: Task | Literal["source_version", "check_gates"], *, cached: bool) -> Any:
        task.set_caching_options(cached)
        if images is not None:
            image = images.data if name in ON_DATA_IMAGE else images.train
            task.set_container_image(image).set_env_variable("TWOFOLD_IMAGE", image)
        # source_version reads what ingest reads: with its volumes and secrets, on its nodes.
        placed = "ingest" if name == "source_version" else "preprocess" if name == "check_gates" else name
        return task if resources is None else place(task, placed, resources)

    @dsl.pipeline(name=NAME, description="From images to a judged classifier", pipeline_config=run_limits(resources))
    def training(
        ingest: dict = defaults["ingest"],
        preprocess: dict = defaults["preprocess"],
        train_head: dict = defaults["train_head"],
        finetune_all: dict = defaults["finetune_all"],
        evaluate: dict = defaults["evaluate"],
        register: dict = defaults["register"],
        force: str = "",
    ) -> None:
        run = dsl.PIPELINE_JOB_ID_PLACEHOLDER
        exit_task = put(notify_component(register=register, run=run), "notify", cached=False)
        with dsl.ExitHandler(exit_task, name="steps"):
            sections = {"ingest": ingest, "preprocess": preprocess, "train_head": train_head}
            sections |= {"finetune_all": finetune_all, "evaluate": evaluate, "register": register}
            # Never cached: the images may change while their address stays the same.
            first = put(source_version_component(**sections), "source_version", cached=False).outputs
            ingested = put(
                ingest_component(params=ingest, version=first["version"], force=force), "ingest", cached=True
            ).outputs
            prepared = put(
                preprocess_component(
                    params=preprocess, force=force, raw=ingested["raw"], raw_digest=ingested["digest"]
                ),
                "preprocess",
                cached=True,
            ).outputs
            data = {"data": prepared["data"], "data_digest": prepared["digest"]}
            # A task of its own: as a parameter of preprocess, the gates would make every step run again.
            gates = put(
                check_gates_component(preprocess=preprocess, register=register, force=force, **data),
                "check_gates",
                cached=True,
            )
            head = put(
                train_head_component(
                    params=train_head,
                    experiment=first["experiment"],
                    force=force,
                    preprocess_audit=prepared["audit"],
                    preprocess_audit_digest=prepared["audit_digest"],
                    **data,
                ),
                "train_head",
                cached=True,
            )
            head = head.after(gates).outputs
            start = {"head": head["model"], "head_digest": head["digest"]}
            audited = {"ingest": ingested, "preprocess": prepared, "train_head": head}
            audits = {f"{step}_audit": task["audit"] for step, task in audited.items()}
            audits |= {f"{step}_audit_digest": task["audit_digest"] for step, task in audited.items()}
            tuned = put(
                finetune_all_component(
                    params=finetune_all, experiment=first["experiment"], force=force, **data, **start
                ),
                "finetune_all",
                cached=True,
            ).outputs
            model = {"model": tuned["model"], "model_digest": tuned["digest"]}
            judged = put(
                evaluate_component(params=evaluate, force=force, **data, **model), "evaluate", cached=True
            ).outputs
            # Never cached: the champion may have changed.
            put(
                register_component(
                    params=register,
                    force=force,
                    run=run,
                    source=first["source"],
                    raw=ingested["raw"],
                    raw_digest=ingested["digest"],
                    evaluation=judged["evaluation"],
                    evaluation_digest=judged["digest"],
                    **data,
                    **start,
                    **model,
                    **audits,
                ),
                "register",
                cached=False,
            )

    return training  # type: ignore[no-any-return]

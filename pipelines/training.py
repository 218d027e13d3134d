"""The pipeline `twofold-training`: the order of the six steps, and where each of them runs.

In: images, resources, the sections of parameters. Out: the pipeline as kfp's object. One argument a section, and
`force`: a text in every task's cache key.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kfp import dsl

from components.evaluate import evaluate as evaluate_face
from components.finetune_all import finetune_all as finetune_all_face
from components.ingest import ingest as ingest_face
from components.notify import notify as notify_face
from components.preprocess import preprocess as preprocess_face
from components.register import register as register_face
from components.train_head import train_head as train_head_face
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.placement import place
from twofold.kubeflow.definition.resources import Resources, Task

NAME = "twofold-training"
ON_DATA_IMAGE = ("ingest", "preprocess")  # the rest needs torch or MLflow


def pipeline(
    images: Images | None, resources: Resources | None, params: Mapping[str, Mapping[str, Any]]
) -> Callable[..., Any]:
    """Build the pipeline.

    Args:
        images: of the tasks; None for a run in processes of this machine.
        resources: where the tasks run; None asks the cluster for nothing.
        params: every section, which become the arguments' defaults.
    """
    defaults = {name: dict(section) for name, section in params.items()}

    def put(task: Any, name: Task, *, cached: bool) -> Any:
        task.set_caching_options(cached)
        if images is not None:
            image = images.data if name in ON_DATA_IMAGE else images.train
            task.set_container_image(image).set_env_variable("TWOFOLD_IMAGE", image)
        return task if resources is None else place(task, name, resources)

    @dsl.pipeline(name=NAME, description="From a folder of images to a judged, registered classifier")
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
        told = put(notify_face(register=register, run=run), "notify", cached=False)
        with dsl.ExitHandler(told, name="steps"):
            # Never cached: the address is the same when the images behind it are not.
            ingested = put(
                ingest_face(
                    params=ingest,
                    preprocess=preprocess,
                    train_head=train_head,
                    finetune_all=finetune_all,
                    evaluate=evaluate,
                    register=register,
                    force=force,
                ),
                "ingest",
                cached=False,
            ).outputs
            prepared = put(
                preprocess_face(params=preprocess, force=force, raw=ingested["raw"], raw_digest=ingested["digest"]),
                "preprocess",
                cached=True,
            ).outputs
            data = {"data": prepared["data"], "data_digest": prepared["digest"]}
            head = put(
                train_head_face(params=train_head, experiment=ingested["experiment"], force=force, **data),
                "train_head",
                cached=True,
            ).outputs
            start = {"head": head["model"], "head_digest": head["digest"]}
            audited = {"ingest": ingested, "preprocess": prepared, "train_head": head}
            audits = {f"{step}_audit": task["audit"] for step, task in audited.items()}
            audits |= {f"{step}_audit_digest": task["audit_digest"] for step, task in audited.items()}
            tuned = put(
                finetune_all_face(params=finetune_all, experiment=ingested["experiment"], force=force, **data, **start),
                "finetune_all",
                cached=True,
            ).outputs
            model = {"model": tuned["model"], "model_digest": tuned["digest"]}
            judged = put(evaluate_face(params=evaluate, force=force, **data, **model), "evaluate", cached=True).outputs
            # Never cached: the champion may be another one since.
            put(
                register_face(
                    params=register,
                    force=force,
                    run=run,
                    source=ingested["source"],
                    raw=ingested["raw"],
                    raw_digest=ingested["digest"],
                    evaluation=judged["evaluation"],
                    evaluation_digest=judged["digest"],
                    metrics=judged["metrics"],
                    **data,
                    **start,
                    **model,
                    **audits,
                ),
                "register",
                cached=False,
            )

    return training  # type: ignore[no-any-return]

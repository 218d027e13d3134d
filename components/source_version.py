"""The KFP component of the pipeline's first task, which runs in every run and hands on parameters only.

Kubeflow's cache key holds the id of every input artifact, and a task that runs gives its artifacts new ids. A task that
is never cached and returned an artifact would therefore make every task behind it run again.
"""

from typing import NamedTuple

from kfp import dsl


@dsl.component(base_image="twofold-python:unset", install_kfp_package=False)
def source_version(
    ingest: dict, preprocess: dict, train_head: dict, finetune_all: dict, evaluate: dict, register: dict
) -> NamedTuple("Outputs", [("version", str), ("experiment", str), ("source", str)]):  # fmt: skip
    """Checked parameters, and the version of the source."""
    from twofold.orchestration.task import check_parameters_and_source

    sections = {"preprocess": preprocess, "train_head": train_head, "finetune_all": finetune_all}
    return check_parameters_and_source(ingest=ingest, evaluate=evaluate, register=register, **sections)

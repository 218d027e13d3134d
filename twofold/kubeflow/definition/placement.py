"""One task's place in the cluster: from the typed file to what kfp writes into the pipeline.

In: a task and the resources. Out: the same task, asking for what the file says.
"""

from typing import Any

from kfp import kubernetes

from twofold.kubeflow.definition.resources import Resources, Step, Task, seconds

# No limit on a wait, whatever its name says: counted from the start of the first try, after it nothing is tried again.
# KFP's own value, an hour, would leave a training that fails in its second hour without a retry.
ALWAYS = f"{365 * 24 * 3600}s"


def place(task: Any, name: Task, resources: Resources) -> Any:
    """Apply everything that the file says about one task."""
    step = resources.steps[name]
    _size(task, step)
    _node(task, step)
    _patience(task, step)
    kubernetes.set_security_context(
        task,
        run_as_user=resources.security.run_as_user,
        run_as_group=resources.security.run_as_group,
        run_as_non_root=True,
    )
    for secret in resources.secrets.values():
        if name in secret.tasks:
            kubernetes.use_secret_as_env(task, secret.name, dict(secret.keys), optional=secret.optional)
    for volume in resources.volumes:
        if name in volume.tasks:
            kubernetes.mount_pvc(task, volume.claim, volume.path)
            if volume.variable:
                task.set_env_variable(volume.variable, volume.path)
    for key, value in resources.environment.items():
        task.set_env_variable(key, value)
    for key, value in resources.labels.items():
        kubernetes.add_pod_label(task, key, value)
    if resources.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(resources.image_pull_secrets))
    return task


def _size(task: Any, step: Step) -> None:
    task.set_cpu_request(step.cpu).set_cpu_limit(step.cpu)
    task.set_memory_request(step.memory).set_memory_limit(step.memory)
    if step.gpu:
        # The limit alone does nothing.
        task.set_accelerator_type(step.gpu.type).set_accelerator_limit(step.gpu.count)
    if step.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=step.shm)  # noqa: S108


def _node(task: Any, step: Step) -> None:
    for key, value in step.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in step.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))


def _patience(task: Any, step: Step) -> None:
    kubernetes.set_timeout(task, seconds(step.timeout))
    if step.retries.count:
        task.set_retry(
            num_retries=step.retries.count,
            backoff_duration=step.retries.backoff,
            backoff_factor=step.retries.factor,
            backoff_max_duration=ALWAYS,
        )

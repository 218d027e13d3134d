"""Applies the resources file: to a task CPU, memory, GPU, node, timeout, retries, secrets, volumes; to a run limits."""

from typing import Any

from kfp import dsl, kubernetes

from twofold.kubeflow.definition.resources import Resources, Task, parse_duration

# KFP's `backoff_max_duration` counts from the start of the first try and forbids retries after it. Its default, one
# hour, would leave a training that fails in its second hour without a retry.
NO_RETRY_DEADLINE = f"{365 * 24 * 3600}s"


def run_limits(resources: Resources | None) -> dsl.PipelineConfig:
    """The limits of a whole run; what the resources file leaves out is not set."""
    seconds = {key: parse_duration(limit) for key, limit in (resources.pipeline if resources else ()) if limit}
    return dsl.PipelineConfig(
        active_deadline_seconds=seconds.get("timeout"),
        ttl_seconds_after_success=seconds.get("ttl_after_success"),
        ttl_seconds_after_failure=seconds.get("ttl_after_failure"),
    )


def place(task: Any, name: Task, resources: Resources) -> Any:
    """Set on a task everything that the resources file says about it, and return the task."""
    step = resources.steps[name]
    if step.cpu:
        task.set_cpu_request(step.cpu).set_cpu_limit(step.cpu)
    if step.memory:
        task.set_memory_request(step.memory).set_memory_limit(step.memory)
    if step.gpu:
        # KFP ignores the limit unless the type is set too.
        task.set_accelerator_type(step.gpu.type).set_accelerator_limit(step.gpu.count)
    if step.shm:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=step.shm)  # noqa: S108
    for key, value in step.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for term in step.node_affinity:
        kubernetes.add_node_affinity(task, [each.model_dump() for each in term.match_expressions], weight=term.weight)
    for toleration in step.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
    kubernetes.set_timeout(task, parse_duration(step.timeout))
    if step.retries.count:
        task.set_retry(
            num_retries=step.retries.count,
            backoff_duration=step.retries.backoff,
            backoff_factor=step.retries.factor,
            backoff_max_duration=NO_RETRY_DEADLINE,
        )
    user = resources.security
    kubernetes.set_security_context(
        task, run_as_user=user.run_as_user, run_as_group=user.run_as_group, run_as_non_root=True
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

"""Typed model of `pipelines/resources.yaml`: what each task requests from the cluster, and what all tasks share.

Reads and checks that file; returns `Resources`. Optional keys that are left out are not set on the pods.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from twofold.core.errors import ParameterError
from twofold.core.params import Section, check_address, in_plain_words
from twofold.orchestration.params_file import STEPS, project_root

TASKS = (*STEPS, "notify")  # the steps in their order, and the exit task
WITH_GPU = ("train_head", "finetune_all", "evaluate", "register")  # tasks that may request one
DEFAULT = Path("pipelines/resources.yaml")  # in the project's folder

Task = Literal["ingest", "preprocess", "train_head", "finetune_all", "evaluate", "register", "notify"]
Cpu = Annotated[str, Field(pattern=r"^([1-9][0-9]*(\.[0-9]+)?|0\.[0-9]*[1-9]|[1-9][0-9]*m)$")]
Bytes = Annotated[str, Field(pattern=r"^[1-9][0-9]*(Ki|Mi|Gi|Ti)$")]
Duration = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,8}s|[1-9][0-9]{0,6}m|[1-9][0-9]{0,4}h)$")]  # below 2^31 s
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]  # of a Kubernetes object
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=253)]  # in a secret
Label = Annotated[str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
Variable = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]
MountPath = Annotated[str, Field(pattern=r"^/[^:\s]+$")]


class Gpu(Section):
    type: Label = Field(description="resource name of the GPU, such as nvidia.com/gpu")
    count: int = Field(description="number of GPUs; must be 1, because no step uses more")

    @field_validator("count")
    @classmethod
    def _check_count(cls, count: int) -> int:
        if count != 1:
            raise ValueError("must be 1: no step uses more than one GPU yet, and the others would be idle")
        return count


class Toleration(Section):
    key: Label | None = Field(default=None, description="key of the taint; if left out, all taints (with Exists)")
    operator: Literal["Equal", "Exists"] = Field(default="Equal", description="how the taint is matched")
    value: LabelValue | None = Field(default=None, description="value of the taint, with operator Equal only")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="effect of the taint; if left out, all effects"
    )

    @model_validator(mode="after")
    def _check_as_kubernetes_does(self) -> "Toleration":
        if self.operator == "Equal" and self.key is None:
            raise ValueError("without a key the operator must be Exists")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("Exists takes no value")
        return self


class NodeRequirement(Section):
    key: Label = Field(description="label of the node")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"] = Field(description="how it is compared")
    values: list[LabelValue] = Field(default_factory=list, description="values to compare it with, as text")

    @model_validator(mode="after")
    def _check_as_kubernetes_does(self) -> "NodeRequirement":
        one_number = len(self.values) == 1 and self.values[0].isdecimal()
        fits = {"In": self.values, "NotIn": self.values, "Gt": one_number, "Lt": one_number}
        if not fits.get(self.operator, not self.values):
            raise ValueError("In and NotIn take values, Gt and Lt one integer, Exists and DoesNotExist none")
        return self


class NodeAffinityTerm(Section):
    match_expressions: list[NodeRequirement] = Field(description="conditions that must all hold", min_length=1)
    weight: int | None = Field(default=None, description="1 to 100: preferred instead of required", ge=1, le=100)


class Retries(Section):
    count: int = Field(description="number of retries, 0 to 20", ge=0, le=20)
    backoff: Duration = Field(description="wait before the first retry, such as 60s")
    factor: int = Field(description="factor by which the wait grows with each retry, 1 to 10", ge=1, le=10)

    @model_validator(mode="after")
    def _check_last_wait(self) -> "Retries":
        last = parse_duration(self.backoff) * self.factor ** max(self.count - 1, 0)
        if last > 24 * 3600:
            raise ValueError(f"the wait before retry {self.count} would be {last} seconds; at most 86400 (a day)")
        return self


class Step(Section):
    cpu: Cpu | None = Field(
        default=None, description="CPU request and limit, such as 4 or 500m, as text; if left out, what is free"
    )
    memory: Bytes | None = Field(
        default=None, description="memory request and limit, such as 16Gi; if left out, what is free"
    )
    gpu: Gpu | None = Field(default=None, description="GPU request of train_head, finetune_all, evaluate, register")
    shm: Bytes | None = Field(default=None, description="size of /dev/shm, in memory; counts towards `memory`")
    node_selector: dict[Label, LabelValue] = Field(
        default_factory=dict, description="labels that the node must have, such as nvidia.com/gpu.product"
    )
    node_affinity: list[NodeAffinityTerm] = Field(default_factory=list, description="terms of which one must hold")
    tolerations: list[Toleration] = Field(default_factory=list, description="taints that the pod tolerates")
    timeout: Duration = Field(description="time limit of each try, such as 6h")
    retries: Retries = Field(description="retries of a lost pod, by Argo; a step that fails is not tried again")


class RunLimits(Section):
    timeout: Duration | None = Field(default=None, description="time limit of the run, all waits included, such as 48h")
    ttl_after_success: Duration | None = Field(default=None, description="how long its pods stay if it succeeds")
    ttl_after_failure: Duration | None = Field(default=None, description="how long its pods stay if it fails")


class Security(Section):
    run_as_user: int = Field(description="user id of the process, 1 or more (never root)", ge=1)
    run_as_group: int = Field(description="group id of the process, 1 or more", ge=1)


class Secret(Section):
    name: Name = Field(description="name of the Kubernetes secret, in the namespace of the runs")
    keys: dict[Key, Variable] = Field(description="environment variable for each key of the secret", min_length=1)
    tasks: list[Task] = Field(description="tasks that get it", min_length=1)
    optional: bool = Field(default=False, description="whether the tasks may start without it")


class Volume(Section):
    claim: Name = Field(description="name of an existing persistent volume claim")
    path: MountPath = Field(description="where it is mounted")
    tasks: list[Task] = Field(description="tasks that get it", min_length=1)
    variable: Variable | None = Field(default=None, description="environment variable that holds the path")


class Resources(Section):
    """The whole file."""

    steps: dict[Task, Step] = Field(description="what each task requests from the cluster")
    pipeline: RunLimits = Field(default_factory=RunLimits, description="limits of a whole run; none by default")
    security: Security = Field(description="user of the process in the pod; runAsNonRoot is always set")
    secrets: dict[Literal["s3", "mlflow", "webhook"], Secret] = Field(
        default_factory=dict, description="Kubernetes secrets that become environment variables"
    )
    image_pull_secrets: list[Name] = Field(default_factory=list, description="secrets for pulling the images")
    labels: dict[Label, LabelValue] = Field(default_factory=dict, description="labels of every pod")
    environment: dict[Variable, Annotated[str, AfterValidator(check_address)]] = Field(
        default_factory=dict, description="environment variables of every task; not for secrets"
    )
    volumes: list[Volume] = Field(default_factory=list, description="persistent volume claims that are mounted")

    @field_validator("steps")
    @classmethod
    def _check_tasks(cls, steps: dict[Task, Step]) -> dict[Task, Step]:
        missing = [name for name in TASKS if name not in steps]
        if missing:
            raise ValueError(f"missing: {', '.join(missing)}")
        wrong = [name for name, step in steps.items() if step.gpu and name not in WITH_GPU]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: uses no GPU; these may request one: {', '.join(WITH_GPU)}")
        return steps

    def without_requests(self) -> "Resources":
        """Return what `--cpu` compiles: a copy that asks the cluster for no hardware, node, volume or secret."""
        steps = {name: Step(timeout=step.timeout, retries=step.retries) for name, step in self.steps.items()}
        return self.model_copy(update={"steps": steps, "secrets": {}, "volumes": []})


def parse_duration(text: str) -> int:
    """Seconds of `90s`, `10m` or `6h`."""
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def load_resources(path: Path | None = None) -> Resources:
    """Read and check the file.

    Args:
        path: None for the project's own, `pipelines/resources.yaml`.

    Raises:
        ParameterError: missing file, invalid YAML, or wrong, missing or unknown values; all of them are listed.
    """
    path = path or project_root() / DEFAULT
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ParameterError(f"{path}: {error.strerror}; name the file with --resources") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not YAML in UTF-8: {error}") from None
    try:
        return Resources.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, each['loc'])) or 'the file'}: "
            + ("missing" if each["type"] == "missing" else f"found {each['input']!r}; {in_plain_words(each['msg'])}")
            for each in error.errors()
        ]
        raise ParameterError("\n  ".join([f"{path}:", *problems])) from None

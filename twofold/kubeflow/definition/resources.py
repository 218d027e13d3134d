"""Where the tasks run: the typed form of `pipelines/resources.yaml`.

In: that file. Out: for each task CPU, memory, GPU, node, time and retries; for all of them the security context,
secrets, volumes, labels. What is left out is not asked for.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from twofold.core.errors import ParameterError
from twofold.orchestration.params_file import STEPS, project_root

TASKS = (*STEPS, "notify")  # the steps in their order, and the exit task
WITH_GPU = ("train_head", "finetune_all", "evaluate", "register")  # tasks that may ask for one
DEFAULT = Path("pipelines/resources.yaml")  # in the project's folder

Task = Literal["ingest", "preprocess", "train_head", "finetune_all", "evaluate", "register", "notify"]
Cpu = Annotated[str, Field(pattern=r"^([1-9][0-9]*(\.[0-9]+)?|0\.[0-9]*[1-9]|[1-9][0-9]*m)$")]
Bytes = Annotated[str, Field(pattern=r"^[1-9][0-9]*(Ki|Mi|Gi|Ti)$")]
Duration = Annotated[str, Field(pattern=r"^[1-9][0-9]*[smh]$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]  # of an object in Kubernetes
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$", max_length=253)]  # of a secret's entry
Label = Annotated[str, Field(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
Variable = Annotated[str, Field(pattern=r"^[A-Z_][A-Z0-9_]*$")]
MountPath = Annotated[str, Field(pattern=r"^/[^:\s]+$")]


class Part(BaseModel):
    """A piece of the file: strict, frozen, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Gpu(Part):
    type: Label = Field(description="resource name of the GPU on its nodes, such as nvidia.com/gpu")
    count: int = Field(description="1: more is refused until a step uses more")

    @field_validator("count")
    @classmethod
    def _one(cls, count: int) -> int:
        if count != 1:
            raise ValueError("must be 1: no step uses more than one GPU yet, and the others would be paid for idle")
        return count


class Toleration(Part):
    key: Label | None = Field(default=None, description="of the taint; without it (and operator Exists) every taint")
    operator: Literal["Equal", "Exists"] = Field(default="Equal", description="how key and value are compared")
    value: LabelValue | None = Field(default=None, description="of the taint, for Equal")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="of the taint; without it every effect"
    )

    @model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> "Toleration":
        if self.operator == "Equal" and self.key is None:
            raise ValueError("without a key the operator must be Exists")
        if self.operator == "Exists" and self.value is not None:
            raise ValueError("Exists takes no value")
        return self


class Retries(Part):
    count: int = Field(description="tries after the first one, 0 to 20", ge=0, le=20)
    backoff: Duration = Field(description="wait before the first retry, such as 60s")
    factor: int = Field(description="by which the wait grows from retry to retry, 1 to 10", ge=1, le=10)

    @model_validator(mode="after")
    def _within_a_day(self) -> "Retries":
        last = seconds(self.backoff) * self.factor ** max(self.count - 1, 0)
        if last > 24 * 3600:
            raise ValueError(f"the wait before retry {self.count} would be {last} seconds; a day (86400) at most")
        return self


class Step(Part):
    cpu: Cpu = Field(description="cores asked for and allowed, such as 4 or 500m, as text")
    memory: Bytes = Field(description="memory asked for and allowed, such as 16Gi")
    gpu: Gpu | None = Field(default=None, description="for train_head, finetune_all, evaluate and register")
    shm: Bytes | None = Field(default=None, description="size of /dev/shm, in memory; counts against `memory`")
    node_selector: dict[Label, LabelValue] = Field(
        default_factory=dict, description="labels that the node must have, such as nvidia.com/gpu.product"
    )
    tolerations: list[Toleration] = Field(default_factory=list, description="taints of nodes that are no obstacle")
    timeout: Duration = Field(description="after which a try is stopped, such as 6h")
    retries: Retries = Field(description="tries after a failure, with growing waits")


class Security(Part):
    run_as_user: int = Field(description="user id of the process, 1 or more: never root", ge=1)
    run_as_group: int = Field(description="group id of the process, 1 or more", ge=1)


class Secret(Part):
    name: Name = Field(description="of the Kubernetes secret, in the namespace of the runs")
    keys: dict[Key, Variable] = Field(description="which of its keys becomes which environment variable", min_length=1)
    tasks: list[Task] = Field(description="that get it", min_length=1)
    optional: bool = Field(default=False, description="whether the tasks run without it, too")


class Volume(Part):
    claim: Name = Field(description="name of the persistent volume claim, which must exist")
    path: MountPath = Field(description="where it is mounted")
    tasks: list[Task] = Field(description="that get it", min_length=1)
    variable: Variable | None = Field(default=None, description="environment variable that gets the path")


class Resources(Part):
    """The whole file."""

    steps: dict[Task, Step] = Field(description="what each task asks of the cluster")
    security: Security = Field(description="who the process in the pod is; that it is not root is always set")
    secrets: dict[Literal["s3", "mlflow", "webhook"], Secret] = Field(
        default_factory=dict, description="Kubernetes secrets that become environment variables"
    )
    image_pull_secrets: list[Name] = Field(default_factory=list, description="secrets for pulling the images")
    labels: dict[Label, LabelValue] = Field(default_factory=dict, description="of every pod")
    environment: dict[Variable, str] = Field(
        default_factory=dict, description="plain variables of every task; nothing secret"
    )
    volumes: list[Volume] = Field(default_factory=list, description="claims that are mounted")

    @field_validator("steps")
    @classmethod
    def _all_of_them(cls, steps: dict[Task, Step]) -> dict[Task, Step]:
        missing = [name for name in TASKS if name not in steps]
        if missing:
            raise ValueError(f"missing: {', '.join(missing)}")
        wrong = [name for name, step in steps.items() if step.gpu and name not in WITH_GPU]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: uses no GPU; these may ask for one: {', '.join(WITH_GPU)}")
        return steps


def seconds(duration: str) -> int:
    """`90s`, `10m` or `6h` in seconds."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def load(path: Path | None = None) -> Resources:
    """The file, checked.

    Args:
        path: None for the project's own, `pipelines/resources.yaml`.

    Raises:
        ParameterError: it is missing or no YAML, or values are wrong, missing or unknown; all of them are listed.
    """
    path = path or project_root() / DEFAULT
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParameterError(f"{path}: {error.strerror}; name the file with --resources") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not YAML: {error}") from None
    try:
        return Resources.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, p['loc'])) or 'the file'}: {_told(p)}" for p in error.errors()]
        raise ParameterError(f"{path}:\n  " + "\n  ".join(lines)) from None


def _told(problem: object) -> str:
    assert isinstance(problem, dict)  # noqa: S101  (pydantic's own form)
    if problem["type"] == "missing":
        return "missing"
    return f"found {problem['input']!r}; {problem['msg']}"

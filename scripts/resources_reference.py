"""The resources file explained, as the Markdown table of docs/kubeflow.md: `python -m scripts.resources_reference` writes it.

In: the typed model. Out: a row a key, with its meaning as the model has it.
"""

from collections.abc import Iterator
from pathlib import Path

from twofold.core.artifacts import write_bytes
from twofold.kubeflow.definition.resources import (
    Gpu,
    Part,
    Resources,
    Retries,
    Secret,
    Security,
    Step,
    Toleration,
    Volume,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "kubeflow.md"
BEGIN, END = "<!-- resources: made by `python -m scripts.resources_reference` -->", "<!-- resources: end -->"
BELOW: dict[str, tuple[str, type[Part]]] = {
    "steps": ("<task>", Step),
    "security": ("", Security),
    "secrets": ("<s3, mlflow or webhook>", Secret),
    "volumes": ("[]", Volume),
    "gpu": ("", Gpu),
    "retries": ("", Retries),
    "tolerations": ("[]", Toleration),
}  # what a key holds: under which name, and its model


def table() -> str:
    """Every key with its path and meaning."""
    rows = [f"| `{path}` | {meaning} |" for path, meaning in _rows(Resources, "")]
    return "\n".join(["| key | meaning |", "|---|---|", *rows])


def _rows(model: type[Part], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field.description or ""
        if name in BELOW:
            between, part = BELOW[name]
            joined = between if between.startswith("[") else f".{between}" if between else ""
            yield from _rows(part, f"{prefix}{name}{joined}.")


def with_table(text: str) -> str:
    """A page with the table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    write_bytes(PAGE, with_table(PAGE.read_text(encoding="utf-8")).encode())

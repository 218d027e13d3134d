"""Tables of parameters, of the keys of a resources file, and of the statistical studies."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from twofold.core.params import Section
from twofold.kubeflow.definition import resources as models
from twofold.orchestration.params_file import describe

ROOT = Path(__file__).resolve().parents[2]
NESTED: Mapping[str, tuple[str, type[Section]]] = {  # a key of the resources: what follows it in a path, its model
    "steps": (".<task>", models.Step),
    "node_affinity": ("[]", models.NodeAffinityTerm),
    "match_expressions": ("[]", models.NodeRequirement),
    "pipeline": ("", models.RunLimits),
    "security": ("", models.Security),
    "secrets": (".<s3, mlflow or webhook>", models.Secret),
    "volumes": ("[]", models.Volume),
    "gpu": ("", models.Gpu),
    "retries": ("", models.Retries),
    "tolerations": ("[]", models.Toleration),
}
STUDIES = {
    "interval_coverage": "Intervals of one model",
    "gate_error_rates": "Gates against another model",
    "weekly_candidates": "Fifty candidates on one test set",
    "slow_decline": "Slow decline",
    "slice_gates": "Slices",
}


def parameters() -> str:
    """One table per step: key and meaning, with unit and range."""
    return "\n\n".join(f"## {step}\n\n{table(('key', 'meaning'), code(fields))}" for step, fields in describe())


def resources() -> str:
    """Every key of the resources file with its path and meaning."""
    return table(("key", "meaning"), code(_rows(models.Resources, "")))


def studies() -> str:
    """The table that each statistical study has written."""
    tables = ROOT / "bench" / "results" / "studies"
    sections = (f"## {title}\n\n{(tables / f'{name}.md').read_text().strip()}" for name, title in STUDIES.items())
    return "\n\n".join(sections)


def table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    lines = [header, ("---",) * len(header), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("| --- ", "|---").replace("--- |", "---|")


def code(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Rows whose first cell is code, and whose second one is text: angle brackets are no HTML."""
    return ((f"`{key}`", text.replace("<", "\\<")) for key, text in rows)


def _rows(model: type[Section], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field.description or ""
        if name in NESTED:
            suffix, nested = NESTED[name]
            yield from _rows(nested, f"{prefix}{name}{suffix}.")

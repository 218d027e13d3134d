"""Writes generated tables: parameters into README.md, resources into docs/kubeflow.md, studies into docs/gates.md.

`python -m scripts.reference_tables` (`make readme`) writes them. With --check it writes nothing and exits with status 1
if a page differs from the typed models.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from twofold.core.artifacts import write_bytes
from twofold.core.errors import ParameterError
from twofold.kubeflow.definition import resources as models
from twofold.kubeflow.definition.resources import StrictModel
from twofold.orchestration.params_file import describe

ROOT = Path(__file__).resolve().parent.parent
NESTED: Mapping[str, tuple[str, type[StrictModel]]] = {  # a key of the resources: what follows it in a path, its model
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


def parameters() -> str:
    """One table per step: key and meaning, with unit and range."""
    return "\n\n".join(f"**{step}**\n\n{_format_table(fields)}" for step, fields in describe())


def resources() -> str:
    """Every key of the resources file with its path and meaning."""
    return _format_table(_rows(models.Resources, ""))


STUDIES = {
    "interval_coverage": "Intervals of one model",
    "gate_error_rates": "Gates against another model",
    "weekly_candidates": "Fifty candidates on one test set",
    "slow_decline": "Slow decline",
    "slice_gates": "Slices",
}


def studies() -> str:
    """The table that each statistical study has written."""
    tables = ROOT / "bench" / "results" / "studies"
    sections = (f"### {title}\n\n{(tables / f'{name}.md').read_text().strip()}" for name, title in STUDIES.items())
    return "\n\n".join(sections)


PAGES: Mapping[Path, tuple[str, Callable[[], str]]] = {
    ROOT / "README.md": ("parameters", parameters),
    ROOT / "docs" / "kubeflow.md": ("resources", resources),
    ROOT / "docs" / "gates.md": ("studies", studies),
}


def marks(name: str) -> tuple[str, str]:
    """The lines before and after a table."""
    return f"<!-- {name}: made by `make readme` -->", f"<!-- {name}: end -->"


def replace_table(page: Path, name: str, table: str, *, write: bool) -> bool:
    """Replace the table between its two marks in a page; return whether the page differed.

    Raises:
        ParameterError: the page does not contain each mark exactly once.
    """
    text = page.read_text(encoding="utf-8")
    begin, end = marks(name)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ParameterError(f"{page}: must hold the marks '{begin}' and '{end}' once each")
    before, rest = text.split(begin)
    renewed = f"{before}{begin}\n\n{table}\n\n{end}{rest.split(end)[1]}"
    if write and renewed != text:
        write_bytes(page, renewed.encode())
    return renewed != text


def main(words: list[str]) -> int:
    """Write all tables, or compare them with --check."""
    check = words == ["--check"]
    changed = [page for page, (name, table) in PAGES.items() if replace_table(page, name, table(), write=not check)]
    if check and changed:
        print(f"out of date: {', '.join(str(page.relative_to(ROOT)) for page in changed)}; run: make readme")
    return int(check and bool(changed))


def _format_table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| key | meaning |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in rows)])


def _rows(model: type[StrictModel], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field.description or ""
        if name in NESTED:
            suffix, nested = NESTED[name]
            yield from _rows(nested, f"{prefix}{name}{suffix}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

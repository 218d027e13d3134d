"""Keeps two tables in step with the code: the parameters in README.md, the resources in docs/kubeflow.md.

`python -m scripts.reference_tables` writes them (`make readme`); with --check it exits with status 1 if either page
differs from what the typed models say.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from twofold.core.artifacts import write_bytes
from twofold.core.errors import ParameterError
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
from twofold.orchestration.params_file import describe

ROOT = Path(__file__).resolve().parent.parent
BELOW: Mapping[str, tuple[str, type[Part]]] = {
    "steps": ("<task>", Step),
    "security": ("", Security),
    "secrets": ("<s3, mlflow or webhook>", Secret),
    "volumes": ("[]", Volume),
    "gpu": ("", Gpu),
    "retries": ("", Retries),
    "tolerations": ("[]", Toleration),
}  # what a key of the resources holds: under which name, and its model


def parameters() -> str:
    """One table a step: key and meaning, with unit and range."""
    return "\n\n".join(f"**{step}**\n\n{_table(fields)}" for step, fields in describe())


def resources() -> str:
    """Every key of the resources file with its path and meaning."""
    return _table(_rows(Resources, ""))


PAGES: Mapping[Path, tuple[str, Callable[[], str]]] = {
    ROOT / "README.md": ("parameters", parameters),
    ROOT / "docs" / "kubeflow.md": ("resources", resources),
}


def marks(name: str) -> tuple[str, str]:
    """The lines between which a table stands."""
    return f"<!-- {name}: made by `make readme` -->", f"<!-- {name}: end -->"


def replace_table(page: Path, name: str, table: str, *, write: bool) -> bool:
    """Put a table between its two marks in a page; return whether the page differed from it.

    Raises:
        ParameterError: the page does not hold the marks once each.
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
    """Write both tables, or compare them with --check."""
    check = words == ["--check"]
    changed = [page for page, (name, table) in PAGES.items() if replace_table(page, name, table(), write=not check)]
    if check and changed:
        print(f"out of date: {', '.join(str(page.relative_to(ROOT)) for page in changed)}; run: make readme")
    return int(check and bool(changed))


def _table(rows: Iterator[tuple[str, str]] | list[tuple[str, str]]) -> str:
    return "\n".join(["| key | meaning |", "|---|---|", *(f"| `{key}` | {text} |" for key, text in rows)])


def _rows(model: type[Part], prefix: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield prefix + name, field.description or ""
        if name in BELOW:
            between, part = BELOW[name]
            joined = between if between.startswith("[") else f".{between}" if between else ""
            yield from _rows(part, f"{prefix}{name}{joined}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

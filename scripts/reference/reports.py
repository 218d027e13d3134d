"""Files in reports/ with their keys and columns, from reports.yaml beside this file."""

from pathlib import Path
from typing import NamedTuple

from scripts.reference.tables import code, table
from twofold.metrics.classification import HEADLINE
from twofold.orchestration.params_file import load_yaml


class File(NamedTuple):
    """A file below reports/: what it is, and its keys or columns; a star stands for names from the data."""

    path: str
    content: str
    keys: dict[str, str]


def files() -> list[File]:
    """All files; the keys of the headline metrics are explained with all the other metrics."""
    found = {each["file"]: each for each in load_yaml(Path(__file__).with_suffix(".yaml"))["files"]}
    metrics = found["evaluation/metrics.json"]["keys"]
    found["metrics.json"]["keys"] = {name: metrics[name] for name in HEADLINE}
    return [File(path, each["content"], each.get("keys", {})) for path, each in found.items()]


def reports() -> str:
    """A section for each file, those without keys in one table."""
    plain = table(("file", "content"), code((file.path, file.content) for file in files() if not file.keys))
    return "\n\n".join([plain, *(_section(file) for file in files() if file.keys)])


def _section(file: File) -> str:
    name = "column" if file.path.endswith(("csv", "parquet")) else "key"
    title = file.path.replace("*", "\\*")
    return f"## {title}\n\n{file.content}\n\n{table((name, 'meaning'), code(file.keys.items()))}"

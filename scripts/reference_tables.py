"""Every parameter's meaning as Markdown tables, made from the sections' models."""

from pathlib import Path

from twofold.core.artifacts import write_bytes
from twofold.core.errors import ParameterError
from twofold.orchestration.params_file import describe

BEGIN = "<!-- parameters: made by `make readme` -->"
END = "<!-- parameters: end -->"


def parameter_tables() -> str:
    """One table a step: key and meaning, with unit and range."""
    parts = []
    for step, fields in describe():
        rows = [f"| `{key}` | {text} |" for key, text in fields]
        parts.append(f"**{step}**\n\n| key | meaning |\n|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts)


def replace_tables(page: Path, *, write: bool) -> bool:
    """Put the tables between the two marks of a page; return whether the page differed from them."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ParameterError(f"{page}: must hold the marks '{BEGIN}' and '{END}' once each")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    renewed = f"{before}{BEGIN}\n\n{parameter_tables()}\n\n{END}{after}"
    if write and renewed != text:
        write_bytes(page, renewed.encode())
    return renewed != text

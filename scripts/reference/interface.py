"""`twofold.api` as Markdown, read from its source: signatures, docstrings, fields."""

import ast
import inspect
import re
import textwrap
from typing import Any

from twofold import api


def interface() -> str:
    """The example of the module, then every public name."""
    first, _, example = (api.__doc__ or "").strip().partition("\n\n")
    parts = [first.partition(": ")[2].capitalize(), f"```python\n{example}\n```"]
    return "\n\n".join([*parts, *(_entry(name) for name in sorted(api.__all__, key=lambda name: not name.islower()))])


def _entry(name: str) -> str:
    found: Any = getattr(api, name)
    if not callable(found):
        return f"## {name}\n\n{', '.join(f'`{each}`' for each in found)}"
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(found))).body
    text = _docstring(inspect.getdoc(found) or "")
    if isinstance(node, ast.FunctionDef):
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"## {name}\n\n```python\n{name}({ast.unparse(node.args)}){returns}\n```\n\n{text}"
    assert isinstance(node, ast.ClassDef)  # noqa: S101
    fields = [f"{each.target.id}: {ast.unparse(each.annotation)}" for each in node.body if _is_field(each)]  # type: ignore[attr-defined]
    return f"## {name}\n\n```python\n" + "\n".join(fields) + f"\n```\n\n{text}"


def _is_field(node: ast.stmt) -> bool:
    return isinstance(node, ast.AnnAssign)


def _docstring(text: str) -> str:
    """Google's sections (Args, Returns, Raises) become bold titles, with a list of their entries."""
    parts = []
    for block in text.split("\n\n"):
        title = re.match(r"(Args|Returns|Raises):\n", block)
        if not title:
            parts.append(block)
            continue
        body = textwrap.dedent(block[title.end() :])
        entries = [" ".join(entry.split()) for entry in re.split(r"\n(?! )", body)]
        if title[1] == "Returns":
            parts.append(f"**Returns** {' '.join(entries)}")
        else:
            lines = [re.sub(r"^([\w, ]+): ", lambda found: f"- `{found[1]}`: ", entry) for entry in entries]
            parts.append(f"**{title[1]}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts)

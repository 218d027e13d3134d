"""The frame of every HTML page: takes a title, the template of a body and its values, returns one self-contained file.

Style and pictures are inline, and the content security policy forbids the browser to fetch anything, so that the page
opens from a mail, in a sandboxed frame and without a network. It follows the reader's light or dark mode, fits a phone
and prints. The policy allows only the given script, by its SHA-256, so that no name or label can run as code. A page
must be complete without its script too.

A body is a Jinja template in `templates/` (values are escaped). Besides its own values it may use

    figure(picture, caption)    a chart of `twofold.reporting.charts`, in the page's colours
    {{ x | percent }}           0.8841 -> 88.4 %      {{ x | number }}   0.8841 -> 0.884
    {{ n | count }}             12345 -> 12,345       {{ text | code }}  a digest; may break anywhere
    {{ value | shown }}         whichever of these fits
    {{ dict | with_prefix("a.") }}  "b 1, c 2" of {"a.b": 1, "a.c": 2}

where None becomes an en dash, and these classes:

    lead        the opening paragraph               quiet       small print
    facts       a dl of div(dt, dd), as tiles       verdict     a box for the outcome; with good or bad
    note        an aside                            charts      charts side by side
    scroll      around every table                  num         cells with numbers
    explained   a table whose last column is prose  gallery     pictures with captions; pairs: two pictures each
    pair        images side by side, in a figure    slider      around an input of a range
    folded      a details with an h2 in its summary     copy        a command; one click selects all of it
    stack       a table whose cells a phone stacks; each td names its column in data-label
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from twofold.metrics.number_format import count, number, percent

TEMPLATES = Path(__file__).with_name("templates")
PAPER = "#fffffe"
INK = "#1d2429"
MUTED = "#59656e"
GRID = "#dfe3e6"
RIGHT = "#1f6fb2"  # curves of the model, and its correct answers
WRONG = "#c4501b"  # its errors
# A heading is an entry of the contents; that of a folded section names the element inside, so that its link unfolds it.
SECTION = re.compile(r'<h2 (?:id|data-unfolds)="([\w-]+)">(.*?)</h2>')
COLOURS = {"paper": PAPER, "ink": INK, "muted": MUTED, "grid": GRID, "right": RIGHT, "wrong": WRONG}


class Picture(NamedTuple):
    """A picture as SVG and PNG, and its text alternative."""

    svg: bytes
    png: bytes
    alt: str


def render(title: str, template: str, context: Mapping[str, Any], script: str = "") -> str:
    """Render a page.

    Args:
        title: of the window; the body has its own `h1`.
        template: name of the body's Jinja template in `templates/`.
        context: its values; a name that the template uses and the context lacks is an error.
        script: name of a JavaScript file in `templates/`, independent of the context; must not contain `</script`.
    """
    environment = _environment()
    code = read_template(script) if script else ""
    body = environment.get_template(template).render(dict(context))
    return environment.get_template("page.html").render(
        title=title,
        policy=Markup(content_policy(code)),  # noqa: S704
        style=Markup(read_template("page.css")),  # noqa: S704
        contents=[(anchor, Markup(words)) for anchor, words in SECTION.findall(body)],  # noqa: S704
        body=Markup(body),  # noqa: S704
        script=Markup(code),  # noqa: S704
    )


@cache
def _environment() -> Environment:
    """Jinja's environment, which keeps what it has compiled: a step renders several pages."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number, count=count, code=code_markup, shown=format_value)
    environment.filters.update(with_prefix=with_prefix)
    environment.globals.update(figure=figure)
    return environment


def read_template(name: str) -> str:
    """The text of a file in `templates/`."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def content_policy(script: str) -> str:
    """The content security policy of a page: fetches nothing and runs no script but this one."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    if not script:
        return policy
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{policy}; script-src 'sha256-{digest}'"


def format_value(value: float | str | None) -> str:
    """The value of a table cell: text, a decimal number or a whole one."""
    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, float) else count(value)


def code_markup(text: str) -> Markup:
    """Text to copy, such as a digest or a file name."""
    return Markup("<code>{}</code>").format(text)


def with_prefix(values: Mapping[str, str], prefix: str) -> str:
    """The values whose keys begin with a prefix: {"library.torch": "2.15.0"} -> "torch 2.15.0"."""
    return ", ".join(f"{key.removeprefix(prefix)} {values[key]}" for key in values if key.startswith(prefix))


def figure(picture: Picture, caption: str = "") -> Markup:
    """A chart for a page: its colours become the page's, and its ids become unique, so that charts do not clash."""
    svg = picture.svg.decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    head, rest = svg.replace("xlink:href", "href").split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    if view is None:
        raise ValueError("a chart without a viewBox cannot be scaled to the page")
    for name, colour in COLOURS.items():
        rest = rest.replace(colour, f"var(--{name})")
    # The prefix depends on the content alone, so that equal pages have equal bytes.
    prefix = f"c{zlib.crc32(picture.svg):08x}-"
    rest = re.sub(r'\bid="', f'id="{prefix}', rest)
    rest = rest.replace('href="#', f'href="#{prefix}').replace("url(#", f"url(#{prefix}")
    drawing = Markup('<svg {} role="img" aria-label="{}">').format(Markup(view.group()), picture.alt) + Markup(rest)  # noqa: S704
    words = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup("")
    return Markup("<figure>{}{}</figure>").format(drawing, words)

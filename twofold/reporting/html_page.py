"""The shell of every page that Twofold writes: in come a title, a body and its values, out goes one HTML file.

The page is complete in itself. Its style and pictures are inline, and its content policy forbids the browser to fetch
anything, so it opens from a mail, from a sandboxed frame and in twenty years. It follows the reader's light or dark
mode, fits a phone and prints. It has no script but the one that it is given, to which the policy holds by its SHA-256:
nothing that came in with a name or a label can run. A page must say what it has to say without its script too.

A body is a Jinja template in `templates/` (values are escaped). Beside its own values it may use

    figure(picture, caption)    a chart of `twofold.reporting.charts`, in the page's colours
    {{ x | percent }}           0.8841 -> 88.4 %      {{ x | number }}   0.8841 -> 0.884
    {{ n | count }}             12345 -> 12,345       {{ text | code }}  a digest; it may break anywhere
    {{ value | shown }}         whichever of these fits

where None becomes an en dash, and these classes:

    lead        the opening paragraph               quiet       small print
    facts       a dl of div(dt, dd), as tiles       verdict     a box for the outcome; with good or bad
    note        an aside                            charts      figures side by side
    scroll      around every table                  num         cells with figures
    explained   a table whose last column is prose  gallery     figures with an image each; pairs: with two
    pair        images side by side, in a figure    slider      around an input of a range
    contents    a ul of links to the parts, in a nav
    stack       a table that a phone shows row below row; each td says in data-label what its column is
"""

import base64
import hashlib
import re
import zlib
from collections.abc import Mapping
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
RIGHT = "#1f6fb2"  # the model's curves, and what it got right
WRONG = "#c4501b"  # its errors
COLOURS = {"paper": PAPER, "ink": INK, "muted": MUTED, "grid": GRID, "right": RIGHT, "wrong": WRONG}


class Picture(NamedTuple):
    """One picture twice, and in words for who cannot see it."""

    svg: bytes
    png: bytes
    alt: str


def render(title: str, template: str, context: Mapping[str, Any], script: str = "") -> str:
    """The page as text.

    Args:
        title: of the window; the body brings its own `h1`.
        template: name of the body's Jinja template in `templates/`.
        context: its values; one that the template names and the context lacks is an error.
        script: name of a JavaScript file in `templates/`, the same whatever the context; it may hold no `</script`.
    """
    environment = _environment()
    code = text_of(script) if script else ""
    return environment.get_template("page.html").render(
        title=title,
        policy=Markup(policy(code)),  # noqa: S704
        style=Markup(text_of("page.css")),  # noqa: S704
        body=Markup(environment.get_template(template).render(dict(context))),  # noqa: S704
        script=Markup(code),  # noqa: S704
    )


def text_of(name: str) -> str:
    """A file of `templates/` as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def policy(script: str) -> str:
    """The content policy of a page: nothing is fetched, and no script runs but this one."""
    allowed = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    if not script:
        return allowed
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{allowed}; script-src 'sha256-{digest}'"


def cell(value: float | str | None) -> str:
    """A value of a table: a whole number, a figure or text."""
    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, float) else count(value)


def code_markup(text: str) -> Markup:
    """Something to copy: a digest, a file's name."""
    return Markup("<code>{}</code>").format(text)


def figure(picture: Picture, caption: str = "") -> Markup:
    """A chart within the page: its colours become the page's own, its names its own, so that charts do not mix."""
    svg = picture.svg.decode()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    head, rest = svg.replace("xlink:href", "href").split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    if view is None:
        raise ValueError("a chart without a viewBox cannot be scaled to the page")
    for name, colour in COLOURS.items():
        rest = rest.replace(colour, f"var(--{name})")
    # Of the content, so that equal pages have equal bytes.
    own = f"c{zlib.crc32(picture.svg):08x}-"
    rest = re.sub(r'\bid="', f'id="{own}', rest)
    rest = rest.replace('href="#', f'href="#{own}').replace("url(#", f"url(#{own}")
    drawing = Markup('<svg {} role="img" aria-label="{}">').format(Markup(view.group()), picture.alt) + Markup(rest)  # noqa: S704
    words = Markup("<figcaption>{}</figcaption>").format(caption) if caption else Markup("")
    return Markup("<figure>{}{}</figure>").format(drawing, words)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, number=number, count=count, code=code_markup, shown=cell)
    environment.globals.update(figure=figure)
    return environment

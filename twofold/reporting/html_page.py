"""The shell of every page that Twofold writes: in come a title, a body and its values, out goes one HTML file.

The page is complete in itself. Its style and pictures are inline, and its content policy forbids the browser to fetch
anything, so it opens from a mail, from a sandboxed frame and in twenty years. It follows the reader's light or dark
mode, fits a phone and prints. It has no script but the one that it is given, to which the policy holds by its SHA-256:
nothing that came in with a name or a label can run. A page must say what it has to say without its script too.

A body is a Jinja template (values are escaped). Beside its own values it may use

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
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from twofold.metrics.number_format import count, number, percent

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


STYLE = """
:root{color-scheme:light dark;--paper:#fffffe;--ink:#1d2429;--muted:#59656e;--grid:#dfe3e6;--right:#1f6fb2;
--wrong:#c4501b;--soft:#f4f6f7;--good:#1b7a43;--bad:#b3261e}
@media screen and (prefers-color-scheme:dark){:root{--paper:#15191c;--ink:#e6e9eb;--muted:#a3aeb6;--grid:#343c42;
--right:#69aee8;--wrong:#f08a5d;--soft:#1e2428;--good:#62c48c;--bad:#ff8f86}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;overflow-wrap:break-word;background:var(--paper);color:var(--ink);
font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
p,ul,ol,dl.words{max-width:44rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.3rem;line-height:1.3;margin:3rem 0 .5rem;padding-top:1.1rem;border-top:1px solid var(--grid)}
h3{font-size:1rem;margin:1.8rem 0 .4rem}
p{margin:.5rem 0 .9rem}
li{margin:.3rem 0}
a{color:var(--right)}
.lead{font-size:1.15rem;line-height:1.5}
.quiet,figcaption,caption{color:var(--muted);font-size:.9rem}
.note{border-left:3px solid var(--grid);padding:.1rem 0 .1rem 1rem}
.verdict{border-left:4px solid var(--muted);background:var(--soft);padding:.8rem 1.1rem;margin:1.2rem 0}
.verdict.good{border-color:var(--good)}.verdict.bad{border-color:var(--bad)}
.good strong,strong.good{color:var(--good)}.bad strong,strong.bad{color:var(--bad)}
dl.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));margin:1.5rem 0}
dl.facts div{min-width:0;border:1px solid var(--grid);margin:0 -1px -1px 0;padding:.8rem 1rem}
dl.facts dt{color:var(--muted);font-size:.9rem}
dl.facts dd{margin:.1rem 0 0;font-size:1.6rem;line-height:1.25;font-variant-numeric:tabular-nums}
dl.facts dd small{display:block;font-size:.85rem;color:var(--muted);line-height:1.4}
dl.words dt{font-weight:600;margin-top:.7rem}dl.words dd{margin:0}
.scroll{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;width:100%;font-size:.95rem}
caption{text-align:left;padding-bottom:.4rem}
th,td{text-align:left;vertical-align:top;padding:.45rem 1.3rem .45rem 0;border-bottom:1px solid var(--grid)}
thead th{color:var(--muted);font-weight:600;font-size:.85rem;vertical-align:bottom}
tbody th{font-weight:600}.stack tbody th{min-width:9rem}
th:last-child,td:last-child{padding-right:0}
.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td small,th small{color:var(--muted);font-weight:400;font-size:.85em;display:block}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1.5rem 2rem;margin:1.2rem 0}
figure{margin:0;min-width:0}
figure svg{display:block;width:100%;height:auto;max-width:34rem}
figure svg text{font-family:inherit!important}
figcaption{margin-top:.4rem;max-width:34rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(10.5rem,1fr));gap:1.5rem 1.2rem;margin:1.2rem 0}
.pair{display:flex;gap:.3rem;align-items:start}.pair>*{flex:1 1 0;min-width:0}
.gallery.pairs{grid-template-columns:repeat(auto-fill,minmax(min(100%,18rem),1fr))}
.gallery img{display:block;width:100%;height:auto;background:var(--soft);image-rendering:auto}
.slider{border:1px solid var(--grid);padding:.8rem 1.1rem;margin:1rem 0}
.slider label{font-weight:600}.slider output{font-variant-numeric:tabular-nums}
.slider input{display:block;width:100%;height:2.75rem;margin:0;accent-color:var(--right)}
.slider .ends{display:flex;justify-content:space-between;gap:1rem;max-width:none;margin:0;color:var(--muted);
font-size:.9rem}
.slider .ends+p{margin:.7rem 0 0}
button{font:inherit;color:var(--ink);background:var(--soft);border:1px solid var(--muted);padding:.45rem .9rem;
min-height:2.75rem;cursor:pointer}
a:focus-visible,button:focus-visible,input:focus-visible,[tabindex]:focus-visible{outline:3px solid var(--right);
outline-offset:2px}
[hidden]{display:none!important}
ul.contents{display:flex;flex-wrap:wrap;gap:0 1.4rem;list-style:none;padding:0;margin:1.2rem 0 0;max-width:none}
ul.contents a{display:inline-block;padding:.35rem 0}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
footer{margin-top:3rem;padding-top:1rem;border-top:1px solid var(--grid);color:var(--muted);font-size:.9rem}
@media(max-width:34rem){main{padding-top:1.5rem}h1{font-size:1.55rem}.lead{font-size:1.06rem}
dl.facts{grid-template-columns:1fr 1fr}dl.facts div{padding:.6rem .7rem}dl.facts dd{font-size:1.35rem}
.gallery{grid-template-columns:1fr 1fr}.gallery.pairs{grid-template-columns:1fr}
table{font-size:.88rem}th,td{padding-right:.8rem}
.explained thead{display:none}.explained tr{display:grid;grid-template-columns:1fr auto;padding:.4rem 0;
border-bottom:1px solid var(--grid)}.explained th,.explained td{border:0;padding:.1rem 0}
.explained td:last-child{grid-column:1/-1;color:var(--muted)}
.stack thead{display:none}.stack tr{display:grid;grid-template-columns:repeat(auto-fill,minmax(6.8rem,1fr));
gap:.4rem .6rem;padding:.6rem 0;border-bottom:1px solid var(--grid)}
.stack th,.stack td{border:0;padding:0;text-align:left}.stack th{grid-column:1/-1}
.stack td::before{content:attr(data-label);display:block;color:var(--muted);font-size:.85em;font-weight:400}}
@media print{@page{size:A4;margin:16mm 15mm}body{font-size:10.5pt}main{max-width:none;padding:0}
.slider,nav,p>.scripted{display:none}figure,tr,dl.facts,.verdict{break-inside:avoid}h2,h3,caption,h2+p{break-after:avoid}.scroll{overflow:visible}
h2{margin-top:1.8rem}dl.facts{grid-template-columns:repeat(4,1fr)}dl.facts div{padding:.5rem .7rem}
dl.facts dd{font-size:1.3rem}dl.facts small{font-size:.75rem}
.charts{grid-template-columns:1fr 1fr}.gallery{grid-template-columns:repeat(5,1fr);gap:1rem}
.gallery.pairs{grid-template-columns:repeat(3,1fr)}
.gallery figcaption{font-size:.75rem}}
"""

SHELL = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<meta name="referrer" content="no-referrer">
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>{{ style }}</style>
</head>
<body>
<main>
{{ body }}
</main>
{% if script %}<script>{{ script }}</script>
{% endif %}
</body>
</html>
"""


def render(title: str, body: str, context: Mapping[str, Any], script: str = "") -> str:
    """The page as text.

    Args:
        title: of the window; the body brings its own `h1`.
        body: a Jinja template, see above.
        context: its values; one that the template names and the context lacks is an error.
        script: JavaScript, the same whatever the context; it may hold no `</script`.
    """
    environment = _environment()
    filled = environment.from_string(body).render(dict(context))
    return environment.from_string(SHELL).render(
        title=title,
        policy=Markup(policy(script)),  # noqa: S704
        style=Markup(STYLE),  # noqa: S704
        body=Markup(filled),  # noqa: S704
        script=Markup(script),  # noqa: S704
    )


def policy(script: str) -> str:
    """The content policy of a page: nothing is fetched, and no script runs but this one."""
    allowed = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    if not script:
        return allowed
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"{allowed}; script-src 'sha256-{digest}'"


def shown(value: float | str | None) -> str:
    """A value of a table: a whole number, a figure or text."""
    if isinstance(value, str):
        return value
    return number(value) if isinstance(value, float) else count(value)


def code(text: str) -> Markup:
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
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=percent, number=number, count=count, code=code, shown=shown)
    environment.globals.update(figure=figure)
    return environment

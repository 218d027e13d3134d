"""The frame of the pages: self-contained, safe with any value, charts in the page's colours."""

import base64
import hashlib
import re

import pytest
from jinja2 import UndefinedError

from twofold.metrics import number_format
from twofold.metrics.classification import ConfusionMatrix
from twofold.reporting import charts, html_page


@pytest.fixture
def render(tmp_path, monkeypatch):
    """Renders a page from the text of its body and, if it has one, of its script."""
    for name in ("page.html", "page.css"):
        (tmp_path / name).write_text(html_page.read_template(name))
    monkeypatch.setattr(html_page, "TEMPLATES", tmp_path)

    def rendered(title, body, context, script=""):
        (tmp_path / "body.html").write_text(body)
        (tmp_path / "script.js").write_text(script)
        html_page._environment.cache_clear()
        return html_page.render(title, "body.html", context, "script.js" if script else "")

    yield rendered
    html_page._environment.cache_clear()


def chart(found=3):
    return charts.draw_confusion_matrix(ConfusionMatrix(found, 1, 4, 1), ("good", 'b"<a>d'))


def test_a_page_is_self_contained_and_runs_no_script(render):
    html = render("Title", "<h1>{{ x }}</h1>{{ figure(chart) }}", {"x": 1, "chart": chart()})
    assert "http" not in html.replace("http-equiv", "")
    assert "<script" not in html
    assert not re.search(r"@import|<iframe|<object|srcset|\bon\w+=", html)
    assert all(address.startswith(("#", "data:")) for address in re.findall(r'(?:href|src)="([^"]*)"', html))
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)\)", html))
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in html
    assert html.startswith("<!DOCTYPE html>\n<html lang=")


def test_values_are_escaped_in_body_title_and_chart(render):
    evil = "<script>alert(1)</script>"
    html = render(evil, "<p>{{ x }}</p>{{ figure(chart, x) }}{{ x | code }}", {"x": evil, "chart": chart()})
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 4
    assert "b&#34;&lt;a&gt;d images" in html


def test_headings_with_an_anchor_are_the_contents_in_their_order(render):
    body = '<h2 id="a">{{ x }}</h2><h2>No</h2><summary><h2 data-unfolds="b">B</h2></summary><div id="b"></div>'
    html = render("Title", body, {"x": "<A>"})
    assert re.findall(r'<li><a href="#(\w)">(.*?)</a></li>', html) == [("a", "&lt;A&gt;"), ("b", "B")]
    assert "<nav" not in render("Title", '<h2 id="a">A</h2>', {})


def test_a_name_missing_from_the_context_is_an_error(render):
    with pytest.raises(UndefinedError, match="'missing' is undefined"):
        render("Title", "{{ missing }}", {})


def test_charts_take_the_colours_of_the_page_and_do_not_share_names(render):
    html = render("Title", "{{ figure(a) }}{{ figure(b) }}", {"a": chart(3), "b": chart(7)})
    drawings = html[html.index("<figure>") :]
    for colour in html_page.COLOURS.values():
        assert colour not in drawings
    assert "var(--right)" in drawings
    for name in html_page.COLOURS:
        # Once for light and print, once for dark.
        assert html.count(f"--{name}:") == 2
    names = re.findall(r'\bid="([^"]+)"', html)
    assert len(names) == len(set(names))
    used = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html))
    assert used <= set(names)
    assert html.count('role="img" aria-label="Confusion matrix. Of ') == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8841, "88.4 %"),
        (0.0, "0.0 %"),
        (1.0, "100.0 %"),
        (0.99999, "99.9 %"),  # below 1
        (None, "\N{EN DASH}"),
    ],
)
def test_percent(value, text):
    assert number_format.percent(value).replace("\N{NARROW NO-BREAK SPACE}", " ") == text


def test_number_and_count():
    assert (
        number_format.number(0.88416),
        number_format.number(None),
        number_format.count(12345),
        number_format.count(None),
    ) == (
        "0.884",
        "\N{EN DASH}",
        "12,345",
        "\N{EN DASH}",
    )


def test_a_script_is_allowed_by_its_digest_alone(render):
    script = "document.title = 'moved' // {{ x }} & <b>"
    html = render("Title", "<p>{{ x }}</p>", {"x": "<script>alert(1)</script>"}, script)
    assert re.findall(r"<script>(.*?)</script>", html) == [script]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html).group(1)
    assert policy.startswith("default-src 'none'; ")
    assert policy.endswith(f"; script-src 'sha256-{digest}'")
    assert "script-src" not in render("Title", "", {})


def contrast(one, other):
    """Of two colours, by WCAG 2: 1 to 21."""

    def luminance(colour):
        levels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [level / 12.92 if level <= 0.03928 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_colour_of_text_stands_out_from_every_ground():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    light, dark = (
        dict(re.findall(r"--(\w+):(#\w{6})", part))
        for part in html_page.read_template("page.css").split("@media screen and (pref")[:2]
    )
    assert set(light) == set(dark) >= {"paper", "soft", "ink", "muted", "right", "wrong", "good", "bad"}
    for colours in (light, dark):
        # Charts are drawn on paper only.
        pairs = [(text, ground) for text in ("ink", "muted", "right", "good", "bad") for ground in ("paper", "soft")]
        for text, ground in [*pairs, ("wrong", "paper")]:
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground, colours)

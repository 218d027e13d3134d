"""Values in Markdown stay text, whatever they contain."""

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from twofold.core import markdown


class Elements(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.found, self.text = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)

    def handle_data(self, data):
        self.text.append(data)


HOSTILE = [
    "<script>alert(1)</script>",
    "a | b | c",
    "![](http://127.0.0.1:9/x.png)",
    "[good](javascript:alert(1))",
    "`code` and ``more``",
    "*bold* _slant_ ~~gone~~",
    "two\n\n# lines",
    "&lt;b&gt; &amp;",
    "back\\slash \\| \\",
    "snake_case_name",
    "$x$",
]


def rendered(lines):
    html = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render("\n".join(lines))
    elements = Elements(html)
    return elements.found, " ".join("".join(elements.text).split())


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_stays_text_in_a_cell(value):
    found, words = rendered(markdown.table(["a", "b"], [["left", markdown.text(value)]]))
    assert found == ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]
    assert words == " ".join(f"a b left {value}".split())


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_stays_code_in_a_list(value):
    found, words = rendered([f"- It is {markdown.code(value)}."])
    assert found == ["ul", "li", "code"]
    assert words == " ".join(f"It is {value}.".split())

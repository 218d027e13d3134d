"""One word for one thing: the words below are in no help text, description of a parameter, page, README or document."""

import argparse
import re

import pytest

from tests.test_documents import PAGES, ROOT
from twofold.cli import main
from twofold.cli.kfp.command import COMMANDS
from twofold.orchestration.params_file import describe

DOCUMENTS = [*PAGES, *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docker/README.md"))]
TEMPLATES = sorted((ROOT / "twofold" / "reporting" / "templates").glob("*.html"))
BANNED = {  # a regular expression: what to write
    r"figures?": "metric",
    r"memos?|memoi[sz]ed?|remembered": "cache",
    r"never saw them": "an out-of-fold prediction contradicts the label",
    r"read without looking": "label leakage, spurious correlation",
    r"looks? alike|held back": "near duplicate, exact duplicate, split leakage",
    r"line is drawn|draw the line": "decision threshold, operating point",
    r"lay an image down|lay images down": "test-time augmentation",
    r"pictures? change a little|alterations?": "robustness, perturbation",
    r"what chance may have done|end of (?:an|the|its) interval": "confidence interval, lower or upper bound",
    r"small steps down": "guards against slow decline",
    r"witness(?:es)?": "golden samples",
    r"rehears(?:al|als|e|ed)": "smoke test",
    r"held to its": "verify against a checksum",
    r"damage|malice": "corruption, tampering",
    r"asks? for nothing": "self-contained file",
    r"signs? of life|waiter's own clock": "heartbeat, lease, fencing number",
    r"faces?": "KFP component, interface",
    r"MLflow's page|Kubeflow's page": "the MLflow UI, the Kubeflow UI",
    r"wins over": "takes precedence",
    r"(?:,|;|or) else": "otherwise",
    r"away with it": "clean up",
    r"whoever|of those that": "a noun",
    r"twofold-pipelines": "twofold kfp",
}


def banned_words(text):
    """Every banned word in a text, with what to write instead."""
    found = []
    for pattern, better in BANNED.items():
        for match in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", text, re.IGNORECASE):
            found.append(f"{' '.join(text[max(match.start() - 30, 0) : match.end() + 30].split())!r}: write {better}")
    return found


def prose_of_markdown(text):
    """Without code, comments, addresses and what an HTML tag holds."""
    text = re.sub(r"^```.*?^```|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"``[^`]+``|`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", text)


def prose_of_template(text):
    """What a reader of the page sees: without tags, styles, scripts, and code of the template but its texts."""
    text = re.sub(r"<(script|style)\b.*?</\1>|\{#.*?#\}|<code>.*?</code>", " ", text, flags=re.DOTALL)
    text = re.sub(r"\{[{%].*?[%}]\}", lambda found: " ".join(re.findall(r'"([^"]*)"', found[0])), text, flags=re.DOTALL)
    return re.sub(r"<[^>]*>", " ", text)


def help_texts(parser):
    """Descriptions, epilogues and help of all arguments and commands, from the root down."""
    yield from (parser.prog, parser.description or "", parser.epilog or "")
    for action in parser._actions:
        yield action.help or ""
        if isinstance(action, argparse._SubParsersAction):
            yield from (each.help or "" for each in action._choices_actions)
            for child in action.choices.values():
                yield from help_texts(child)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("The figures of the test", "metric"),
        ("it is there, or else nothing", "otherwise"),
        ("Whoever approves", "a noun"),
        ("a Sign of life", "heartbeat"),
    ],
)
def test_a_banned_word_is_found(text, word):
    assert word in "".join(banned_words(text))


def test_code_and_similar_words_are_none():
    text = "everything else, `{figure: f1}`, configures, [x](figure.md)\n```yaml\n- figure: f1\n```\n"
    assert banned_words(prose_of_markdown(text)) == []
    assert banned_words(prose_of_template('<figure id="figures">{{ figure(x, "a chart") }}</figure>')) == []
    assert banned_words(prose_of_template('{{ f(x, "no figures") }}')) != []


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_document_holds_a_banned_word(page):
    assert banned_words(prose_of_markdown(page.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_page_holds_a_banned_word(template):
    assert banned_words(prose_of_template(template.read_text(encoding="utf-8"))) == []


def test_no_help_text_and_no_parameter_holds_a_banned_word():
    texts = [*help_texts(main._parser([*COMMANDS])), *(text for _, fields in describe() for _, text in fields)]
    assert len(texts) > 200
    assert banned_words(re.sub(r"`[^`]*`", " ", "\n".join(texts))) == []

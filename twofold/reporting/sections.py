"""The text of two parts that evaluation.html and decision.html share: answers with their maps, and robustness.

Templates for `twofold.reporting.html_page`. ANSWERS takes `explained` (see `twofold.evaluation.explanations`) and `views`; ROBUSTNESS takes
`robustness`, the rows that `rows` makes of metrics.json.
"""

from collections.abc import Mapping
from typing import Any

from twofold.evaluation.robustness import ALTERATIONS, CHANGE, FIGURES, PLAIN
from twofold.evaluation.slice_names import FEWEST, in_order
from twofold.metrics.classification import Counts
from twofold.reporting.wording import EXPLAINED, ends, rate

NAMES = {"roc_auc": "ROC-AUC"}

ANSWERS = """
{% macro gallery(cases) %}
<div class="gallery pairs">
{% for answer, overlay, words in cases %}
<figure class="case">
{% if overlay %}<div class="pair">{% endif %}
<img src="{{ answer.image }}" width="{{ answer.size }}" height="{{ answer.size }}"
alt="Test image {{ answer.sha256[:12] }}: labelled {{ answer.label }}, the model says {{ answer.answer }}">
{% if overlay %}<img src="{{ overlay }}" width="{{ answer.size }}" height="{{ answer.size }}" alt="{{ words }}"></div>
{% endif %}
<figcaption>Labelled <b>{{ answer.label }}</b>, the model says <b>{{ answer.answer }}</b>
({{ answer.sure | percent }} sure)
{%- for text in answer.slices %}<br>{{ text }}{% endfor %}<br>{{ answer.sha256[:12] | code }}</figcaption></figure>
{% endfor %}
</div>
{% endmacro %}
{% macro legend() %}
{% if explained.legend %}
<p>Beside each picture, in colours, where in it the network found what speaks for its answer.
<a href="#maps">What such a map can tell, and what not</a></p>
<figure><img src="{{ explained.legend }}" width="240" height="14"
alt="Colours of the maps, from grey, where nothing speaks for the answer, over violet and red to yellow">
<figcaption>From grey: nothing here speaks for the answer, to yellow: within this picture, most does.</figcaption>
</figure>
{% endif %}
{% endmacro %}
{% set n = explained.errors | length %}
<h2 id="errors">{{ "The " ~ n ~ " most confident errors" if n > 1 else "The most confident errors" }}</h2>
{% if not n %}
<p>The model made no error on the test images.</p>
{% else %}
<p>{{ "These are the wrong answers" if n > 1 else "This is the wrong answer" }} of which the model was surest. An error
here can be the model's, or the label's: have someone who knows the images look at them first.</p>
{% if explained.errors[0].answer.image %}
{{ legend() }}
{{ gallery(explained.errors) }}
{% else %}
<div class="scroll" role="region" aria-label="The most confident errors" tabindex="0"><table>
<thead><tr><th scope="col">image</th><th scope="col">labelled</th><th scope="col">the model says</th>
<th scope="col" class="num">how sure</th></tr></thead>
<tbody>
{% for answer, overlay, words in explained.errors %}
<tr class="case"><th scope="row">{{ answer.sha256[:12] | code }}
{% for text in answer.slices %}<small>{{ text }}</small> {% endfor %}</th><td>{{ answer.label }}</td>
<td>{{ answer.answer }}</td><td class="num">{{ answer.sure | percent }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
<p class="quiet">An image's code is the beginning of its SHA-256; the manifest of the data names its file.</p>
{% endif %}
{% if explained.hits and explained.hits[0].answer.image %}
<h3>Some right answers, to compare with</h3>
<p>Up to four of each class, taken without a look at them.</p>
{% if not n %}{{ legend() }}{% endif %}
{{ gallery(explained.hits) }}
{% endif %}
<h3 id="maps">What the coloured maps can tell, and what not</h3>
{% if explained.missing %}
<p>There are none: {{ explained.missing }}.</p>
{% else %}
<p>A map (Grad-CAM, Selvaraju et al. 2017) shows where in the picture the network found what speaks for the answer that
it gave. It has {{ explained.positions[0] }} by {{ explained.positions[1] }} positions, spread over the whole picture:
it points to a region and never to a line. Its colours are those of one picture and cannot be compared between two.
{% if views > 1 %}The answer is a mean over {{ views }} ways to turn and mirror the picture; the map is that of the
picture as it is.{% endif %}</p>
<p>It shows where, and not what. A map that lies beside the defect is a reason to doubt an answer; one that lies on it
is no proof that the answer was given for the right reason. And a map can look sensible while it says nothing of the
model: Adebayo et al. (2018) found kinds of maps that stay the same when a network forgets all that it has learned. So
the same maps were made with this network untrained, with random weights: their rank correlation with those above is
{{ explained.untrained | number(2) }} (the median; 1 would mean the same maps, 0 nothing in common).</p>
{% endif %}
"""

ROBUSTNESS = """
{% if robustness %}
<h2 id="robustness">When the pictures change a little</h2>
<p>Of {{ robustness[0].n | count }} test images, altered copies were made that a person would judge the same, and the
model answered for those too, at its threshold. Where a figure changes much, the answers hang on what another camera, or
another way of saving the images, would change as well. Below each figure: how it changes, and the 95 % interval of that
change (paired; Tango for rates, DeLong for the area).</p>
<div class="scroll" role="region" aria-label="When the pictures change a little" tabindex="0">
<table class="stack">
<thead><tr><th scope="col">pictures</th><th scope="col" class="num">other answers</th>
{% for cell in robustness[0].cells %}<th scope="col" class="num">{{ cell.title }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in robustness %}
<tr><th scope="row">{{ row.words }}</th><td class="num" data-label="other answers">{{ row.changed | count }}</td>
{% for cell in row.cells %}
<td class="num" data-label="{{ cell.title }}">{{ cell.value | number }}
{% if cell.change %}
<small><strong class="{{ cell.tone }}">{{ cell.change }}</strong></small>
<small>{{ cell.low }} to {{ cell.high }}</small>
{% endif %}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p class="quiet">A change is coloured where its whole interval lies on one side of 0. Of so many intervals, one or two
in a table like this one do so by chance alone.</p>
{% endif %}
"""

MOST_VALUES = 20  # of a slice column that a page shows; slices.csv has all
TEMPLATE = """
{% macro part(rate) %}
{{ rate.value | percent }}{% if rate.interval %} <small>{{ rate.interval }}</small>{% endif %}
{% endmacro %}
{% for slice in slices %}
<h2{% if loop.first %} id="slices"{% endif %}>By {{ slice.name }}</h2>
{% if slice.about %}<p>{{ slice.about }}</p>{% endif %}
<div class="scroll" role="region" aria-label="By {{ slice.name }}" tabindex="0"><table class="stack">
<thead><tr><th scope="col">{{ slice.name }}</th><th scope="col" class="num">images</th><th scope="col"
class="num">{{ positive }}</th><th scope="col" class="num">right answers</th><th scope="col" class="num">{{ positive }}
found</th><th scope="col" class="num">false alarms</th><th scope="col" class="num">ROC-AUC</th></tr></thead>
<tbody>
{% for row in slice.rows %}
<tr{% if not row.judged %} class="quiet"{% endif %}><th scope="row">{{ row.value }}
{% if not row.judged %}<small>too few to judge</small>{% endif %}</th>
<td class="num" data-label="images">{{ row.n | count }}</td>
<td class="num" data-label="{{ positive }}">{{ row.positive | count }}</td>
<td class="num" data-label="right answers">{{ part(row.accuracy) }}</td>
<td class="num" data-label="{{ positive }} found">{{ part(row.recall) }}</td>
<td class="num" data-label="false alarms">{{ part(row.alarms) }}</td>
<td class="num" data-label="ROC-AUC">{{ row.roc_auc | number }}
{% if row.roc_auc_interval %}<small>{{ row.roc_auc_interval }}</small>{% endif %}</td></tr>
{% endfor %}
</tbody></table></div>
{% if slice.more %}<p class="quiet">{{ slice.more | count }} rarer values are in slices.csv.</p>{% endif %}
{% if slice.few %}<p class="quiet">On fewer than {{ slice.fewest }} images a figure says more about chance than about
the model. It is shown, and nothing is judged by it.</p>{% endif %}
{% for line in slice.missing %}<p class="quiet">&ndash; {{ line }}</p>{% endfor %}
<p class="quiet">Where two intervals overlap widely, the difference may be chance.</p>
{% endfor %}
"""


def rows(measured: Mapping[str, Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The rows of ROBUSTNESS from what `twofold.evaluation.robustness` measured; none if it was not.

    Their order is that of the alterations, whatever that of `measured`: metrics.json is sorted by name.
    """
    found = measured or {}
    return [
        {
            "words": ALTERATIONS[name].words if name in ALTERATIONS else "as they are",
            "n": own["n"],
            "changed": own.get("changed"),
            "cells": [_cell(own, figure) for figure in FIGURES],
        }
        for name in (PLAIN, *ALTERATIONS)
        if (own := found.get(name))
    ]


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; 0 has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _cell(own: Mapping[str, Any], figure: str) -> dict[str, Any]:
    ends = own.get("intervals", {}).get(figure + CHANGE)
    plain = {"title": NAMES.get(figure, figure), "value": own.get(figure), "change": ""}
    if ends is None:
        return plain
    return plain | {
        "change": signed(own[figure + CHANGE]),
        "low": signed(ends["low"]),
        "high": signed(ends["high"]),
        "tone": "bad" if ends["high"] < 0 else "good" if ends["low"] > 0 else "",
    }


def tables(slices: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One table a slice column, as TEMPLATE shows it."""
    return [_table(name, values) for name, values in slices.items()]


def _table(name: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shown = in_order(name, values)[:MOST_VALUES]
    rows = []
    reasons: dict[str, list[str]] = {}
    for value in shown:
        own = Counts(*(values[value][field] for field in Counts._fields))
        rows.append(
            {
                "value": value,
                "judged": values[value]["judged"],
                "n": own.n,
                "positive": own.positive,
                "accuracy": rate(own.correct, own.n),
                "recall": rate(own.true_positive, own.positive),
                "alarms": rate(own.false_positive, own.negative),
                "roc_auc": values[value].get("roc_auc"),
                "roc_auc_interval": ends(values[value], "roc_auc"),
            }
        )
        for figure in ("recall", "specificity", "roc_auc"):
            if reason := values[value].get("undefined", {}).get(figure):
                reasons.setdefault(value, [])
                if reason not in reasons[value]:
                    reasons[value].append(reason)
    missing = [f"{value}: {' and '.join(why)}, so that some figures have no value" for value, why in reasons.items()]
    return {
        "name": name,
        "about": EXPLAINED.get(name, ""),
        "rows": rows,
        "fewest": FEWEST,
        "few": not all(row["judged"] for row in rows),
        "more": len(values) - len(shown),
        "missing": missing,
    }

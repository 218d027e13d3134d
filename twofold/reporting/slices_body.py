"""The part of both pages that shows a test by its slices: in comes `slices` of metrics.json, out go tables.

TEMPLATE is for `twofold.reporting.html_page` and takes `slices`, made by `tables`, and `positive`, the name of the class.
"""

from collections.abc import Mapping
from typing import Any

from twofold.evaluation.slice_names import FEWEST, in_order
from twofold.metrics.classification import Counts
from twofold.reporting.rates import ends, rate
from twofold.reporting.wording import EXPLAINED

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

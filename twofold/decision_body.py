"""The text of decision.html, for the people who answer for a model; `twofold.decision_page` fills it."""

from twofold import comparison_body

BODY = (
    """
<header>
<p class="quiet">{{ name }}: {{ positive }} or {{ negative }}</p>
<h1>{{ headline }}</h1>
</header>

<div class="verdict {{ 'good' if good else 'bad' }}" role="status">
<p><strong>{{ "Every gate that applies is passed." if good else "The gates are not passed." }}</strong>
{{ consequence }}</p>
{% if reasons %}
<ul>
{% for reason in reasons %}<li>{{ reason }}</li>
{% endfor %}
</ul>
{% endif %}
</div>

<h2>The gates</h2>
<p>Every gate of <code>params.yaml</code> (<code>register.gates</code>) is evaluated, whatever the others say. A figure
that is missing or not a number does not pass. A bound is the end of a 95 % interval; against the champion, the bound is
how much better this model is at least (one-sided, 95 %), on the same images.
{% if champion is none %}There is no champion to compare with, so gates against one do not apply.{% else %}The champion
is version {{ champion.version }}.{% endif %}</p>
<div class="scroll" role="region" aria-label="The gates" tabindex="0"><table id="gates">
<thead><tr><th scope="col">gate</th><th scope="col" class="num">figure</th><th scope="col" class="num">bound</th>
<th scope="col" class="num">limit</th><th scope="col" class="num">images</th><th scope="col">verdict</th></tr></thead>
<tbody>
{% for gate in gates %}
<tr><th scope="row" style="overflow-wrap:anywhere">{{ gate.name }}
{% if gate.detail %}<div class="quiet" style="font-weight:400">{{ gate.detail }}</div>{% endif %}</th>
<td class="num">{{ gate.value | number(4) }}</td><td class="num">{{ gate.bound | number(4) }}</td>
<td class="num">{{ gate.limit | number(4) }}</td><td class="num">{{ gate.n | count }}</td>
<td><strong class="{{ gate.tone }}">{{ gate.word }}</strong></td></tr>
{% else %}
<tr><td colspan="6">There are none.</td></tr>
{% endfor %}
</tbody></table></div>

<h2>Figures</h2>
<p>On {{ n | count }} test images, {{ n_positive | count }} of them {{ positive }}, that neither training nor the
threshold has seen.</p>
<div class="scroll" role="region" aria-label="Figures" tabindex="0"><table id="figures">
<thead><tr><th scope="col">figure</th><th scope="col" class="num">this model</th>
<th scope="col" class="num">95 % interval</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row">{{ row.title }}</th><td class="num" data-figure="{{ row.key }}">{{ row.own | number }}</td>
<td class="num">{{ row.interval | shown }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="quiet">Higher is better, except for log loss, Brier score and calibration error. The interval is how far
chance alone may have moved a figure, images taken as independent: Wilson for rates, DeLong for ROC-AUC, simulation for
the calibration error, BCa bootstrap for the others.</p>
"""
    + comparison_body.BODY
    + """
<h2>How it answers</h2>
<div class="charts">
{{ figure(charts.confusion, "Every test image, by what it is and by what the model said. Blue is right, orange is "
"wrong.") }}
{{ figure(charts.scores, "How the test images lie on either side of the threshold.") }}
{% if charts.roc %}
{{ figure(charts.roc, "What is found against the false alarms that it costs, at every threshold.") }}
{% endif %}
</div>
<p class="quiet">More, with the most confident errors as pictures, is in <code>evaluation.html</code>, which is logged
with the run.</p>

{% for slice in slices %}
<h2>By {{ slice.name }}</h2>
<div class="scroll" role="region" aria-label="By {{ slice.name }}" tabindex="0"><table>
<thead><tr><th scope="col">{{ slice.name }}</th><th scope="col" class="num">images</th>
<th scope="col" class="num">{{ positive }}</th><th scope="col" class="num">accuracy</th>
<th scope="col" class="num">recall</th><th scope="col" class="num">specificity</th>
<th scope="col" class="num">ROC-AUC</th></tr></thead>
<tbody>
{% for row in slice.rows %}
<tr><th scope="row">{{ row.value }}</th><td class="num">{{ row.n | count }}</td>
<td class="num">{{ row.n_positive | count }}</td><td class="num">{{ row.accuracy | number }}</td>
<td class="num">{{ row.recall | number }}</td><td class="num">{{ row.specificity | number }}</td>
<td class="num">{{ row.roc_auc | number }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if slice.more %}<p class="quiet">{{ slice.more | count }} rarer values are in slices.csv.</p>{% endif %}
{% endfor %}

{% if trainings %}
<h2>How it was trained</h2>
<div class="charts">
{% for title, picture in trainings %}
{{ figure(picture, title + ": the loss after each pass over the training images.") }}
{% endfor %}
</div>
{% endif %}

<h2>Where it comes from</h2>
{% for title, rows in lineage %}
<h3>{{ title }}</h3>
<div class="scroll" role="region" aria-label="{{ title }}" tabindex="0"><table>
<tbody>
{% for key, value in rows %}
<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endfor %}

<h2>To look further</h2>
<p>MLflow's page on this run: {{ recorded.open | code }}
{%- if recorded.page %}, then {{ recorded.page | code }}{% endif %}.</p>
<footer>The figures are agreement with the labels of this test, which comes from the same collection as the training
images. If models are changed again and again until this page is green, the test has become something to learn
from.</footer>
"""
)

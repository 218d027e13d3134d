"""The text of decision.html, for the people who answer for a model; `twofold.reporting.decision_page` fills it."""

from twofold.audit import summary
from twofold.reporting import comparison_body, data_summary, sections, threshold_slider

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

<nav aria-label="On this page"><ul class="contents">
{% for anchor, words in contents %}
<li><a href="#{{ anchor }}">{{ words }}</a></li>
{% endfor %}
</ul></nav>

<h2 id="gates">The gates</h2>
<p>Every gate of <code>params.yaml</code> (<code>register.gates</code>) is evaluated, whatever the others say. A figure
that is missing or not a number does not pass. A bound is the end of a 95 % interval; against the champion, the bound is
how much better this model is at least (one-sided, 95 %), on the same images.
{% if champion is none %}There is no champion to compare with, so gates against one do not apply.{% else %}The champion
is version {{ champion.version }}.{% endif %}</p>
<div class="scroll" role="region" aria-label="The gates" tabindex="0"><table id="gate-table" class="stack">
<thead><tr><th scope="col">gate</th><th scope="col" class="num">figure</th><th scope="col" class="num">bound</th>
<th scope="col" class="num">limit</th><th scope="col" class="num">images</th><th scope="col">verdict</th></tr></thead>
<tbody>
{% for gate in gates %}
<tr><th scope="row" style="overflow-wrap:anywhere">{{ gate.name }}
{% if gate.detail %}<div class="quiet" style="font-weight:400">{{ gate.detail }}</div>{% endif %}</th>
<td class="num" data-label="figure">{{ gate.value | number(4) }}</td>
<td class="num" data-label="bound">{{ gate.bound | number(4) }}</td>
<td class="num" data-label="limit">{{ gate.limit | number(4) }}</td>
<td class="num" data-label="images">{{ gate.n | count }}</td>
<td data-label="verdict"><strong class="{{ gate.tone }}">{{ gate.word }}</strong></td></tr>
{% else %}
<tr><td colspan="6">There are none.</td></tr>
{% endfor %}
</tbody></table></div>

<h2 id="figures">Figures</h2>
<p>On {{ n | count }} test images, {{ n_positive | count }} of them {{ positive }}, that neither training nor the
threshold has seen.</p>
<div class="scroll" role="region" aria-label="Figures" tabindex="0"><table id="figure-table">
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
<h2 id="line">Where the line is drawn</h2>
"""
    + threshold_slider.TEMPLATE
    + """
<h2 id="curves">How it answers</h2>
<div class="charts">
{{ figure(charts.confusion, "Every test image, by what it is and by what the model said. Blue is right, orange is "
"wrong.") }}
{{ figure(charts.scores, "How the test images lie on either side of the threshold.") }}
{{ figure(charts.roc, "What is found against the false alarms that it costs, at every threshold.") }}
{{ figure(charts.precision_recall, "How far an answer can be trusted against how much is found, at every threshold.") }}
{{ figure(charts.reliability, "What the model said, from left to right, against how many of such images truly are " ~
positive ~ ". On the dashed line the probabilities hold. Its temperature, fitted on validation, is " ~
(temperature | number(2)) ~ ".") }}
</div>
<p class="quiet">The same in plain words is in <code>evaluation.html</code>, which is logged with the run.</p>
"""
    + sections.TEMPLATE
    + sections.ROBUSTNESS
    + sections.ANSWERS
    + data_summary.TEMPLATE
    + summary.TEMPLATE
    + """
{% if trainings %}
<h2 id="training">How it was trained</h2>
<div class="charts">
{% for title, picture in trainings %}
{{ figure(picture, title + ": the loss after each pass over the training images.") }}
{% endfor %}
</div>
{% endif %}

<h2 id="lineage">Where it comes from</h2>
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

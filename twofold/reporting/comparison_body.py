"""The text of decision.html on the candidate beside the champion; `twofold.reporting.comparison_section` fills it."""

BODY = """
{% if beside %}
<h2 id="champion">Beside the champion</h2>
{% if beside.problem %}
<p>Version {{ beside.version }} could not be compared: {{ beside.problem }}</p>
{% else %}
<p>Both models answered the same {{ beside.n | count }} test images ({{ beside.n_positive | count }} {{ positive }}),
each at its own threshold. {{ beside.left_out }} Their fingerprint is {{ beside.fingerprint | code }}.</p>
<div class="scroll" role="region" aria-label="Beside the champion" tabindex="0"><table id="comparison"
class="stack">
<thead><tr><th scope="col">figure</th><th scope="col" class="num">this model</th>
<th scope="col" class="num">version {{ beside.version }}</th><th scope="col" class="num">difference</th>
<th scope="col" class="num">95 % interval</th></tr></thead>
<tbody>
{% for row in beside.rows %}
<tr><th scope="row">{{ row.title }}</th><td class="num" data-label="this model">{{ row.own | number }}</td>
<td class="num" data-label="version {{ beside.version }}">{{ row.other | number }}</td>
<td class="num" data-label="difference"><strong class="{{ row.tone }}">{{ row.difference }}</strong></td>
<td class="num" data-label="95 % interval">{{ row.interval }}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="quiet">A difference is coloured where its interval holds no 0. Intervals are of the paired difference: Tango
for accuracy, recall and specificity, DeLong for ROC-AUC, BCa bootstrap for the others.</p>
<p>{{ beside.mcnemar }}</p>
{% if beside.before %}
<p>Older champions that are still the best in a figure, to which gates hold this model as well:
{{ beside.before }}.</p>
{% endif %}
{% for title, cases in beside.galleries %}
<h3>{{ title }}</h3>
<div class="gallery">
{% for case in cases %}
<figure>{% if case.image %}<img src="{{ case.image }}" width="{{ case.size }}" height="{{ case.size }}"
alt="A test image that is {{ case.label }}">{% endif %}
<figcaption>{{ case.label }}. Probability of {{ positive }}: {{ case.probability | number }} here,
{{ case.other | number }} by the champion. {{ case.sha256[:12] | code }}</figcaption></figure>
{% endfor %}
</div>
{% endfor %}
{% if beside.galleries %}
<p class="quiet">All of them are in <code>disagreements.csv</code>, which is logged with the run.</p>
{% endif %}
{% endif %}
{% endif %}
{% if vanished %}
<h2 id="gone">Test images that have vanished</h2>
<p>{{ vanished | length | count }} image{{ "" if vanished | length == 1 else "s" }} on which a champion was tested
{{ "is" if vanished | length == 1 else "are" }} not in this test any more. A test without its hard images makes any
model look better.</p>
<div class="scroll" role="region" aria-label="Test images that have vanished" tabindex="0"><table id="vanished">
<thead><tr><th scope="col">image</th><th scope="col">where it is now</th></tr></thead>
<tbody>
{% for sha256, where in vanished[:most_vanished] %}
<tr><th scope="row">{{ sha256[:12] | code }}</th><td>{{ where }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if vanished | length > most_vanished %}
<p class="quiet">The first {{ most_vanished }} of them; all are in <code>vanished.csv</code>.</p>
{% endif %}
{% endif %}
"""

"""The text of evaluation.html, for a reader who knows the images and not machine learning; `twofold.reporting.evaluation_report` fills it.

The values are in the Jinja names below; the two class names appear as the data gives them.
"""

from twofold.reporting import sections

BODY = (
    """
{% macro name(label) %}<b>{{ label }}</b>{% endmacro %}
{% macro share(rate) %}
{{ rate.value | percent }}{% if rate.interval %} <small>{{ rate.interval }}</small>{% endif %}
{% endmacro %}
<header>
<h1>Can the model tell {{ positive }} from {{ negative }}?</h1>
<p class="quiet">Evaluation on {{ images(c.n) }} of the test split</p>
<p class="lead">On {{ images(c.n) }} that it had never seen, the model gave the right answer for
{{ c.correct | count }}: {{ accuracy.value | percent }}. Answering {{ name(common) }} every time, without looking,
would be right for {{ baseline | percent }}.</p>
</header>

<dl class="facts">
{% for tile in tiles %}
<div><dt>{{ tile.title }}</dt><dd>{{ tile.rate.value | percent }}
<small>{{ tile.rate.hits | count }} of {{ tile.rate.n | count }} {{ tile.of }}</small>
{% if tile.rate.interval %}<small>95 % interval {{ tile.rate.interval }}</small>{% endif %}</dd></div>
{% endfor %}
</dl>
<p class="quiet">The 95 % interval says how far chance may have moved a figure: the model's true rate on images of
this kind most likely lies within it. The more images, the narrower.</p>

<h2>In plain words</h2>
<div class="charts">
<div>
<ul>
<li>{{ found }}</li>
<li>{{ passed }}</li>
<li>{{ trusted }}</li>
</ul>
<p>The last figure depends on how common {{ name(positive) }} is. In this test it is {{ prevalence | percent }} of the
images. Where it is rarer, a larger part of the {{ name(positive) }} answers will be wrong, with the very same
model.</p>
</div>
{{ figure(charts.confusion, "Every test image, by what it is and by what the model said. Blue is right, orange is "
"wrong; the stronger the colour, the larger the share of its row.") }}
</div>

<h2>What was tested</h2>
<p>The images were split into three parts. The model learned from the first. The second chose when to stop and where to
draw the line between the classes. The third, the test, is kept for this report; no figure here comes from an image
that the model learned from.</p>
<div class="scroll" role="region" aria-label="What was tested" tabindex="0"><table>
<thead><tr><th scope="col">part</th><th scope="col" class="num">{{ positive }}</th>
<th scope="col" class="num">{{ negative }}</th><th scope="col" class="num">together</th></tr></thead>
<tbody>
{% for row in splits %}
<tr><th scope="row">{{ row.name }} <small>{{ row.role }}</small></th><td class="num">{{ row.positive | count }}</td>
<td class="num">{{ row.negative | count }}</td><td class="num">{{ row.n | count }}</td></tr>
{% endfor %}
</tbody></table></div>
{% if groups %}<p>The test images belong to {{ groups | count }} groups that stay together in one part. Images of one
group resemble each other, so the true intervals are wider than the ones given.</p>{% endif %}

<h2>Where the line is drawn</h2>
<div class="charts">
<p>The model gives each image a probability of being {{ name(positive) }}, from 0 to 1. At
<b>{{ threshold | number }}</b> or above it answers {{ name(positive) }}, below it {{ name(negative) }}. Of all
possible thresholds this is {{ rule }}, judged on the {{ images(chosen_on.n) }} of the validation part, not on the test.
{% if views > 1 %}The probability is the mean over {{ views }} ways to turn and mirror the image.{% endif %}</p>
{{ figure(charts.scores, "How the test images lie on either side of the threshold. A good model keeps the two classes "
"apart: the upper panel far right, the lower one far left. Orange is wrong.") }}
</div>

<h2>How far a probability can be trusted</h2>
<div class="charts">
<div>
<p>Of 100 images of which the model says 70 %, about 70 should be {{ name(positive) }}. Networks are often surer than
they should be. The dots on the dashed line are the probabilities that hold; the vertical lines are their 95 %
intervals.</p>
<p>{% if calibration.effect %}So one number, the temperature, makes the network {{ calibration.effect }}. It is
{{ calibration.temperature | number(2) }}, fitted on the {{ images(chosen_on.n) }} of the validation part. Which of two
images gets the higher probability is never changed by it. {% else %}On the validation part there was
nothing to mend: the temperature that was fitted is 1, and the probabilities are those of the network. {% endif %}
{% if calibration.bound %}<strong>That is as far as it may go: {{ calibration.bound }}.</strong>{% endif %}</p>
<p>On the test the probabilities are off by <b>{{ calibration.after | number }}</b> on average
<small>({{ calibration.after_interval }})</small>; as the network gave them it would be
{{ calibration.before | number }} <small>({{ calibration.before_interval }})</small>.
{% if calibration.chance %}An error of this size is no more than chance on so many images.{% endif %} Every probability
on this page, and every one that the model gives from now on, is the calibrated one.</p>
</div>
{{ figure(charts.reliability, "What the model said, from left to right, against how many of such images truly are " ~
positive ~ ", from bottom to top. The larger a dot, the more images. Above the line the model says too little, "
"below it too much.") }}
</div>

<h2>What other thresholds would give</h2>
<p>A lower threshold finds more {{ name(positive) }} images and raises more false alarms; a higher one does the reverse.
The curves show every such exchange; the dot is where the model works now.</p>
<div class="charts">
{{ figure(charts.roc, "ROC curve: what is found against the false alarms that it costs. The closer to the upper left "
"corner the better.") }}
{{ figure(charts.precision_recall, "Precision-recall curve: how far an answer can be trusted against how much is "
"found. The closer to the upper right corner the better.") }}
</div>

<h2>All figures</h2>
<div class="scroll" role="region" aria-label="All figures" tabindex="0"><table class="explained">
<thead><tr><th scope="col">figure</th><th scope="col" class="num">value</th>
<th scope="col">what it says</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row">{{ row.title }} <small>{{ row.of }}</small></th>
<td class="num" data-figure="{{ row.key }}">{{ row.value | number }}
{% if row.interval %}<small>{{ row.interval }}</small>{% endif %}</td>
<td>{{ row.words }}{% if row.why %} <strong>No value: {{ row.why }}.</strong>{% endif %}</td></tr>
{% endfor %}
</tbody></table></div>
<p class="quiet">Below a figure's name: what it was measured on. Below its value: its 95 % interval, if there is one.
1 is best, except for the last three, where 0 is best.</p>

<h2>Each class by itself</h2>
<div class="scroll" role="region" aria-label="Each class by itself" tabindex="0"><table>
<thead><tr><th scope="col">class</th><th scope="col" class="num">images</th><th scope="col" class="num">of these
found</th><th scope="col" class="num">answered</th><th scope="col" class="num">of these right</th>
<th scope="col" class="num">F1</th></tr></thead>
<tbody>
{% for row in classes %}
<tr><th scope="row">{{ row.label }}</th><td class="num">{{ row.n | count }}</td>
<td class="num">{{ share(row.recall) }}</td><td class="num">{{ row.called | count }}</td>
<td class="num">{{ share(row.precision) }}</td><td class="num">{{ row.f1 | number }}</td></tr>
{% endfor %}
</tbody></table></div>
"""
    + sections.TEMPLATE
    + sections.ROBUSTNESS
    + sections.ANSWERS
    + """
<h2>What this report cannot say</h2>
<ul>
<li>How the model does on images of another kind: another camera, another place, another year. The test images come
from the same collection as the training images.</li>
<li>Whether the labels are right. The figures measure agreement with the labels.</li>
<li>What an error costs. A missed {{ name(positive) }} image and a false alarm count the same here, unless the rule for
the threshold says otherwise.</li>
<li>How it does after many tries. If models are changed again and again until this test looks good, the test itself
has become something to learn from, and its figures are too good.</li>
</ul>

<h2>Technical details</h2>
<div class="scroll" role="region" aria-label="Technical details" tabindex="0"><table>
<tbody>
{% for key, value in details %}
<tr><th scope="row">{{ key }}</th><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table></div>
"""
)

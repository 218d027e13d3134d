"""The text of audit.html, for who knows the images; `twofold.reporting.audit_page` fills it."""

BODY = """
<header>
<h1>What the audit of {{ step }} found</h1>
{% if raised %}
<p class="lead">{{ total | count }} {{ "finding" if total == 1 else "findings" }} in {{ raised | length }}
{{ "check" if raised | length == 1 else "checks" }}. A finding is a reason to look, not a verdict: the pictures below
are there to be looked at. <code>{{ findings }}</code> beside this page lists all of them.</p>
{% else %}
<p class="lead">Nothing. Everything that was looked for is listed below.</p>
{% endif %}
</header>

{% if raised %}
<div class="scroll" role="region" aria-label="Checks that found something" tabindex="0"><table class="explained">
<thead><tr><th scope="col">check</th><th scope="col" class="num">found</th>
<th scope="col">what was done</th></tr></thead>
<tbody>
{% for section in raised %}
<tr><th scope="row"><a href="#{{ section.check.name }}">{{ section.check.title }}</a></th>
<td class="num">{{ section.check.found | length | count }}</td>
<td>{{ section.done }}
<small>{{ section.check.parameter or "policy " ~ section.check.policy }}</small></td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}

{% for section in raised %}
<section>
<h2 id="{{ section.check.name }}">{{ section.check.title }}: {{ section.check.found | length | count }}</h2>
<p>{{ section.check.meaning }}</p>
{% if section.check.parameter %}
<p class="quiet">Set by <code>{{ section.check.parameter }}</code>: {{ section.done }}.</p>
{% else %}
<p class="quiet">Policy <code>{{ step }}.audit.{{ section.check.name }}</code>: {{ section.check.policy }}
({{ section.done }}).</p>
{% endif %}
{% for found in section.whole %}
<p class="note">{% if found.key %}{{ found.key | code }}: {% endif %}{{ found.detail }}</p>
{% endfor %}
{% if section.shown %}
<div class="gallery{% if section.paired %} pairs{% endif %}">
{% for item in section.shown %}
<figure>
<div class="pair">
{% for picture in item.pictures %}
{% if picture %}<img src="{{ picture }}"
alt="{{ item.found.key if loop.first else "the image that it is compared with" }}">
{% else %}<span class="quiet">no picture</span>{% endif %}
{% endfor %}
</div>
<figcaption><b>{{ item.found.label }}</b>{% if item.found.split %}, {{ item.found.split }}{% endif %}<br>
{{ item.found.detail }}<br>{{ item.found.key | code }}</figcaption>
</figure>
{% endfor %}
</div>
{% endif %}
{% if section.more %}
<p class="quiet">And {{ section.more | count }} more, in <code>{{ findings }}</code>.</p>
{% endif %}
</section>
{% endfor %}

{% if quiet %}
<h2>Looked for and not found</h2>
<dl class="words">
{% for check in quiet %}
<dt>{{ check.title }}</dt><dd>{{ check.meaning }}</dd>
{% endfor %}
</dl>
{% endif %}
{% if impossible %}
<h2>Could not be looked for</h2>
<dl class="words">
{% for check in impossible %}
<dt>{{ check.title }}</dt><dd>{{ check.impossible }}</dd>
{% endfor %}
</dl>
{% endif %}
{% if ignored %}
<h2>Not looked for</h2>
<p>By their policies in params.yaml, which are <code>ignore</code>:
{{ ignored | map(attribute="title") | join(", ") }}.</p>
{% endif %}

{% if numbers or tables %}
<h2>The images</h2>
{% if numbers %}
<dl class="facts">
{% for name, value in numbers.items() %}
<div><dt>{{ name }}</dt><dd>{{ value | shown }}</dd></div>
{% endfor %}
</dl>
{% endif %}
{% for name, table in tables.items() %}
<div class="scroll" role="region" aria-label="{{ name }}" tabindex="0"><table>
<caption>{{ name }}</caption>
<thead><tr><th scope="col"></th>
{% for column in table.columns %}
<th scope="col"{% if column not in table.words %} class="num"{% endif %}>{{ column }}</th>
{% endfor %}</tr></thead>
<tbody>
{% for row, values in table.rows.items() %}
<tr><th scope="row">{{ row }}</th>
{% for value in values %}
<td{% if table.columns[loop.index0] not in table.words %} class="num"{% endif %}>{{ value | shown }}</td>
{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endfor %}
{% endif %}
"""

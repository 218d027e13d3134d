"""A slider for the threshold: in come a test's predictions, out go the confusion matrices that it moves through.

Every stop of the slider is another way to split the test images by their probability, and the chosen threshold is one
of them; so a step moves at least one image to the other side, and what is shown was counted here: the page's script
only looks it up. Template and script are for `twofold.reporting.html_page`. Where scripts do not run, the figures at the chosen
threshold stand there alone.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from twofold.metrics.classification import Counts, confusion
from twofold.metrics.curves import sweep
from twofold.metrics.decision_threshold import candidates

# Key, title, and the images that count as hits among how many.
RATES: tuple[tuple[str, str, Callable[[Counts], tuple[int, int]]], ...] = (
    ("accuracy", "Accuracy", lambda c: (c.correct, c.n)),
    ("recall", "Recall (found)", lambda c: (c.true_positive, c.positive)),
    ("specificity", "Specificity (rightly passed)", lambda c: (c.true_negative, c.negative)),
    ("precision", "Precision (right when it says so)", lambda c: (c.true_positive, c.called)),
    ("f1", "F1", lambda c: (2 * c.true_positive, c.positive + c.called)),
)

MOST = 1000  # stops; of more, as many are kept that lie evenly


class Stop(NamedTuple):
    """What would be answered at a threshold: images rightly and wrongly called positive."""

    threshold: float
    true_positive: int
    false_positive: int


def stops(target: NDArray[np.int64], probability: NDArray[np.float64], chosen: float, most: int = MOST) -> list[Stop]:
    """The stops in order of rising threshold, from all images called positive to none; `chosen` is among them.

    Where a probability is exactly 1, no threshold calls no image positive.
    """
    counts = sweep(target, probability)
    thresholds = candidates(counts.probability)
    hits, alarms = counts.true_positive, counts.false_positive
    if len(thresholds) > len(hits):
        hits, alarms = np.append(0, hits), np.append(0, alarms)
    kept = np.arange(len(thresholds))
    if len(kept) > most - 1:
        kept = np.linspace(0, len(kept) - 1, most - 1).astype(np.int64)
    found = {float(thresholds[i]): Stop(float(thresholds[i]), int(hits[i]), int(alarms[i])) for i in kept}
    own = confusion(target, probability, chosen)
    found[chosen] = Stop(chosen, own.true_positive, own.false_positive)
    return [found[threshold] for threshold in sorted(found)]


def context(target: NDArray[np.int64], probability: NDArray[np.float64], chosen: float) -> dict[str, Any]:
    """The values of TEMPLATE, beside `positive` and `negative`, the names of the classes."""
    every = stops(target, probability, chosen)
    counts = confusion(target, probability, chosen)
    place = [stop.threshold for stop in every].index(chosen)
    return {
        "counts": counts,
        "last": len(every) - 1,
        "place": place,
        "chosen": chosen,
        "rates": [(key, title, *share(counts)) for key, title, share in RATES],
        "stops": _data(every, place, counts),
    }


def _data(every: Sequence[Stop], place: int, counts: Counts) -> Markup:
    # Numbers alone, so that there is nothing in it that could end the element.
    values = {"positive": counts.positive, "negative": counts.negative, "chosen": place, "stops": every}
    return Markup(json.dumps(values, separators=(",", ":"), allow_nan=False))  # noqa: S704


TEMPLATE = """
<p>The model works at the threshold {{ slider.chosen | number }}, which was chosen on the validation images.
<span class="scripted" hidden>Move the slider to see what another one would give on the test images. This changes
nothing but the figures in this part; a threshold picked here would be fitted to the test, and the test would no longer
say how good it is.</span></p>
<div class="slider scripted" hidden>
<label for="threshold">Threshold: <output data-at="threshold" for="threshold">{{ slider.chosen | number(4) }}</output>
</label>
<input id="threshold" type="range" min="0" max="{{ slider.last }}" step="1" value="{{ slider.place }}"
aria-describedby="threshold-words">
<p class="ends"><span>lower: finds more</span> <span>higher: fewer false alarms</span></p>
<p><button id="threshold-back" type="button">Back to the chosen one</button></p>
</div>
<noscript><p class="quiet">Where this page is shown, its script does not run, so the threshold cannot be moved here;
saved as a file and opened in a browser, it can.</p></noscript>
<p id="threshold-words" role="status">At the threshold <span data-at="threshold">{{ slider.chosen | number(4) }}</span>
the model finds <b data-at="true_positive">{{ slider.counts.true_positive | count }}</b> of
{{ slider.counts.positive | count }} {{ positive }} images and raises
<b data-at="false_positive">{{ slider.counts.false_positive | count }}</b> false alarms on
{{ slider.counts.negative | count }} {{ negative }} ones.</p>
<div class="charts">
<div class="scroll" role="region" aria-label="Confusion matrix at the threshold" tabindex="0"><table id="matrix">
<caption>Test images, by what they are and by what the model says</caption>
<thead><tr><th scope="col">true class</th><th scope="col" class="num">says {{ positive }}</th>
<th scope="col" class="num">says {{ negative }}</th></tr></thead>
<tbody>
<tr><th scope="row">{{ positive }}</th><td class="num"><strong data-at="true_positive">
{{- slider.counts.true_positive | count }}</strong> <small>found</small></td>
<td class="num"><strong data-at="false_negative">{{ slider.counts.false_negative | count }}</strong>
<small>missed</small></td></tr>
<tr><th scope="row">{{ negative }}</th><td class="num"><strong data-at="false_positive">
{{- slider.counts.false_positive | count }}</strong> <small>false alarms</small></td>
<td class="num"><strong data-at="true_negative">{{ slider.counts.true_negative | count }}</strong>
<small>rightly passed</small></td></tr>
</tbody></table></div>
<div class="scroll" role="region" aria-label="Rates at the threshold" tabindex="0"><table id="rates">
<caption>Rates on the test images</caption>
<thead><tr><th scope="col">rate</th><th scope="col" class="num scripted" hidden>here</th>
<th scope="col" class="num">chosen threshold</th></tr></thead>
<tbody>
{% for key, title, part, whole in slider.rates %}
<tr><th scope="row">{{ title }}</th>
<td class="num scripted" hidden data-at="{{ key }}">{{ (part / whole if whole else none) | percent }}</td>
<td class="num">{{ (part / whole if whole else none) | percent }}</td></tr>
{% endfor %}
</tbody></table></div>
</div>
<script id="stops" type="application/json">{{ slider.stops }}</script>
"""

SCRIPT = """
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("stops").textContent);
  const slider = document.getElementById("threshold");
  const share = (part, whole) => {
    if (!whole) return "\\u2013";
    // Halves go to the even digit, as where the page was made.
    const tenths = 10 * (100 * (part / whole));
    const text = (tenths % 1 === 0.5 ? 2 * Math.round(tenths / 2) / 10 : tenths / 10).toFixed(1);
    // What is not quite everything never shows as 100.
    return (part < whole && text === "100.0" ? "99.9" : text) + "\\u202f%";
  };
  const move = () => {
    const [threshold, found, alarms] = data.stops[Number(slider.value)];
    const missed = data.positive - found, passed = data.negative - alarms, called = found + alarms;
    const counts = {true_positive: found, false_positive: alarms, true_negative: passed, false_negative: missed};
    const shown = {
      threshold: threshold.toFixed(4),
      accuracy: share(found + passed, data.positive + data.negative),
      recall: share(found, data.positive),
      specificity: share(passed, data.negative),
      precision: share(found, called),
      f1: share(2 * found, data.positive + called),
    };
    for (const [name, count] of Object.entries(counts)) shown[name] = count.toLocaleString("en");
    for (const cell of document.querySelectorAll("[data-at]")) cell.textContent = shown[cell.dataset.at];
    slider.setAttribute("aria-valuetext", shown.threshold);
  };
  slider.addEventListener("input", move);
  document.getElementById("threshold-back").addEventListener("click", () => { slider.value = data.chosen; move(); });
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  slider.value = data.chosen;
  move();
})();
"""

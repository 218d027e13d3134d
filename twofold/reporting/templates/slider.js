"use strict";
(() => {
  const data = JSON.parse(document.getElementById("stops").textContent);
  const slider = document.getElementById("threshold");
  const share = (part, whole) => {
    if (!whole) return "\u2013";
    // Round half to even, as Python does.
    const tenths = 10 * (100 * (part / whole));
    const text = (tenths % 1 === 0.5 ? 2 * Math.round(tenths / 2) / 10 : tenths / 10).toFixed(1);
    // A share below 1 is never shown as 100 %.
    return (part < whole && text === "100.0" ? "99.9" : text) + "\u202f%";
  };
  const show = (threshold, found, alarms) => {
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
  const reset = () => { slider.value = data.chosen[0]; show(...data.chosen); };
  slider.addEventListener("input", () => {
    const stop = Math.round(slider.value * (data.stops.length - 1));
    show(stop / (data.stops.length - 1), ...data.stops[stop]);
  });
  document.getElementById("threshold-back").addEventListener("click", reset);
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  reset();
})();

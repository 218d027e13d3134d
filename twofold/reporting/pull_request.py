"""The last run as Markdown, for a comment on a pull request: the verdict, and the metrics beside the champion's."""

from collections.abc import Mapping
from pathlib import Path

from twofold.core.artifacts import read_json
from twofold.core.markdown import table, text
from twofold.metrics.classification import METRICS
from twofold.metrics.number_format import NOTHING, interval_text, number
from twofold.orchestration.kfp_display import render_verdict
from twofold.orchestration.run_summary import Files


def render(root: Path) -> str:
    """Return the comment on the project in a folder; raise ArtifactError if a file is missing."""
    files = Files.of(root)
    metrics, verdict = read_json(files.evaluate), read_json(files.register)
    title, head = f"Metrics on {metrics['n']} test images.", ["metric", "value", "95 % interval"]
    compared = verdict["comparison"] or {}
    figures, version = compared.get("figures"), f"version {compared.get('version')}"
    if figures:
        head += [version, "difference", "95 % interval"]
        title += f" Those of {version} and the difference: on {compared['n']} that neither model learned from."
    elif compared:
        title += f" Not compared with {version}: {text(compared['problem'] or 'no common images')}."
    rows = [
        [name, number(metrics[name]), interval_text(metrics, name) or NOTHING]
        + (_difference(figures.get(name, {})) if figures else [])
        for name in METRICS
        if name in metrics
    ]
    return "\n".join([render_verdict(str(files.register)), title, "", *table(head, rows)]).rstrip("\n")


def _difference(figure: Mapping[str, float]) -> list[str]:
    """The champion's value, the difference to it, and the interval of the difference."""
    bounds = f"{figure['low']:+.3f} to {figure['high']:+.3f}" if "low" in figure else NOTHING
    return [number(figure.get("champion")), f"{figure['difference']:+.3f}" if "low" in figure else NOTHING, bounds]

"""index.html, the entrance to all pages: the last verdict, the pages, the champions and the metrics of all versions.

Takes plain values of the registry; returns one self-contained file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.reporting import charts, html_page
from twofold.reporting.wording import TITLES

ACTIONS = {"adopt": "adopted", "promote": "promoted", "rollback": "rolled back to"}


def render(
    verdict: Mapping[str, Any],
    block: Mapping[str, Any],
    pages: Mapping[str, str],
    versions: Sequence[Mapping[str, Any]],
    decisions: Sequence[Mapping[str, Any]],
) -> str:
    """Render the page.

    Args:
        verdict: the content of registration.json.
        block: the values of `verdict.html`.
        pages: addresses relative to this page, by title; none where the pages cannot be reached.
        versions: as `twofold.registry.version_catalog.list_versions` returns them.
        decisions: the entries of the ledger.
    """
    titles = {metric: TITLES[metric][0] for version in versions for metric in version["figures"]}
    measured = [version for version in reversed(versions) if version["figures"]]
    series = {title: [version["figures"].get(metric) for version in measured] for metric, title in titles.items()}
    numbers = [version["version"] for version in measured]
    trend = len(measured) > 1 and charts.draw_history(numbers, series, "metric on its test images", unit="version")
    more = {"pages": pages, "titles": titles, "versions": versions, "trend": trend}
    champions = [entry for entry in reversed(decisions) if entry["action"] in ACTIONS]
    context = {**verdict, **block, **more, "champions": champions, "actions": ACTIONS}
    return html_page.render(f"{verdict['name']}: all pages", "index.html", context)

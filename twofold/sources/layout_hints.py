"""Says why a source does not offer two classes: the files left aside, and what its layout looks like instead.

Takes a listing that is not what a user expects; returns text for the error.
"""

from collections import defaultdict
from difflib import get_close_matches

from twofold.core.errors import listed, shortened
from twofold.sources.base import Listing
from twofold.sources.labels import LABELS, OUTSIDE, split_folders

HIDDEN = "hidden, or a system's or an editor's own"
_SIMILAR = 0.7  # of 1; labels.xlsx and train_labels.csv are similar to labels.csv, metadata.csv is not


def explain_classes(listing: Listing) -> str:
    """Return what may have gone wrong with the classes of a listing, as indented lines; empty if nothing is known."""
    keys = [entry.key for entry in listing.entries]
    lines = []
    folders = split_folders(keys)
    classes = sorted({entry.label for entry in listing.entries})
    if len({name.casefold() for name in classes}) < len(classes):
        lines.append("some differ only in upper and lower case; write each class in one way")
    elif folders and classes == [*folders]:
        found = "; ".join(f"{top}: {', '.join(names) or 'none'}" for top, names in folders.items())
        lines.append(f"folders named like splits must all hold the same two class folders, found {found}")
    elif len(classes) == 1 and len(inner := sorted({key.split("/")[1] for key in keys if key.count("/") > 1})) > 1:
        lines.append(f"{classes[0]} holds {shortened(inner)}; if they are the classes or splits, make it the source")
    tables = [item.key for item in listing.ignored if item.reason == OUTSIDE and is_near_table(item.key)]
    tables += [key for key in keys if key.endswith(f"/{LABELS}")]
    lines += [f"{key}: a table of labels must be called {LABELS}, in the source's own folder" for key in tables]
    aside = defaultdict(list, {HIDDEN: [*listing.hidden]} if listing.hidden else {})
    for item in listing.ignored:
        aside[item.reason].append(item.key)
    lines += [f"left aside: {len(found)} ({shortened(found)}), {reason}" for reason, found in sorted(aside.items())]
    return listed("", lines, 10) if lines else ""


def is_near_table(key: str) -> bool:
    """Return whether a file in the source's own folder is probably meant to be its table of labels."""
    return "/" not in key and bool(get_close_matches(key.casefold(), [LABELS], 1, _SIMILAR))

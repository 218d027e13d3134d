"""What a page and its charts agree on: the colours, and what a chart is made of. Light to import, unlike the charts."""

from typing import NamedTuple

PAPER = "#fffffe"
INK = "#1d2429"
MUTED = "#59656e"
GRID = "#dfe3e6"
RIGHT = "#1f6fb2"  # the model's curves, and what it got right
WRONG = "#c4501b"  # its errors
COLOURS = {"paper": PAPER, "ink": INK, "muted": MUTED, "grid": GRID, "right": RIGHT, "wrong": WRONG}


class Picture(NamedTuple):
    """One picture twice, and in words for who cannot see it."""

    svg: bytes
    png: bytes
    alt: str

"""Two generated tasks of two classes, upright and at a chosen share of positive images: `texture` and `object`.

- `texture`: a brushed grey surface, its grain horizontal, lit from above. In `defect`, the grain of one elliptical
  patch has another length and width; its mean and contrast are those of the surface, so brightness says nothing.
  Scratches, stains, blur, noise and uneven light occur in both classes.
- `object`: a room in colour, with a wall, a floor, and boxes that stand on it and cast shadows. In `foreign`, one small
  screw stands on the floor, head up. Pebbles and sticks of the same sizes and colours lie there in both classes.

A mirrored image keeps its class and looks like the others; a turned or inverted one looks like no other.

The tasks are frozen: they were written before the training recipe was changed, and are never adapted to it. A test
holds the pixels of the first images. To be the same on every processor and with every version of numpy, images use
nothing of a random generator but its uniform numbers, are computed in float64 and rounded at the end; files are PNG.
RANGES holds the parameters as (low, high) of uniform distributions, of counts with both ends.

Difficulty, measured without the recipe: logistic regression on the packaged backbone's pooled features of 600 images at
30 % positive has a ROC-AUC of 0.89 (texture) and 0.87 (object) on 400 others.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
SIDE = 192  # px
LABELS = {"texture": ("good", "defect"), "object": ("clear", "foreign")}  # negative, positive
RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "texture": {
        "level": (95, 160),  # mean grey level, 0 to 255
        "contrast": (9, 20),  # standard deviation of the grain, levels
        "grain_length": (11, 25),  # px, along the horizontal
        "grain_width": (1, 3),  # px
        "fine_grain": (0.3, 0.7),  # isotropic grain, share of the contrast
        "defect_length": (0.15, 0.4),  # of the grain's length, in the patch
        "defect_width": (2.5, 5),  # of the grain's width
        "defect_radius": (17, 42),  # px, of the patch's half-axes
        "defect_strength": (0.5, 1),  # share of the patch's grain in the patch's middle
        "scratches": (0, 3),
        "scratch_length": (22, 120),  # px
        "scratch_depth": (-35, 35),  # levels
        "stains": (0, 3),
        "stain_radius": (10, 38),  # px, of the half-axes
        "stain_depth": (-22, 22),  # levels
        "light_above": (0.05, 0.25),  # share by which the top is brighter than the middle, and the bottom darker
        "light_beside": (-0.1, 0.1),  # the same from left to right
        "blur": (1, 3),  # px
        "noise": (1.5, 6),  # levels
    },
    "object": {
        "horizon": (45, 90),  # px from the top
        "wall": (90, 210),  # level of each channel
        "floor": (70, 190),  # level of each channel
        "floor_contrast": (4, 16),  # standard deviation of the floor's pattern, levels
        "floor_grain": (3, 11),  # px
        "boxes": (0, 3),
        "box_width": (12, 45),  # px
        "box_height": (20, 75),  # px
        "colour": (30, 225),  # level of each channel of boxes, pebbles and sticks
        "litter": (2, 10),  # pebbles and sticks
        "pebble_radius": (1.5, 5.5),  # px, of the half-axes
        "stick_length": (6, 16),  # px
        "stick_width": (1.5, 3.5),  # px
        "screw_height": (13, 28),  # px
        "head_width": (0.6, 0.9),  # of the screw's height
        "shaft_width": (0.2, 0.32),  # of the screw's height
        "screw_contrast": (20, 95),  # levels between the screw and the floor's mean, lighter or darker
        "shadow": (0.15, 0.45),  # share of the light that a shadow takes
        "light_above": (0.05, 0.25),
        "light_beside": (-0.15, 0.15),
        "blur": (1, 3),
        "noise": (1.5, 7),
    },
}
# Pixel centres from the middle, px: x to the right, y downwards.
Y, X = (axis - (SIDE - 1) / 2 for axis in np.mgrid[:SIDE, :SIDE].astype(np.float64))


def write_task(folder: Path, task: str, *, rate: float, counts: Mapping[str, int], seed: int) -> Path:
    """Write `folder`/<split>/<class>/<number>.png, as ingest takes them; returns `folder`.

    Args:
        folder: where to write.
        task: `texture` or `object`.
        rate: share of positive images in each split, above 0 and below 1; rounded to whole images, at least one.
        counts: images by split, of train, validation and test.
        seed: another seed draws other images.
    """
    for split, count in counts.items():
        positives = max(1, round(rate * count))
        for label in LABELS[task]:
            (folder / split / label).mkdir(parents=True)
        for number in range(count):
            # Spread evenly, so that the number says nothing about the class.
            positive = (number + 1) * positives // count > number * positives // count
            pixels = draw(task, positive, seed=seed, split=split, number=number)
            path = folder / split / LABELS[task][positive] / f"{number:05d}.png"
            Image.fromarray(pixels.squeeze()).save(path, compress_level=1)
    return folder


def draw(task: str, positive: bool, *, seed: int, split: str, number: int) -> NDArray[np.uint8]:
    """One image, (192, 192, 1) grey for `texture` and (192, 192, 3) for `object`, determined by its arguments."""
    digest = hashlib.sha256(f"{task} {seed} {split} {number}".encode()).digest()
    random = _Random(int.from_bytes(digest[:16], "big"), RANGES[task])
    image = _texture(random, positive) if task == "texture" else _object(random, positive)
    light = 1 - random.value("light_above") * Y / (SIDE / 2) + random.value("light_beside") * X / (SIDE / 2)
    image = _blur(image * light[:, :, None], random.value("blur"), random.value("blur"))
    image += random.value("noise") * random.normal(image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


class _Random:
    """Numbers from uniform ones alone, whose sequence does not change with numpy's version."""

    def __init__(self, seed: int, ranges: Mapping[str, tuple[float, float]]) -> None:
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._ranges = ranges

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._generator.random())

    def value(self, name: str) -> float:
        return self.uniform(*self._ranges[name])

    def count(self, name: str) -> int:
        low, high = self._ranges[name]
        return int(self.uniform(low, high + 1))

    def colour(self, name: str) -> Array:
        """The levels of three channels, (3,), each halfway to their mean, as most things are hardly coloured."""
        levels = np.array([self.value(name) for _ in range(3)])
        return np.asarray((levels + levels.mean()) / 2)

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Nearly normal with mean 0 and variance 1: a sum of four uniform numbers."""
        total: Array = self._generator.random((4, *shape)).sum(axis=0)
        return np.asarray((total - 2) * np.sqrt(3))

    def grain(self, width: float, height: float) -> Array:
        """A random pattern (SIDE, SIDE) of mean 0 and standard deviation 1, whose spots have this size in px."""
        pattern = self.normal((SIDE, SIDE, 1))
        for _ in range(2):
            pattern = _blur(pattern, width, height)
        pattern = pattern[:, :, 0] - pattern.mean()
        return np.asarray(pattern / pattern.std())


def _texture(random: _Random, positive: bool) -> Array:
    length, width, fine = random.value("grain_length"), random.value("grain_width"), random.value("fine_grain")
    surface = random.grain(length, width)
    if positive:
        other = random.grain(length * random.value("defect_length"), width * random.value("defect_width"))
        patch = random.value("defect_strength") * _spot(random, "defect_radius")
        surface = (surface * (1 - patch) + other * patch) / np.sqrt((1 - patch) ** 2 + patch**2)  # of equal variance
    surface = (surface + fine * random.grain(2, 2)) / np.sqrt(1 + fine**2)
    image: Array = random.value("level") + random.value("contrast") * surface
    for _ in range(random.count("stains")):
        image += random.value("stain_depth") * _spot(random, "stain_radius")
    for _ in range(random.count("scratches")):
        along, across = _turned(random, SIDE / 2)
        line = _bar(along, random.value("scratch_length")) * _bar(across, random.uniform(0.6, 1.6))
        image += random.value("scratch_depth") * line
    return image[:, :, None]


def _spot(random: _Random, radius: str) -> Array:
    """A soft ellipse anywhere in the image, 1 in its middle and 0 outside."""
    along, across = _turned(random, SIDE / 2 - 20)
    distance = np.sqrt((along / random.value(radius)) ** 2 + (across / random.value(radius)) ** 2)
    return np.asarray(np.clip(2 - 2 * distance, 0, 1))


def _turned(random: _Random, reach: float) -> tuple[Array, Array]:
    """Coordinates along and across a random direction, from a random place at most `reach` px from the middle."""
    x, y = X - random.uniform(-reach, reach), Y - random.uniform(-reach, reach)
    turn = random.uniform(-np.pi / 2, np.pi / 2)
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def _object(random: _Random, positive: bool) -> Array:
    horizon = random.value("horizon") - SIDE / 2
    floor = random.colour("floor")
    image = np.broadcast_to(random.colour("wall"), (SIDE, SIDE, 3)).copy()
    grain = random.value("floor_grain")
    pattern = random.value("floor_contrast") * random.grain(grain * random.uniform(1, 2), grain)
    _paint(image, np.clip(Y - horizon + 0.5, 0, 1), floor + pattern[:, :, None])
    for _ in range(random.count("boxes")):
        x, foot = random.uniform(-SIDE / 2, SIDE / 2), random.uniform(horizon + 4, SIDE / 2 - 30)
        width, height, colour = random.value("box_width"), random.value("box_height"), random.colour("colour")
        _shade(image, random, x, foot, width)
        _paint(image, _bar(X - x, width) * _bar(Y - foot + height / 2, height), colour)
        # Its upper side, lit from above.
        _paint(image, _bar(X - x, width) * _bar(Y - foot + height, 5), np.minimum(colour * 1.3, 255))
    for _ in range(random.count("litter")):
        _litter(image, random, horizon)
    if positive:
        _screw(image, random, horizon, floor)
    return image


def _litter(image: Array, random: _Random, horizon: float) -> None:
    x, y = random.uniform(-SIDE / 2, SIDE / 2), random.uniform(horizon + 12, SIDE / 2)
    colour, turn = random.colour("colour"), random.uniform(0, np.pi)
    if random.uniform(0, 1) < 0.5:
        wide, high = random.value("pebble_radius"), random.value("pebble_radius")
        _shade(image, random, x, y + high, 2 * wide)
        _paint(image, _ellipse(X - x, Y - y, wide, high), colour)
        return
    along = (X - x) * np.cos(turn) + (Y - y) * np.sin(turn)
    across = (Y - y) * np.cos(turn) - (X - x) * np.sin(turn)
    _paint(image, _bar(along, random.value("stick_length")) * _bar(across, random.value("stick_width")), colour)


def _screw(image: Array, random: _Random, horizon: float, floor: Array) -> None:
    height = random.value("screw_height")
    x, foot = random.uniform(16 - SIDE / 2, SIDE / 2 - 16), random.uniform(horizon + 8 + height, SIDE / 2 - 6)
    sign = 1 if random.uniform(0, 1) < 0.5 else -1
    colour = np.clip(floor + sign * random.value("screw_contrast"), 10, 245)
    head, shaft = height * random.value("head_width"), height * random.value("shaft_width")
    _shade(image, random, x, foot, shaft * 2)
    _paint(image, _bar(X - x, shaft) * _bar(Y - foot + height / 2, height), colour)
    _paint(image, _bar(X - x, head) * _bar(Y - foot + height * 0.86, height * 0.28), colour)


def _shade(image: Array, random: _Random, x: float, foot: float, width: float) -> None:
    """Darken an ellipse on the floor below a thing that stands at (x, foot)."""
    image *= 1 - random.value("shadow") * _ellipse(X - x, Y - foot, 0.7 * width, 0.7 * width / 3)[:, :, None]


def _paint(image: Array, coverage: Array, colour: Array) -> None:
    """Paint a colour, (3,) or (SIDE, SIDE, 3), over an image, in place, with (SIDE, SIDE) coverage from 0 to 1."""
    covered = np.flatnonzero(coverage.any(axis=1))
    if len(covered):
        rows = slice(covered[0], covered[-1] + 1)
        image[rows] += coverage[rows, :, None] * (np.broadcast_to(colour, image.shape)[rows] - image[rows])


def _bar(offset: Array, width: float) -> Array:
    """Coverage of the pixels whose offset is at most half the width, with a smooth edge of 1 px."""
    return np.clip(width / 2 - np.abs(offset) + 0.5, 0, 1)


def _ellipse(x: Array, y: Array, wide: float, high: float) -> Array:
    """Coverage of an ellipse with these half-axes, in px."""
    return np.clip((1 - np.sqrt((x / wide) ** 2 + (y / high) ** 2)) * min(wide, high) + 0.5, 0, 1)


def _blur(image: Array, width: float, height: float) -> Array:
    """(SIDE, SIDE, C): the mean of a box of this size in px, at least 1, whose ends weigh their fraction."""
    for axis, size in ((0, height), (1, width)):
        reach = max(size - 1, 0) / 2
        whole = int(reach)
        pad = [(whole + 1, whole + 1) if axis == number else (0, 0) for number in range(3)]
        padded = np.pad(image, pad, mode="reflect")
        total = np.cumsum(padded, axis)
        first, last = padded.take(range(SIDE), axis), padded.take(range(2 * whole + 2, 2 * whole + 2 + SIDE), axis)
        inner = total.take(range(2 * whole + 1, 2 * whole + 1 + SIDE), axis) - total.take(range(SIDE), axis)
        image = (inner + (reach - whole) * (first + last)) / (2 * reach + 1)
    return image

"""What an image looks like in figures, and which images are odd among others."""

import io
from typing import get_args

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter

from tests.support.makers import encode
from twofold.audit import image_quality as odd
from twofold.audit.checks import Policy
from twofold.audit.image_quality import ODDITIES, image_quality_checks
from twofold.data.decoding import Limits, decode
from twofold.data.image_statistics import ImageStatistics, image_statistics
from twofold.data.raw import ImageRecord

LIMITS = Limits(10_000_000, 10_000_000, 1)
NAMES = ("blank", *ODDITIES)
WARN = dict.fromkeys(NAMES, "warn")


def scene(seed, width=120, height=90, channels=3, level=128.0):
    """A photograph of sorts: smooth shades, edges and a little noise. (H, W, C) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(width, height)
    base = level + 40 * np.sin(6 * (x * rng.uniform(0.5, 1) + y * rng.uniform(0.5, 1)) + rng.uniform(0, 6))
    for _ in range(8):
        cx, cy, r = rng.uniform(0, 1, 3)
        base = base + rng.uniform(-60, 60) * (np.hypot(x - cx, y - cy) < 0.05 + 0.2 * r)
    planes = [base * rng.uniform(0.9, 1.1) + rng.normal(0, 3, base.shape) for _ in range(channels)]
    return np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)


def file_of(pixels, kind="JPEG", **options):
    return encode(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, kind, **options)


def seen(pixels, number=0, label="good", **options):
    data = file_of(pixels, **options)
    decoded = decode(data, LIMITS)
    name = f"{number:064x}"
    height, width, channels = decoded.pixels.shape
    image = ImageRecord(
        name, f"{label}/{number}.jpg", label, None, None, len(data), width, height, decoded.mode, decoded.format,
        channels, name, 0, 0, (),
    )  # fmt: skip
    return image, image_statistics(decoded.pixels, data)


def blurred(pixels, radius=6):
    return np.asarray(Pillow.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def bright(pixels):
    """All but the darkest twentieth at 246 levels or above."""
    return np.clip(pixels + (246 - np.percentile(pixels, 5)), 0, 255).astype(np.uint8)


DIRT = {
    "blank": lambda n: np.full((90, 120, 3), 5 + 50 * n, np.uint8),
    "under_exposed": lambda n: (scene(1000 + n) * 0.12).astype(np.uint8),
    "over_exposed": lambda n: bright(scene(2000 + n)),
    "blurred": lambda n: blurred(scene(3000 + n)),
    "odd_aspect": lambda n: scene(4000 + n, width=400, height=60) if n % 2 else scene(4000 + n, width=50, height=300),
}


@pytest.fixture(scope="module")
def clean():
    return [seen(scene(number), number) for number in range(200)]


def found_of(rows, policies=WARN):
    return {
        check.name: [one.key for one in check.found]
        for check in image_quality_checks(policies, *zip(*rows, strict=True))
    }


def test_planted_dirt_is_found_by_its_own_check_and_nothing_else_is(clean):
    planted = {
        name: [seen(make(n), 10_000 + 100 * i + n) for n in range(4)] for i, (name, make) in enumerate(DIRT.items())
    }
    found = found_of(clean + [row for rows in planted.values() for row in rows])
    assert {name: set(keys) for name, keys in found.items()} == {
        name: {image.key for image, _ in rows} for name, rows in planted.items()
    }


@pytest.mark.parametrize(
    "make",
    [
        scene,
        lambda n: scene(n, width=60 + n % 50, height=50 + n % 70),
        lambda n: (scene(n) * 0.15).astype(np.uint8),
        lambda n: (255 - scene(n) * 0.1).astype(np.uint8),
        lambda n: blurred(scene(n)),
        lambda n: scene(n, width=300, height=60),
    ],
    ids=["plain", "many-sizes", "all-dark", "all-bright", "all-soft", "all-strips"],
)
def test_of_clean_data_at_most_one_image_in_a_hundred_is_flagged(make):
    found = found_of([seen(make(number), number) for number in range(200)])
    assert sum(map(len, found.values())) <= 2, found


def test_what_is_far_from_the_rest_and_within_the_limits_is_not_odd():
    alike = [
        seen(np.clip(scene(1) * (0.97 + number % 7 / 100), 0, 255).astype(np.uint8), number) for number in range(50)
    ]
    darker, wider = seen((scene(1) * 0.7).astype(np.uint8), 100), seen(scene(1, width=200, height=90), 101)
    assert sum(map(len, found_of([*alike, darker, wider]).values())) == 0


def test_what_is_ignored_is_not_looked_for(clean):
    rows = [*clean, seen(DIRT["blank"](0), 10_000), seen(DIRT["blurred"](0), 10_001)]
    found = found_of(rows, WARN | {"blurred": "ignore"})
    assert (found["blank"], found["blurred"]) == (["good/10000.jpg"], [])
    # A blank image is no more than that; not asked for as such, it is found as what else it is.
    assert "good/10000.jpg" in found_of(rows, WARN | {"blank": "ignore"})["under_exposed"]


def test_the_oddest_come_first_and_say_why(clean):
    rows = [*clean, *(seen(blurred(scene(5), radius), 10_000 + radius) for radius in (4, 9, 6))]
    (check,) = [check for check in image_quality_checks(WARN, *zip(*rows, strict=True)) if check.name == "blurred"]
    assert [one.key for one in check.found] == ["good/10009.jpg", "good/10006.jpg", "good/10004.jpg"]
    assert check.found[0].value < check.found[1].value < odd.SOFTEST
    assert "variance of the Laplacian" in check.found[0].detail


@pytest.mark.parametrize("number", [0, 1, 2])
def test_few_images_are_no_error(number):
    images, looks = [], []
    for n in range(number):
        image, one = seen(scene(n), n)
        images.append(image)
        looks.append(one)
    assert [check.found for check in image_quality_checks(WARN, images, looks)] == [[]] * len(NAMES)


def test_the_figures_of_a_known_image():
    grey = np.full((100, 50, 1), 51, np.uint8)
    assert image_statistics(grey, b"") == ImageStatistics(0.0, 0.0, *[0.2] * 6, "")
    colour = np.zeros((40, 40, 3), np.uint8)
    colour[:, :20] = (255, 51, 0)
    one = image_statistics(colour, b"")
    assert (one.red, one.green, one.blue) == pytest.approx((0.5, 0.1, 0.0))
    assert one.spread == one.dark * 255 > 0
    assert one.light == 0
    checks = np.indices((30, 30)).sum(0) % 2 * np.uint8(2)
    # Each pixel differs from its four neighbours by 2: the Laplacian is 8 or -8.
    assert image_statistics(checks.astype(np.uint8)[:, :, None], b"").sharpness == 64


def test_a_large_image_is_looked_at_as_small_as_a_model_sees_it():
    small = scene(7, 256, 192)
    large = small.repeat(10, axis=0).repeat(10, axis=1)
    assert image_statistics(large, b"") == image_statistics(small, b"")
    # The same few pixels of blur: in the large image it hardly shows at a model's size.
    assert image_statistics(blurred(large, 3), b"").sharpness > 10 * image_statistics(blurred(small, 3), b"").sharpness


def test_exif_is_read_and_its_damage_is_none():
    exif = Pillow.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131], exif[0x0112] = "Maker|=\n", "X1", "soft" * 100, 6
    exif[0x0132] = "2024:01:01 00:00:00"
    stream = io.BytesIO()
    Pillow.fromarray(scene(1)).save(stream, "JPEG", exif=exif)
    one = image_statistics(scene(1), stream.getvalue())
    assert one.exif == f"make=Maker|model=X1|software={('soft' * 100)[:60]}|orientation=6|date"
    assert image_statistics(scene(1), stream.getvalue()[:100]).exif == ""
    assert image_statistics(scene(1), b"").exif == ""


def test_the_policies_are_those_that_are_told():
    assert set(get_args(Policy)) == {"ignore", "warn", "quarantine", "fail"}

"""Image statistics, and the outliers among images."""

import io
from typing import get_args

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageFilter

from tests.support.makers import encode, image_record
from twofold.audit.checks import Policy
from twofold.audit.image_quality import OUTLIER_CHECKS, SOFTEST, image_quality_checks
from twofold.data.decoding import Limits, decode
from twofold.data.image_statistics import ImageStatistics, image_statistics

LIMITS = Limits(10_000_000, 10_000_000, 1)
NAMES = ("blank", *OUTLIER_CHECKS)
WARN = dict.fromkeys(NAMES, "warn")


def scene(seed, width=120, height=90, channels=3, level=128.0):
    """A simple photograph with smooth shades, edges and a little noise: (H, W, C) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(width, height)
    base = level + 40 * np.sin(6 * (x * rng.uniform(0.5, 1) + y * rng.uniform(0.5, 1)) + rng.uniform(0, 6))
    for _ in range(8):
        cx, cy, r = rng.uniform(0, 1, 3)
        base = base + rng.uniform(-60, 60) * (np.hypot(x - cx, y - cy) < 0.05 + 0.2 * r)
    planes = [base * rng.uniform(0.9, 1.1) + rng.normal(0, 3, base.shape) for _ in range(channels)]
    return np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)


def measured(pixels, number=0):
    data = encode(pixels, "JPEG")
    decoded = decode(data, LIMITS)
    image = image_record(number, key=f"good/{number}.jpg", label="good", width=decoded.width, height=decoded.height)
    return image, image_statistics(decoded.pixels, data)


def blurred(pixels, radius=6):
    return np.asarray(Pillow.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def bright(pixels):
    """All but the darkest 5 % of the pixels at 246 levels or above."""
    return np.clip(pixels + (246 - np.percentile(pixels, 5)), 0, 255).astype(np.uint8)


OUTLIERS = {
    "blank": lambda n: np.full((90, 120, 3), 5 + 50 * n, np.uint8),
    "under_exposed": lambda n: (scene(1000 + n) * 0.12).astype(np.uint8),
    "over_exposed": lambda n: bright(scene(2000 + n)),
    "blurred": lambda n: blurred(scene(3000 + n)),
    "odd_aspect": lambda n: scene(4000 + n, width=400, height=60) if n % 2 else scene(4000 + n, width=50, height=300),
}


@pytest.fixture(scope="module")
def clean():
    return [measured(scene(number), number) for number in range(200)]


def found_of(rows, policies=WARN):
    checks = image_quality_checks(policies, *zip(*rows, strict=True))
    return {check.name: [issue.key for issue in check.found] for check in checks}


def test_planted_outliers_are_found_by_their_check_and_nothing_else_is(clean):
    planted = {
        name: [measured(make(n), 10_000 + 100 * i + n) for n in range(4)]
        for i, (name, make) in enumerate(OUTLIERS.items())
    }
    found = found_of(clean + [row for rows in planted.values() for row in rows])
    expected = {name: {image.key for image, _ in rows} for name, rows in planted.items()}
    assert {name: set(keys) for name, keys in found.items()} == expected


CLEAN = {
    "plain": scene,
    "many-sizes": lambda n: scene(n, width=60 + n % 50, height=50 + n % 70),
    "all-dark": lambda n: (scene(n) * 0.15).astype(np.uint8),
    "all-bright": lambda n: (255 - scene(n) * 0.1).astype(np.uint8),
    "all-soft": lambda n: blurred(scene(n)),
    "all-strips": lambda n: scene(n, width=300, height=60),
}


@pytest.mark.parametrize("name", CLEAN)
def test_of_clean_data_at_most_one_image_in_a_hundred_is_flagged(name):
    found = found_of([measured(CLEAN[name](number), number) for number in range(200)])
    assert sum(map(len, found.values())) <= 2, found


def test_images_far_from_the_rest_and_within_the_limits_are_no_outliers():
    alike = [
        measured(np.clip(scene(1) * (0.97 + number % 7 / 100), 0, 255).astype(np.uint8), number) for number in range(50)
    ]
    darker, wider = measured((scene(1) * 0.7).astype(np.uint8), 100), measured(scene(1, width=200, height=90), 101)
    assert sum(map(len, found_of([*alike, darker, wider]).values())) == 0


def test_a_check_with_the_policy_ignore_does_not_run(clean):
    rows = [*clean, measured(OUTLIERS["blank"](0), 10_000), measured(OUTLIERS["blurred"](0), 10_001)]
    found = found_of(rows, WARN | {"blurred": "ignore"})
    assert (found["blank"], found["blurred"]) == (["good/10000.jpg"], [])
    # A blank image is reported only as blank; if that check is ignored, another one finds it.
    assert "good/10000.jpg" in found_of(rows, WARN | {"blank": "ignore"})["under_exposed"]


def test_the_strongest_outliers_come_first_with_the_reason(clean):
    rows = [*clean, *(measured(blurred(scene(5), radius), 10_000 + radius) for radius in (4, 9, 6))]
    (check,) = [check for check in image_quality_checks(WARN, *zip(*rows, strict=True)) if check.name == "blurred"]
    assert [one.key for one in check.found] == ["good/10009.jpg", "good/10006.jpg", "good/10004.jpg"]
    assert check.found[0].value < check.found[1].value < SOFTEST
    assert "variance of the Laplacian" in check.found[0].detail


@pytest.mark.parametrize("number", [0, 1, 2])
def test_few_images_are_no_error(number):
    rows = [measured(scene(n), n) for n in range(number)]
    images, statistics = [image for image, _ in rows], [one for _, one in rows]
    assert [check.found for check in image_quality_checks(WARN, images, statistics)] == [[]] * len(NAMES)


def test_the_statistics_of_a_known_image():
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


def test_a_large_image_is_measured_at_the_size_that_a_model_sees():
    small = scene(7, 256, 192)
    large = small.repeat(10, axis=0).repeat(10, axis=1)
    assert image_statistics(large, b"") == image_statistics(small, b"")
    # The same blur in pixels hardly shows in the large image at that size.
    assert image_statistics(blurred(large, 3), b"").sharpness > 10 * image_statistics(blurred(small, 3), b"").sharpness


def test_exif_is_read_and_empty_if_damaged():
    exif = Pillow.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131], exif[0x0112] = "Maker|=\n", "X1", "soft" * 100, 6
    exif[0x0132] = "2024:01:01 00:00:00"
    stream = io.BytesIO()
    Pillow.fromarray(scene(1)).save(stream, "JPEG", exif=exif)
    one = image_statistics(scene(1), stream.getvalue())
    assert one.exif == f"make=Maker|model=X1|software={('soft' * 100)[:60]}|orientation=6|date"
    assert image_statistics(scene(1), stream.getvalue()[:100]).exif == ""
    assert image_statistics(scene(1), b"").exif == ""


def test_policies():
    assert set(get_args(Policy)) == {"ignore", "warn", "quarantine", "fail"}

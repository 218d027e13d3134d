"""Perturbations of images, compared with pixels computed by hand."""

import io

import numpy as np
import pytest
from PIL import Image

from twofold.evaluation.robustness import PERTURBATIONS, blur, brighter, darker, flatter, jpeg, shifted

NOISE = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def grey(*rows):
    return np.array(rows, np.uint8)[None, :, :, None]


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_perturbed_independently_and_the_input_is_unchanged(name, channels):
    pixels = NOISE[..., :channels].copy()
    kept = pixels.copy()
    changed = PERTURBATIONS[name].apply(pixels)
    assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)
    assert np.array_equal(pixels, kept)
    assert all((one != other).any() for one, other in zip(changed, pixels, strict=True))
    assert np.array_equal(PERTURBATIONS[name].apply(pixels[1:2]), changed[1:2])
    assert np.array_equal(PERTURBATIONS[name].apply(pixels), changed)


def test_brightness_is_a_factor_clipped_at_white():
    assert brighter(grey([0, 10, 200, 250])).ravel().tolist() == [0, 12, 240, 255]
    assert darker(grey([0, 10, 200, 255])).ravel().tolist() == [0, 8, 160, 204]


def test_contrast_shrinks_towards_each_images_own_mean():
    # Means 100 and 30: 100 + 0.8 * (-100, 100), 30 + 0.8 * (-10, 10).
    pair = np.concatenate([grey([0, 200]), grey([20, 40])])
    assert flatter(pair).reshape(2, 2).tolist() == [[20, 180], [22, 38]]


def test_a_shift_moves_right_and_down_and_repeats_the_edge():
    image = grey([1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16])
    assert shifted(image)[0, :, :, 0].tolist() == [[1, 1, 1, 2], [1, 1, 1, 2], [1, 1, 1, 2], [5, 5, 5, 6]]


def test_a_blurred_point_is_the_gaussian():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[0, 4, 4] = 255
    found = blur(image)[0, :, :, 0]
    # exp(-d^2 / 2) for d of 0 to 3 is 1, .60653, .13534, .01111; all seven sum to 2.50596.
    # So the weights are .39905, .24204, .05401 and .00443.
    assert found[4].tolist() == [0, 0, 5, 25, 41, 25, 5, 0, 0]
    assert found[3, 3] == 15  # 255 * .24204^2 = 14.94
    assert np.array_equal(found, found.T)
    assert np.array_equal(blur(np.full((1, 5, 5, 3), 77, np.uint8)), np.full((1, 5, 5, 3), 77, np.uint8))


def test_a_jpeg_has_the_given_quality():
    stream = io.BytesIO()
    Image.fromarray(NOISE[0]).save(stream, "JPEG", quality=50, subsampling="4:2:0")
    with Image.open(stream) as image:
        assert np.array_equal(jpeg(NOISE[:1])[0], np.asarray(image))
    smooth = np.full((1, 16, 16, 1), 128, np.uint8)
    assert np.array_equal(jpeg(smooth), smooth)

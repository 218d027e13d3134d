from dataclasses import replace

import pytest
import torch

from twofold.model.inference import apply_view
from twofold.training.augmentation import Augmentation, apply_views, augment, draw_augmentation, seeded_generator

OFF = Augmentation(flips=False, orientation_free=False, crop_min_area=1.0, brightness=0.0, contrast=0.0)


def augmented(images, settings, random):
    return augment(images, settings, draw_augmentation(len(images), settings, random))


@pytest.fixture
def images():
    return torch.randint(0, 256, (256, 12, 12, 1), dtype=torch.uint8, generator=seeded_generator(7))


def views(images, changed):
    """Which of the eight views each changed image is."""
    found = []
    for before, after in zip(images[..., 0].float(), changed[..., 0], strict=True):
        (number,) = (number for number in range(8) if torch.equal(apply_view(before, number), after))
        found.append(number)
    return found


def test_all_switches_off_changes_nothing(images):
    assert torch.equal(augmented(images, OFF, seeded_generator(0)), images.float())


@pytest.mark.parametrize(
    ("switches", "expected"),
    [({"flips": True}, {0, 1}), ({"orientation_free": True}, set(range(8))), ({}, {0})],
)
def test_images_get_the_allowed_views_independently(images, switches, expected):
    found = views(images, augmented(images, replace(OFF, **switches), seeded_generator(0)))
    assert set(found) == expected
    assert all(found.count(number) > len(found) / len(expected) / 4 for number in expected)


@pytest.mark.parametrize("switches", [{"orientation_free": True}, {"crop_min_area": 0.5}, {"brightness": 0.2}])
def test_images_depend_on_seed_epoch_and_step(images, switches):
    settings = replace(OFF, **switches)
    first = augmented(images, settings, seeded_generator(0, 3, 5))
    assert torch.equal(first, augmented(images, settings, seeded_generator(0, 3, 5)))
    for address in ((0, 3, 6), (0, 4, 5), (1, 3, 5)):
        assert not torch.equal(first, augmented(images, settings, seeded_generator(*address)))


def test_a_crop_is_a_square_inside_the_image_that_keeps_at_least_the_area():
    # Two ramps show where each output pixel came from.
    size, least = 64, 0.25
    ramp = torch.arange(size).float()
    image = torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)], dim=-1)
    images = image.expand(200, -1, -1, -1)
    crops = augmented(images, replace(OFF, crop_min_area=least), seeded_generator(0))
    assert crops.min() >= 0
    assert crops.max() <= size - 1
    inner = slice(8, -8)
    width = (crops[:, 32, inner, 0].diff(dim=1)).mean(dim=1)  # input pixels per output pixel: the crop's side
    height = (crops[:, inner, 32, 1].diff(dim=1)).mean(dim=1)
    torch.testing.assert_close(width, height, atol=0.02, rtol=0)
    assert 0.5 - 0.02 <= width.min() < 0.6
    assert 0.95 < width.max() <= 1.02


def test_light_changes_within_its_limits():
    grey = torch.full((200, 4, 4, 1), 100, dtype=torch.uint8)
    bright = augmented(grey, replace(OFF, brightness=0.2), seeded_generator(0))[:, 0, 0, 0]
    assert 80 <= bright.min() < 85
    assert 115 < bright.max() <= 120
    two = torch.tensor([50, 150], dtype=torch.uint8).repeat(200, 4, 2, 1).reshape(200, 4, 4, 1)
    contrasted = augmented(two, replace(OFF, contrast=0.2), seeded_generator(0))
    spread = contrasted.amax(dim=(1, 2, 3)) - contrasted.amin(dim=(1, 2, 3))
    assert 80 <= spread.min() < 85
    assert 115 < spread.max() <= 120
    torch.testing.assert_close(contrasted.mean(dim=(1, 2, 3)), torch.full((200,), 100.0))
    white = torch.full((50, 4, 4, 1), 250, dtype=torch.uint8)
    assert augmented(white, replace(OFF, brightness=1.0), seeded_generator(0)).max() == 255


def test_views_of_a_batch_equal_the_views_of_each_image():
    images = torch.randint(0, 256, (8, 6, 6, 3), dtype=torch.uint8, generator=seeded_generator(1))
    found = apply_views(images, torch.arange(8))
    for number in range(8):
        assert torch.equal(found[number], apply_view(images[number].permute(2, 0, 1), number).permute(1, 2, 0))


@pytest.mark.parametrize("channels", [1, 3])
def test_views_on_a_cpu_equal_those_of_a_batch(channels):
    images = torch.randint(0, 256, (64, 6, 6, channels), dtype=torch.uint8, generator=seeded_generator(2))
    settings = replace(OFF, orientation_free=True)
    draws = draw_augmentation(64, settings, seeded_generator(3))
    assert torch.equal(augment(images, settings, draws), apply_views(images, draws.views))

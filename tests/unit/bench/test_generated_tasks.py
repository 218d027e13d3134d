"""The generated tasks are frozen: the pixels of their first images never change."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from bench.workloads.generated_tasks import LABELS, draw, write_task

# Of the pixels, not of files: an encoder's version may change a file.
DIGESTS = {
    "texture": "76e3a97a82d62a5025cc0faa285fc9360126b036c6f1c053bbe08ec262879588",
    "object": "235566a116516c6e520ba8f3ec3366db66b00df4f715086a3ab073d1c03d18e6",
}


@pytest.mark.parametrize("task", LABELS)
def test_the_first_images_are_the_same_as_ever(task):
    total = hashlib.sha256()
    for number in range(3):
        for positive in (False, True):
            total.update(draw(task, positive, seed=0, split="train", number=number).tobytes())
    assert total.hexdigest() == DIGESTS[task]


@pytest.mark.parametrize(("task", "channels"), [("texture", 1), ("object", 3)])
def test_an_image_depends_on_the_seed_its_split_and_its_number(task, channels):
    one = draw(task, True, seed=0, split="train", number=0)
    assert (one.shape, one.dtype) == ((192, 192, channels), np.uint8)
    for other in ({"seed": 1}, {"split": "test"}, {"number": 1}):
        assert (draw(task, True, **{"seed": 0, "split": "train", "number": 0} | other) != one).mean() > 0.5


def test_the_folders_have_the_rate_in_every_split(tmp_path):
    counts = {"train": 10, "validation": 3, "test": 5}
    folder = write_task(tmp_path / "task", "texture", rate=0.3, counts=counts, seed=1)
    found = {split: [len(list((folder / split / label).iterdir())) for label in LABELS["texture"]] for split in counts}
    assert found == {"train": [7, 3], "validation": [2, 1], "test": [3, 2]}
    with Image.open(folder / "train" / "good" / "00000.png") as image:
        same = draw("texture", False, seed=1, split="train", number=0)
        assert np.array_equal(np.asarray(image), same.squeeze())

"""Golden samples: read as they were written, and compared with the model's probabilities."""

import hashlib

import numpy as np
import pytest
from safetensors.numpy import save_file

from twofold.core.errors import ArtifactError, RegistryError
from twofold.serving import golden_samples

IMAGES = [b"one", b"two", b"three"]
PROBABILITY = np.array([0.1, 0.2, 0.3])
NAMES = [hashlib.sha256(data).hexdigest() for data in IMAGES]


class Model:
    """Gives each image the probability that `answers` has for its bytes."""

    def __init__(self, answers):
        self.answers = answers
        self.classifier = self
        self.precision, self.tolerance = "float32", 1e-4

    def to(self, device):
        return self

    def pixels(self, data):
        return data

    def score(self, pixels):
        return np.array([self.answers[data] for data in pixels])


def write(folder, *, pictures=True):
    path = folder / golden_samples.GOLDEN_SAMPLES
    golden_samples.write(path, IMAGES, PROBABILITY, pictures=pictures)
    return path


def test_they_are_read_sorted_by_name_with_the_probability_of_each(tmp_path):
    found = golden_samples.read(write(tmp_path))
    assert list(found.images) == sorted(NAMES)
    assert dict(zip(found.images, found.probability, strict=True)) == dict(zip(NAMES, PROBABILITY, strict=True))
    assert {name: found.images[name] for name in NAMES} == dict(zip(NAMES, IMAGES, strict=True))


def test_the_same_images_give_the_same_bytes_in_any_order(tmp_path):
    write(tmp_path)
    other = tmp_path / "other"
    golden_samples.write(other, IMAGES[::-1], PROBABILITY[::-1], pictures=True)
    assert other.read_bytes() == (tmp_path / golden_samples.GOLDEN_SAMPLES).read_bytes()


def test_without_pictures_no_byte_of_an_image_is_stored(tmp_path):
    path = write(tmp_path, pictures=False)
    assert not any(data in path.read_bytes() for data in IMAGES)
    found = golden_samples.read(path)
    assert set(found.images.values()) == {None}
    answers = dict(zip(IMAGES, PROBABILITY, strict=True))
    assert golden_samples.check_golden_samples(Model(answers), found) == (0, 0.0)
    kept = dict(zip(NAMES, IMAGES, strict=True))
    assert golden_samples.check_golden_samples(
        Model(answers), found, lambda name: kept[name] if name != NAMES[0] else None
    ) == (2, 0.0)


def test_a_probability_may_differ_by_the_tolerance_and_no_more(tmp_path):
    found = golden_samples.read(write(tmp_path))
    near = dict(zip(IMAGES, PROBABILITY + 9e-5, strict=True))
    assert golden_samples.check_golden_samples(Model(near), found) == (3, pytest.approx(9e-5))
    far = dict(zip(IMAGES, PROBABILITY + np.array([0, 2e-4, 0]), strict=True))
    with pytest.raises(RegistryError, match=r"on 3 golden samples .* differ by up to 0\.0002 .* do not use it"):
        golden_samples.check_golden_samples(Model(far), found)
    with pytest.raises(RegistryError, match="differ by up to nan"):
        golden_samples.check_golden_samples(Model(dict.fromkeys(IMAGES, float("nan"))), found)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"probability": np.zeros(0)}, "holds 0 images"),
        ({NAMES[0]: np.frombuffer(b"one", np.uint8)}, "holds 1 images and"),
        ({"probability": np.zeros(2), NAMES[0]: np.frombuffer(b"one", np.uint8)}, "holds 1 images and"),
        ({"probability": np.zeros(1), NAMES[0]: np.frombuffer(b"two", np.uint8)}, "have another SHA-256"),
    ],
)
def test_an_incomplete_file_is_refused(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "w")
    with pytest.raises(ArtifactError, match=message):
        golden_samples.read(tmp_path / "w")


def test_a_missing_file_and_other_content_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="was sealed without golden samples"):
        golden_samples.read(tmp_path / "w")
    (tmp_path / "w").write_bytes(b"not safetensors")
    with pytest.raises(ArtifactError, match="cannot be read"):
        golden_samples.read(tmp_path / "w")

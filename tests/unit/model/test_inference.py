import numpy as np
import pytest
import torch
from torch import nn

from twofold.model.classifier import Classifier
from twofold.model.fused_classifier import FusedClassifier
from twofold.model.inference import apply_view, classify_features, normalise, predict_views, probabilities

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


class Corner(nn.Module):
    """Pooled features that depend on which corner is bright."""

    def forward(self, images):
        weights = torch.linspace(-1, 1, images.shape[-1] ** 2).view(1, 1, *images.shape[-2:])
        return (images * weights).sum(dim=(2, 3))


@pytest.fixture
def classifier():
    torch.manual_seed(1)
    return Classifier(Corner(), 3, 0.5)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)


def by_hand(classifier, pixels):
    """The probability of one grey image (S, S), without the code under test."""
    colour = np.stack([(pixels / 255 - m) / s for m, s in zip(MEAN, STD, strict=True)])
    with torch.inference_mode():
        logits = classifier.eval()(torch.from_numpy(colour).float()[None])[0].double().numpy()
    return np.exp(logits[1]) / np.exp(logits).sum()


@pytest.mark.parametrize("views", [1, 2, 4, 8])
def test_views_are_averaged(classifier, images, views):
    def views_of(image):
        turned = [np.rot90(image, k) for k in range(4)]
        return {1: [image], 2: [image, np.fliplr(image)], 4: turned, 8: [*turned, *(one.T for one in turned)]}[views]

    expected = [np.mean([by_hand(classifier, view) for view in views_of(image[..., 0])]) for image in images]
    found = probabilities(classifier, [images[:3], images[3:]], mean=MEAN, std=STD, views=views, precision="float32")
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(found) > 1e-3  # the images differ at all


@pytest.mark.parametrize("views", [1, 4, 8])
def test_the_features_are_those_of_the_images_as_they_are(classifier, images, views):
    network, features = FusedClassifier(classifier, "float32"), []
    predict_views(network, [images[:3], images[3:]], mean=MEAN, std=STD, views=views, features=features)
    assert [len(each) for each in features] == [3, 2]
    found = classify_features(network, torch.cat(features)).numpy()
    np.testing.assert_allclose(found, [by_hand(classifier, image[..., 0]) for image in images], atol=1e-6)


def test_the_eight_views_are_all_different():
    image = torch.arange(9.0).view(3, 3)
    assert len({tuple(apply_view(image, number).flatten().tolist()) for number in range(8)}) == 8


def test_dropout_is_off_and_batch_sizes_do_not_matter(classifier, images):
    classifier.train()
    settings = {"mean": MEAN, "std": STD, "views": 2, "precision": "float32"}
    whole = probabilities(classifier, [images], **settings)
    single = probabilities(classifier, [one[None] for one in images], **settings)
    np.testing.assert_allclose(whole, single, atol=1e-6)


def test_read_only_memory_maps_and_no_images_are_accepted(classifier, images, tmp_path):
    np.save(tmp_path / "part.npy", images)
    mapped = np.load(tmp_path / "part.npy", mmap_mode="r")
    settings = {"mean": MEAN, "std": STD, "views": 1, "precision": "float32"}
    found, expected = (probabilities(classifier, [batch], **settings) for batch in (mapped, images))
    assert np.array_equal(found, expected)
    assert probabilities(classifier, [], **settings).shape == (0,)


def test_grey_is_repeated_and_colour_is_not():
    grey = torch.full((1, 2, 2, 1), 255, dtype=torch.uint8)
    expected = torch.tensor([(1 - m) / s for m, s in zip(MEAN, STD, strict=True)])
    torch.testing.assert_close(normalise(grey, MEAN, STD)[0, :, 0, 0], expected)
    colour = torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8)
    expected = torch.tensor([0.5 / 0.2, -0.4 / 0.3, (0.2 - 0.3) / 0.4])
    torch.testing.assert_close(normalise(colour, MEAN, STD)[0, :, 0, 0], expected)


def test_other_numbers_of_views_are_errors(classifier, images):
    with pytest.raises(ValueError, match="found 3, allowed are"):
        probabilities(classifier, [images], mean=MEAN, std=STD, views=3, precision="float32")

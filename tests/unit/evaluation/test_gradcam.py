"""Grad-CAM on a case computed by hand, on a model that depends on a known region, and on random networks."""

import numpy as np
import pytest
import torch
from torch import nn

from twofold.core.errors import ArtifactError
from twofold.evaluation import gradcam
from twofold.model.classifier import BACKBONES, Classifier, build_classifier
from twofold.model.fused_classifier import FusedClassifier

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


class Net(nn.Module):
    """A backbone of one convolution, without a ReLU behind it."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.flatten(self.pool(self.convolution(images)), 1)


def two_channels() -> Classifier:
    """The last map is (red, green); with their means r, g >= 0, the logits are (r / 2, 2 r - 3 g)."""
    convolution = nn.Conv2d(3, 2, 1, bias=False)
    classifier = Classifier(Net(convolution), 2, 0.5)
    with torch.no_grad():
        for weight in classifier.parameters():
            weight.zero_()
        convolution.weight[0, 0] = convolution.weight[1, 1] = 1.0
        classifier.head[0].weight[0, 0] = classifier.head[0].weight[1, 1] = 1.0
        classifier.head[3].weight[0, 0] = 0.5
        classifier.head[3].weight[1, 0], classifier.head[3].weight[1, 1] = 2.0, -3.0
    return classifier


def corner_reader(size: int) -> Classifier:
    """The positive class is bright in the upper left 2 x 2 pixels, the other one dark; the other pixels have no effect.

    Its last map is the image times a mask: a layer with one weight per position, which no convolution is.
    """

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            mask = torch.zeros(1, 1, size, size)
            mask[..., :2, :2] = 1.0
            self.mask = nn.Parameter(mask)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :1] * self.mask

    backbone = nn.Sequential()
    backbone.add_module("see", Masked())
    backbone.add_module("pool", nn.AdaptiveAvgPool2d(1))
    backbone.add_module("flat", nn.Flatten())
    classifier = Classifier(backbone, 1, 0.5)
    with torch.no_grad():
        for weight in classifier.head.parameters():
            weight.zero_()
        classifier.head[0].weight[0, 0] = 1.0
        classifier.head[3].weight[1, 0] = 8.0
    return classifier


def test_the_map_is_the_papers_formula():
    red = np.array([[255, 0], [51, 102]])
    green = np.array([[0, 255], [51, 0]])
    image = np.stack([red, green, np.full((2, 2), 77)], axis=-1).astype(np.uint8)[None]
    # y = logit 1 - logit 0 = 1.5 r - 3 g, so alpha is (1.5 / 4, -3 / 4). Sums: 1.5 R - 3 G = 1.5, -3, -0.3, 0.6.
    found = gradcam.gradcam_maps(two_channels(), "pool", image, [1], **PLAIN)
    assert found.shape == (1, 2, 2)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(np.array([[1.0, 0.0], [0.0, 0.4]]), abs=1e-6)
    # For the other answer every sign turns: -1.5, 3, 0.3, -0.6.
    found = gradcam.gradcam_maps(two_channels(), "pool", image, [0], **PLAIN)
    assert found[0] == pytest.approx(np.array([[0.0, 1.0], [0.1, 0.0]]), abs=1e-6)


def test_a_channel_is_weighted_by_its_mean_gradient():
    class First(nn.Module):
        """Passes on the upper left position only, so that the gradient is 0 at the others."""

        def forward(self, seen: torch.Tensor) -> torch.Tensor:
            return seen[:, :, :1, :1]

    classifier = two_channels()
    classifier.backbone.pool = First()
    image = np.zeros((1, 2, 2, 3), np.uint8)
    image[0, :, :, 0] = [[50, 100], [0, 200]]
    # alpha is (1.5 / 4, -3 / 4) as before: the map is the red, over its largest.
    found = gradcam.gradcam_maps(classifier, "pool", image, [1], **PLAIN)
    assert found[0] == pytest.approx(np.array([[0.25, 0.5], [0.0, 1.0]]), abs=1e-6)


def test_the_map_lights_the_corner_on_which_the_answer_depends():
    images = np.random.default_rng(0).integers(100, 256, (3, 8, 8, 1), np.uint8)
    for heat in gradcam.gradcam_maps(corner_reader(8), "pool", images, [1, 1, 1], **PLAIN):
        assert np.unravel_index(heat.argmax(), heat.shape) in [(0, 0), (0, 1), (1, 0), (1, 1)]
        assert heat[:2, :2].min() > 0.3
        assert heat[2:].max() == heat[:2, 2:].max() == 0
    # Brightness there speaks for one class only.
    assert not gradcam.gradcam_maps(corner_reader(8), "pool", images, [0, 0, 0], **PLAIN).any()


def test_an_image_is_explained_by_itself_and_the_same_every_time():
    classifier = build_classifier("efficientnet_lite0", 0.5)
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 1), np.uint8)
    found = gradcam.gradcam_maps(classifier, "global_pool", images, [1, 0, 1], **PLAIN)
    assert np.array_equal(gradcam.gradcam_maps(classifier, "global_pool", images, [1, 0, 1], **PLAIN), found)
    assert np.array_equal(gradcam.gradcam_maps(classifier, "global_pool", images[2:], [1], **PLAIN), found[2:])


def test_every_known_backbone_has_its_last_map_explained():
    for name in BACKBONES:
        classifier = build_classifier(name, 0.5)
        pool = gradcam.find_pool(classifier.backbone)
        image = np.random.default_rng(1).integers(0, 256, (1, 96, 96, 3), np.uint8)
        assert gradcam.gradcam_maps(classifier, pool, image, [1], **PLAIN).shape == (1, 3, 3)  # 96 / 32
        seen, logits = gradcam._last_map(classifier, pool, torch.zeros(1, 3, 96, 96))
        assert seen.shape == (1, BACKBONES[name].features, 3, 3)
        assert torch.equal(logits, classifier(torch.zeros(1, 3, 96, 96)))


def test_other_weights_give_another_map():
    images = np.random.default_rng(2).integers(0, 256, (4, 96, 96, 1), np.uint8)
    torch.manual_seed(5)
    classifier = build_classifier("efficientnet_lite0", 0.5)
    found = gradcam.gradcam_maps(classifier, "global_pool", images, [1] * 4, **PLAIN)
    untrained = gradcam.untrained_copy("efficientnet_lite0", 96)
    others = gradcam.gradcam_maps(untrained, "global_pool", images, [1] * 4, **PLAIN)
    assert not any(np.allclose(one, other, atol=0.05) for one, other in zip(found, others, strict=True))


def test_the_untrained_network_is_always_the_same_and_does_not_change_the_random_state():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    one = gradcam.untrained_copy("efficientnet_lite0", 96)
    assert torch.equal(torch.rand(4), expected)
    other = gradcam.untrained_copy("efficientnet_lite0", 96)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_similarity_is_the_median_rank_correlation():
    rising = np.array([[0.0, 0.1], [0.2, 1.0]], np.float32)
    flat = np.zeros((2, 2), np.float32)
    # Ranks 1 2 3 4 against 1 3 2 4: 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15) = 0.8.
    swapped = np.array([[0.0, 0.9], [0.2, 1.0]], np.float32)
    some = np.stack([rising, rising, rising, rising])
    assert gradcam.median_rank_correlation(some[:3], np.stack([rising, swapped, 1 - rising])) == pytest.approx(0.8)
    assert gradcam.median_rank_correlation(some[:1], flat[None]) == 0.0


def test_a_module_that_takes_no_map_is_refused():
    class Headless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.Identity()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.pool(images.flatten(1)[:, :2])

    with pytest.raises(
        ArtifactError, match=r"'pool' of this backbone must take one map \(1, K, h, w\), found \[\(1, 2\)\]"
    ):
        gradcam.gradcam_maps(Classifier(Headless(), 2, 0.5), "pool", np.zeros((1, 4, 4, 1), np.uint8), [1], **PLAIN)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_layers_behind_the_average_compute_in_their_precision(precision):
    # ConvNeXt has a norm there, MobileNetV3 a convolution.
    for name in ("timm/convnext_atto", "timm/mobilenetv3_small_050"):
        network = FusedClassifier(build_classifier(name, 0.5), precision)
        image = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), np.uint8)
        found = gradcam.gradcam_maps(network, gradcam.find_pool(network.backbone), image, [1], **PLAIN)
        assert (found.shape, found.dtype, found.max()) == ((1, 2, 2), np.float32, 1.0)


def test_a_transformer_has_no_map_to_average():
    assert gradcam.find_pool(build_classifier("timm/vit_tiny_patch16_224", 0.5).backbone) is None
    # Its map has its channels last, where the method expects them first.
    assert gradcam.find_pool(build_classifier("timm/swin_tiny_patch4_window7_224", 0.5).backbone) is None

"""A fused classifier gives its classifier's answers in both precisions and leaves it unchanged."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from twofold.model.classifier import BACKBONES, Classifier, build_classifier
from twofold.model.fused_classifier import PRECISIONS, FusedClassifier, conv_bn_pairs
from twofold.model.inference import probabilities
from twofold.training import pretrained_weights
from twofold.training.conv_bn_folding import depthwise_in_float32, folded_batchnorm

SCALE = {"mean": [0.5] * 3, "std": [0.25] * 3}


@pytest.fixture(scope="module", params=BACKBONES)
def classifier(request, images):
    """A random network with non-trivial batch norms."""
    torch.manual_seed(0)
    made = build_classifier(request.param, 0.5)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.normal_(0, 0.1)
            module.momentum = 1.0
    with torch.no_grad():
        made.train()(prepared(images))  # sets the statistics to those of the images
    return made.to(memory_format=torch.channels_last).eval()


@pytest.fixture(scope="module")
def pretrained(images):
    """The packaged weights, under a random head that separates the images."""
    torch.manual_seed(0)
    made = pretrained_weights.pretrained("efficientnet_lite0", "packaged", 0.5)[0].eval()
    with torch.no_grad():
        made.head[3].bias.zero_()
        margin = made(prepared(images)).diff(dim=1)
        made.head[3].weight.div_(margin.std())
        made.head[3].bias[1] = -margin.mean() / margin.std()
    return made.to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def images():
    """Coloured patches of 8 pixels."""
    patches = np.random.default_rng(0).integers(0, 256, (12, 12, 12, 3), np.uint8)
    return patches.repeat(8, axis=1).repeat(8, axis=2)


def prepared(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 63.75 - 2  # as SCALE says


def unfused(classifier, images):
    """(N,) from the classifier itself; one view."""
    with torch.inference_mode():
        return copy.deepcopy(classifier).eval()(prepared(images)).double().softmax(dim=1)[:, 1].numpy()


@pytest.mark.parametrize(("precision", "least", "most"), [("float32", 0, 1e-4), ("bfloat16", 1e-3, 0.4)])
def test_features_equal_the_classifiers(classifier, images, precision, least, most):
    with torch.inference_mode():
        expected = copy.deepcopy(classifier).eval().features(prepared(images))
        found = FusedClassifier(classifier, precision).features(prepared(images))
    assert found.dtype == torch.float32
    assert least <= float((found - expected).norm() / expected.norm()) <= most


@pytest.mark.parametrize(("precision", "least", "most"), [("float32", 0, 5e-6), ("bfloat16", 1e-4, 0.05)])
def test_probabilities_equal_the_classifiers(pretrained, images, precision, least, most):
    expected = unfused(pretrained, images)
    found = probabilities(pretrained, [images], **SCALE, views=1, precision=precision)
    assert np.ptp(expected) > 0.5
    assert least <= np.abs(found - expected).max() <= most


def test_the_backbone_computes_in_the_precision_and_the_head_in_float32(classifier):
    fused = FusedClassifier(classifier, "bfloat16")
    assert {tensor.dtype for tensor in fused.backbone.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in fused.head.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_batch_sizes_do_not_matter_in_either_precision(pretrained, images, precision):
    whole = probabilities(pretrained, [images], **SCALE, views=4, precision=precision)
    for size in (1, 5, 8):
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        found = probabilities(pretrained, parts, **SCALE, views=4, precision=precision)
        np.testing.assert_allclose(found, whole, rtol=0, atol=5e-6)


def test_every_batch_norm_is_replaced_by_its_activation(classifier):
    fused = FusedClassifier(classifier, "float32")
    assert not [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d)]
    names = {module: name for name, module in classifier.backbone.named_modules()}
    for _, norm in conv_bn_pairs(classifier.backbone):
        assert type(fused.backbone.get_submodule(names[norm])) is type(getattr(norm, "act", nn.Identity()))


def test_the_fold_is_the_formula():
    # The sum of three channels x: 3 x + 1, then (y - 2) / sqrt(0.25 - 1e-5 + 1e-5) * 5 + 7 = 10 y - 13 = 30 x - 3.
    convolution, norm = nn.Conv2d(3, 1, 1), nn.BatchNorm2d(1)
    tensors = (*convolution.parameters(), *norm.parameters(), norm.running_mean, norm.running_var)
    for tensor, value in zip(tensors, (3.0, 1.0, 5.0, 7.0, 2.0, 0.25 - norm.eps), strict=True):
        tensor.data.fill_(value)
    fused = FusedClassifier(Classifier(nn.Sequential(convolution, norm), 1, 0.5), "float32")
    assert fused.backbone[0].weight.flatten().tolist() == pytest.approx([30.0] * 3, rel=1e-6)
    assert fused.backbone[0].bias.item() == pytest.approx(-3.0, rel=1e-6)


def test_the_classifier_stays_unchanged(classifier, images):
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    classifier.train()
    probabilities(classifier, [images], **SCALE, views=1, precision="bfloat16")
    assert classifier.training
    after = classifier.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) and after[name].dtype == value.dtype for name, value in before.items())
    assert all(value.requires_grad for value in classifier.parameters())


def test_later_weights_need_another_fused_classifier(images):
    torch.manual_seed(0)
    classifier = build_classifier("efficientnet_lite0", 0.5)
    one = probabilities(classifier, [images], **SCALE, views=1, precision="float32")
    with torch.no_grad():
        classifier.head[3].bias[1] += 1.0
    two = probabilities(classifier, [images], **SCALE, views=1, precision="float32")
    # One more on a logit: odds times e.
    np.testing.assert_allclose(two / (1 - two), math.e * one / (1 - one), rtol=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_can_be_made_while_training_folds_the_batch_norms(classifier, images, precision):
    expected = probabilities(classifier, [images], **SCALE, views=1, precision=precision)
    with folded_batchnorm(classifier.backbone), depthwise_in_float32(classifier.backbone):
        found = probabilities(classifier, [images], **SCALE, views=1, precision=precision)
    assert np.array_equal(found, expected)


def test_an_autocast_of_the_caller_takes_precedence(pretrained, images):
    expected = unfused(pretrained, images)
    with torch.autocast("cpu", torch.bfloat16):
        found = probabilities(pretrained, [images], **SCALE, views=1, precision="float32")
    assert 1e-4 < np.abs(found - expected).max() < 0.05


def test_made_under_inference_mode_the_head_still_has_a_gradient(classifier, images):
    with torch.inference_mode():
        fused = FusedClassifier(classifier, "bfloat16")
    features = torch.zeros(1, fused.head[0].in_features, requires_grad=True)
    (slope,) = torch.autograd.grad(fused.head(features).sum(), features)
    assert slope.abs().sum() > 0


@pytest.mark.parametrize("precision", ["float16", "fp32", ""])
def test_other_precisions_are_errors(images, precision):
    with pytest.raises(ValueError, match=f"precision: found '{precision}', allowed are float32, bfloat16"):
        probabilities(build_classifier("efficientnet_lite0", 0.5), [images], **SCALE, views=1, precision=precision)

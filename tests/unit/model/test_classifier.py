import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from twofold.core.errors import ArtifactError
from twofold.model.classifier import BACKBONES, build_classifier, find_backbone, load_classifier

LAST_MAP = {"resnet50": "layer4", "efficientnet_lite0": "bn2"}


def save(directory, classifier, **meta):
    directory.mkdir()
    save_file({n: t.contiguous() for n, t in classifier.state_dict().items()}, directory / "model.safetensors")
    known = {"kind": "model", "schema_version": 1, "backbone": "resnet50", "dropout": 0.25} | meta
    (directory / "meta.json").write_text(json.dumps(known))
    return directory


@pytest.mark.parametrize("name", BACKBONES)
def test_head_is_dense_256_relu_dropout_dense_2(name):
    first, relu, dropout, last = build_classifier(name, 0.5).head
    assert (type(first), type(relu), type(dropout), type(last)) == (nn.Linear, nn.ReLU, nn.Dropout, nn.Linear)
    assert (first.in_features, first.out_features) == (BACKBONES[name].features, 256)
    assert (last.in_features, last.out_features) == (256, 2)
    assert dropout.p == 0.5


@pytest.mark.parametrize("name", BACKBONES)
def test_features_are_the_averaged_last_map_and_logits_are_the_heads(name):
    classifier = build_classifier(name, 0.5).eval()
    maps = []
    classifier.backbone.get_submodule(LAST_MAP[name]).register_forward_hook(lambda *call: maps.append(call[2]))
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features, logits = classifier.features(images), classifier(images)
        assert features.shape == (2, BACKBONES[name].features)
        torch.testing.assert_close(features, maps[0].mean(dim=(2, 3)))
        assert torch.equal(logits, classifier.head(features))


def test_a_saved_model_gives_the_same_logits_after_loading(tmp_path):
    classifier = build_classifier("resnet50", 0.25).eval()
    loaded, meta = load_classifier(save(tmp_path / "model", classifier))
    images = torch.randn(2, 3, 32, 32)
    assert not loaded.training
    assert meta["dropout"] == loaded.head[2].p == 0.25
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), classifier(images))


def test_an_error_names_the_folder_that_is_not_a_model(tmp_path):
    classifier = build_classifier("efficientnet_lite0", 0.25)
    other = save(tmp_path / "other", classifier)  # its meta.json says resnet50
    kind = save(tmp_path / "kind", classifier, kind="head")
    unknown = save(tmp_path / "unknown", classifier, backbone="vgg")
    truncated = save(tmp_path / "truncated", classifier, backbone="efficientnet_lite0")
    with (truncated / "model.safetensors").open("r+b") as stream:
        stream.truncate(1000)
    for directory in (other, kind, unknown, truncated, tmp_path / "missing"):
        with pytest.raises(ArtifactError, match=directory.name if directory is not unknown else "vgg"):
            load_classifier(directory)


def test_a_model_of_timm_has_its_own_scale_features_and_stages():
    found = find_backbone("timm/mobilenetv3_small_050", 32)
    assert (found.features, found.mean, found.std) == (1024, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert find_backbone("timm/vit_tiny_patch16_224", 32).mean == (0.5, 0.5, 0.5)
    network = found.make()
    assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1024)
    names = [name for stage in found.stages for name in stage]
    assert sorted(names) == sorted(f"{name}." for name, _ in network.named_parameters())
    assert "conv_stem.weight." in found.stages[0]
    assert "conv_head.weight." in found.stages[-1]


def test_a_model_of_timm_for_one_size_is_made_for_the_images_and_loaded_again(tmp_path):
    name = "timm/vit_tiny_patch16_224"
    classifier = build_classifier(name, 0.25, 32).eval()
    assert classifier.backbone.pos_embed.shape == (1, 5, 192)  # (32 / 16)^2 patches and the class token
    loaded, _ = load_classifier(save(tmp_path / "model", classifier, backbone=name, image_size=32))
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), classifier(images))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("timm/resnet19", 64, "timm/resnet19: .* timm has no model of this name"),
        ("timm/hf-hub:some/model", 64, "timm has no model of this name"),
        ("timm/resnet18.no_such_tag", 64, "no_such_tag"),
        (
            "timm/efficientformer_l1",
            64,
            "no feature vector of images of 64 px: .*; choose another preprocess",
        ),
        ("vgg", 64, "found 'vgg', allowed are resnet50, efficientnet_lite0 and timm/NAME"),
    ],
)
def test_a_backbone_that_does_not_exist_or_not_for_this_size_is_an_error(name, size, message):
    with pytest.raises(ArtifactError, match=message):
        find_backbone(name, size)

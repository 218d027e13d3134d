import math

import pytest
import torch
from torch import nn

from twofold.model.classifier import BACKBONES, Classifier, build_classifier, find_backbone
from twofold.training.optimizer import WeightEMA, layer_decay_groups, lr_factor

RATES = {"learning_rate": 1.0, "head_learning_rate": 3.0, "stage_decay": 0.5, "weight_decay": 0.1}


@pytest.fixture(params=BACKBONES)
def grouped(request):
    classifier = build_classifier(request.param, 0.5)
    groups = layer_decay_groups(classifier, BACKBONES[request.param].stages, **RATES)
    by_parameter = {id(p): group for group in groups for p in group["params"]}
    return classifier, groups, {name: by_parameter[id(p)] for name, p in classifier.named_parameters()}


def test_every_parameter_is_in_one_group(grouped):
    classifier, groups, _ = grouped
    members = [id(p) for group in groups for p in group["params"]]
    assert sorted(members) == sorted(id(p) for p in classifier.parameters())


def test_norms_and_biases_do_not_decay_and_kernels_do(grouped):
    classifier, _, group_of = grouped
    norms = {n for n, m in classifier.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, group in group_of.items():
        stays = name.endswith("bias") or name.rpartition(".")[0] in norms
        assert group["weight_decay"] == (0.0 if stays else 0.1), name


def test_the_learning_rate_decays_by_stage_and_the_head_has_its_own(grouped):
    _, _, group_of = grouped
    rates = {name: group["lr"] for name, group in group_of.items()}
    assert {rate for name, rate in rates.items() if name.startswith("head.")} == {3.0}
    if "backbone.layer4.2.conv3.weight" in rates:
        expected = {"layer4.0.bn1.weight": 1.0, "layer3.5.conv1.weight": 0.5, "layer1.0.bn1.bias": 0.125}
        expected |= {"conv1.weight": 0.0625, "bn1.bias": 0.0625}
    else:
        expected = {"conv_head.weight": 1.0, "bn2.bias": 1.0, "blocks.6.0.bn2.weight": 0.5}
        expected |= {"blocks.1.0.conv_dw.weight": 2.0**-6, "blocks.0.0.bn1.bias": 2.0**-7, "conv_stem.weight": 2.0**-7}
    for name, rate in expected.items():
        assert rates[f"backbone.{name}"] == rate, name


def test_a_transformer_has_a_learning_rate_for_each_block():
    backbone = find_backbone("timm/vit_tiny_patch16_224", 32)
    classifier = Classifier(backbone.make(), backbone.features, 0.5)
    groups = layer_decay_groups(classifier, backbone.stages, **RATES)
    rate_of = {id(p): group["lr"] for group in groups for p in group["params"]}
    rates = {name: rate_of[id(p)] for name, p in classifier.backbone.named_parameters()}
    assert (rates["norm.weight"], rates["blocks.11.mlp.fc1.weight"]) == (1.0, 1.0)
    assert (rates["blocks.1.attn.qkv.bias"], rates["blocks.10.attn.qkv.bias"]) == (2.0**-10, 0.5)
    assert rates["pos_embed"] == rates["patch_embed.proj.weight"] == 2.0**-12


def test_a_parameter_outside_every_stage_is_an_error():
    with pytest.raises(ValueError, match=r"bn1\.weight: belongs to 0 stages"):
        layer_decay_groups(build_classifier("resnet50", 0.5), [["conv1.", "layer"]], **RATES)


def test_the_rate_warms_up_linearly_then_falls_in_a_half_cosine():
    factors = [lr_factor(step, 4, 14) for step in range(14)]
    assert factors[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert factors[9] == pytest.approx(0.5)
    assert factors[13] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))
    assert lr_factor(0, 0, 1) == 1.0


def test_the_average_by_hand():
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    average = WeightEMA(network, decay=0.3)
    expected = 1.0
    for value, decay in ((5.0, 2 / 11), (7.0, 3 / 12), (9.0, 0.3)):  # (1 + t) / (10 + t) until 0.3 is reached
        network.weight.data.fill_(value)
        average.update()
        expected = decay * expected + (1 - decay) * value
    assert average.state["weight"].item() == pytest.approx(expected)
    with average.applied(network):
        assert network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == 9.0


def test_a_decay_of_zero_is_the_network_itself():
    network = nn.BatchNorm2d(3)
    average = WeightEMA(network, decay=0.0)
    network.train()(torch.randn(4, 3, 2, 2))
    average.update()
    for name, tensor in network.state_dict().items():
        assert torch.equal(average.state[name], tensor)

import hashlib
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load, save_file

from twofold.core.errors import WeightsError
from twofold.model.classifier import build_classifier
from twofold.training import pretrained_weights
from twofold.training.pretrained_weights import WeightsSource, fetch_weights, locate, pin_weights, pretrained

KEY = ("resnet50", "imagenet1k_v1")


class Canary:
    """Unpickling it runs code: it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def record(monkeypatch, path, key=KEY, digits=64, url="http://127.0.0.1:9/nothing.pth"):
    """Put a file of the test into the table, as if it had been published."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(pretrained_weights.SOURCES, key, WeightsSource(file=path.name, sha256=sha256[:digits], url=url))
    return sha256


@pytest.fixture
def published(alone, monkeypatch):
    """A file as torchvision publishes it, with a classifier of 1000 classes, where TWOFOLD_WEIGHTS points."""
    torch.manual_seed(3)
    state = build_classifier("resnet50", 0.5).backbone.state_dict()
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    path = alone / "given" / "published.pth"
    path.parent.mkdir()
    torch.save(state, path)
    monkeypatch.setenv("TWOFOLD_WEIGHTS", str(path))
    return path, record(monkeypatch, path), state


def test_every_tensor_comes_from_the_file_and_the_base_is_its_sha256(published):
    _, sha256, state = published
    classifier, base = pretrained(*KEY, dropout=0.3)
    assert base == sha256
    assert classifier.head[2].p == 0.3
    for name, tensor in classifier.backbone.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_the_search_order_is_twofold_weights_then_hub_cache_then_download(published, alone, monkeypatch):
    path, *_ = published
    cached = alone / "torch" / "hub" / "checkpoints" / path.name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(path.read_bytes())
    assert locate(*KEY) == path
    monkeypatch.setenv("TWOFOLD_WEIGHTS", str(path.parent))
    assert locate(*KEY) == path
    monkeypatch.setenv("TWOFOLD_WEIGHTS", str(alone / "torch"))  # a folder without the file
    assert locate(*KEY) == cached
    monkeypatch.delenv("TWOFOLD_WEIGHTS")
    assert locate(*KEY) == fetch_weights(*KEY) == cached
    monkeypatch.setenv("TWOFOLD_WEIGHTS", str(alone / "nowhere"))
    with pytest.raises(WeightsError, match=r"TWOFOLD_WEIGHTS=.*nowhere: no such"):
        locate(*KEY)


def test_a_flipped_byte_is_rejected(published):
    path, sha256, _ = published
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=rf"published\.pth: its SHA-256 is .* expected {sha256}"):
        pretrained(*KEY, dropout=0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {f"other.{name}": tensor for name, tensor in state.items()},
        lambda state: state | {"layer4.2.conv3.weight": torch.zeros(2048, 512, 3, 3)},
        lambda state: {name: tensor for name, tensor in state.items() if name != "layer4.2.conv3.weight"},
        lambda state: state | {"layer4.2.conv3.weight": "text"},
    ],
    ids=["names", "shape", "missing", "not tensors"],
)
def test_another_architecture_is_rejected(published, monkeypatch, change):
    path, _, state = published
    torch.save(change(state), path)
    record(monkeypatch, path)
    with pytest.raises(WeightsError, match=r"published\.pth: the weights of another architecture"):
        pretrained(*KEY, dropout=0.5)


def test_a_malicious_pickle_executes_nothing(published, alone, monkeypatch):
    path, *_ = published
    canary = alone / "canary"
    torch.save({"conv1.weight": Canary(canary)}, path)
    with pytest.raises(WeightsError, match="SHA-256"):
        pretrained(*KEY, dropout=0.5)
    record(monkeypatch, path)  # even with the digest in the table
    with pytest.raises(WeightsError, match="refused"):
        pretrained(*KEY, dropout=0.5)
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists()  # the pickle does execute code


def test_of_a_partial_digest_the_complete_one_is_recorded_at_first_use_and_required(published, monkeypatch):
    path, sha256, state = published
    record(monkeypatch, path, digits=8)
    recorded = path.with_name("published.pth.sha256")
    assert pretrained(*KEY, dropout=0.5)[1] == sha256
    assert recorded.read_text().split() == [sha256, "published.pth"]
    other = "0" * 8 + sha256[8:]
    recorded.write_text(f"{other}  published.pth\n")
    with pytest.raises(WeightsError, match=f"expected {other}"):
        pretrained(*KEY, dropout=0.5)
    recorded.unlink()
    torch.save(state | {"fc.bias": torch.ones(1000)}, path)
    with pytest.raises(WeightsError, match=f"expected {sha256[:8]};"):
        pretrained(*KEY, dropout=0.5)
    assert not recorded.exists()


def test_a_record_cannot_replace_the_known_digits(published, monkeypatch):
    path, _, state = published
    record(monkeypatch, path, digits=8)
    torch.save(state | {"fc.bias": torch.ones(1000)}, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name("published.pth.sha256").write_text(f"{found}  published.pth\n")
    with pytest.raises(WeightsError, match="SHA-256"):
        pretrained(*KEY, dropout=0.5)


def test_without_a_file_and_a_network_the_error_names_every_alternative(published, monkeypatch):
    path, *_ = published
    monkeypatch.delenv("TWOFOLD_WEIGHTS")
    with pytest.raises(WeightsError) as caught:
        pretrained(*KEY, dropout=0.5)
    for words in (
        "http://127.0.0.1:9/nothing.pth",
        "TWOFOLD_WEIGHTS",
        str(Path("torch", "hub", "checkpoints", path.name)),
        "twofold weights fetch resnet50 --weights imagenet1k_v1 (HTTPS_PROXY",
        "train_head.backbone=efficientnet_lite0 train_head.weights=packaged",
    ):
        assert words in str(caught.value)


def test_a_download_is_verified_and_written_to_the_hub_cache(published, alone, monkeypatch):
    path, sha256, _ = published
    monkeypatch.delenv("TWOFOLD_WEIGHTS")
    asked = []
    monkeypatch.setattr(pretrained_weights, "download", lambda *a, **k: asked.append((a, k)) or path.read_bytes())
    cached = alone / "torch" / "hub" / "checkpoints" / path.name
    assert fetch_weights("resnet50") == fetch_weights("resnet50") == cached
    assert asked == [(("http://127.0.0.1:9/nothing.pth", sha256), {})]
    assert [kept.name for kept in cached.parent.iterdir()] == [path.name]


def test_packaged_weights_load_in_order_and_are_not_downloaded(alone):
    path = fetch_weights("efficientnet_lite0")
    state = torch.load(path, weights_only=True)
    classifier, base = pretrained("efficientnet_lite0", "packaged", dropout=0.5)
    assert base == hashlib.sha256(path.read_bytes()).hexdigest()
    backbone = classifier.backbone
    assert torch.equal(backbone.conv_stem.weight, state["_conv_stem.weight"])
    assert torch.equal(backbone.blocks[0][0].conv_dw.weight, state["_blocks.0._depthwise_conv.weight"])
    assert torch.equal(backbone.blocks[6][0].bn3.running_var, state["_blocks.15._bn2.running_var"])
    assert torch.equal(backbone.bn2.bias, state["_bn1.bias"])


def test_random_weights_are_reproducible_and_leave_torchs_generator_unchanged(alone):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    first, base = pretrained("resnet50", "random", dropout=0.5)
    assert torch.equal(torch.rand(3), expected)
    second, again = pretrained("resnet50", "random", dropout=0.5)
    assert base == again
    assert torch.equal(first.backbone.conv1.weight, second.backbone.conv1.weight)


def test_an_unknown_name_is_an_error_with_the_known_ones():
    with pytest.raises(WeightsError, match="found 'vgg', known are efficientnet_lite0, resnet50"):
        fetch_weights("vgg")
    with pytest.raises(WeightsError, match="resnet50 has imagenet1k_v1, imagenet1k_v2, random"):
        pretrained("resnet50", "packaged", dropout=0.5)


NAME = "timm/test_vit"


@pytest.fixture
def given(alone, monkeypatch):
    """A file of a model of timm as it is published, for images of 160 px, where TWOFOLD_WEIGHTS points."""
    torch.manual_seed(3)
    path = alone / "given.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    monkeypatch.setenv("TWOFOLD_WEIGHTS", str(path))
    return path


def without_norm(path):
    return {name: tensor for name, tensor in load(path.read_bytes()).items() if name != "norm.bias"}


def test_weights_are_pinned_by_their_sha256_and_put_where_training_looks(given, alone, monkeypatch):
    weights = pin_weights(NAME, 32)
    sha256 = hashlib.sha256(given.read_bytes()).hexdigest()
    assert weights == f"sha256:{sha256}"
    monkeypatch.delenv("TWOFOLD_WEIGHTS")
    kept = alone / "torch" / "hub" / "checkpoints" / f"test_vit-{sha256[:8]}"
    assert locate(NAME, weights) == fetch_weights(NAME, weights) == kept
    classifier, base = pretrained(NAME, weights, 0.5, 32)
    assert base == sha256
    state = load(given.read_bytes())
    assert torch.equal(classifier.backbone.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])
    assert classifier.backbone.pos_embed.shape[1] < state["pos_embed"].shape[1]  # resized to fewer patches
    monkeypatch.setenv("TWOFOLD_WEIGHTS", str(kept.parent))  # a folder, as in an image
    assert locate(NAME, weights) == kept


def test_a_file_of_torch_is_pinned_too(given):
    torch.save(load(given.read_bytes()), given)
    assert pin_weights(NAME, 32) == "sha256:" + hashlib.sha256(given.read_bytes()).hexdigest()


def test_a_changed_file_is_refused_and_named_with_both_digests(given):
    weights = pin_weights(NAME, 32)
    given.write_bytes(given.read_bytes()[:-1] + b"!")
    found = hashlib.sha256(given.read_bytes()).hexdigest()
    with pytest.raises(WeightsError) as caught:
        pretrained(NAME, weights, 0.5, 32)
    for words in (str(given), found, weights.removeprefix("sha256:"), "remove it and fetch it again"):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "refused, it is not a plain file of tensors"),
        (lambda path: torch.save({"some": Canary(path.with_name("canary"))}, path), "refused"),
        (lambda path: save_file(timm.create_model("test_convnext").state_dict(), path), "architecture: .*Missing key"),
        (lambda path: save_file(without_norm(path), path), "norm.bias"),
    ],
    ids=["damaged", "pickle", "other model", "incomplete"],
)
def test_only_a_whole_file_of_that_model_is_pinned(given, alone, change, message):
    change(given)
    with pytest.raises(WeightsError, match=rf"(?s)given\.safetensors: .*{message}"):
        pin_weights(NAME, 32)
    assert not (alone / "canary").exists()
    assert not (alone / "torch").exists()


def test_without_a_hub_the_error_names_every_alternative_in_a_line(given, alone, monkeypatch):
    asked = []

    def refuse(url, sha256):
        asked.append(url)
        raise WeightsError(f"{url}: could not be downloaded: no route")

    monkeypatch.delenv("TWOFOLD_WEIGHTS")
    monkeypatch.setenv("HF_HUB_CACHE", str(alone / "hub"))
    monkeypatch.setattr(pretrained_weights, "download", refuse)
    with pytest.raises(WeightsError) as caught:
        pin_weights(NAME, 32)
    assert asked == ["https://huggingface.co/timm/test_vit.r160_in1k/resolve/main/model.safetensors"]
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{asked[0]}: could not be downloaded: no route"
    ways = (
        "set TWOFOLD_WEIGHTS",
        "put a copy on S3",
        "put a copy at",
        "try again: twofold weights pin",
        "use the backbone",
    )
    for line, way in zip(lines[2:], ways, strict=True):
        assert line.startswith(f"  - {way}")
    monkeypatch.setenv("TWOFOLD_WEIGHTS", "s3://bucket/weights/")
    with pytest.raises(WeightsError):
        pretrained(NAME, "sha256:" + "12345678" * 8, 0.5, 32)
    assert asked[1:] == ["s3://bucket/weights/test_vit-12345678"]
    with pytest.raises(WeightsError, match="found None; to find and set them: twofold weights pin timm/test_vit"):
        fetch_weights(NAME)
    with pytest.raises(WeightsError, match="found 'resnet50', expected timm/NAME"):
        pin_weights("resnet50", 32)

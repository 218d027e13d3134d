import pytest
import torch

from twofold.core.errors import TrainingError
from twofold.model import device as devices


def test_the_device_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("TWOFOLD_DEVICE", "cpu")
    assert devices.device() == torch.device("cpu")
    monkeypatch.delenv("TWOFOLD_DEVICE")
    assert devices.device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", ""])
def test_a_missing_device_is_an_error(monkeypatch, name):
    monkeypatch.setenv("TWOFOLD_DEVICE", name)
    with pytest.raises(TrainingError, match=rf"TWOFOLD_DEVICE={name}: .* allowed are auto, cpu, cuda"):
        devices.device()


@pytest.mark.parametrize("has", [True, False])
def test_mixed_precision_needs_hardware_support(monkeypatch, has):
    monkeypatch.setattr(devices, "has_bf16", lambda where: has)
    with devices.autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has else torch.float32)


def test_the_description_names_everything_that_last_bits_depend_on(monkeypatch):
    monkeypatch.setenv("TWOFOLD_DEVICE", "cpu")
    found = devices.device_description()
    expected = {"torch": torch.__version__, "threads": str(torch.get_num_threads()), "device": "cpu"}
    assert found == expected | {name: found[name] for name in ("processor", "precision")}


def test_a_gpu_is_made_deterministic(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    devices.make_deterministic()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(
    ("device", "size", "images"),
    [("cpu", size, 16) for size in (224, 1024)]
    + [("cuda", size, images) for size, images in {32: 256, 224: 256, 256: 256, 512: 64, 1024: 16}.items()],
)
def test_the_batch_size_depends_on_device_and_image_size(device, size, images):
    assert devices.inference_batch_size(torch.device(device), size) == images

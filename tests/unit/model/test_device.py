import pytest
import torch

from twofold.core.errors import TrainingError
from twofold.model import device as devices


def test_the_device_is_environment(monkeypatch):
    monkeypatch.setenv("TWOFOLD_DEVICE", "cpu")
    assert devices.device() == torch.device("cpu")
    monkeypatch.delenv("TWOFOLD_DEVICE")
    assert devices.device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "mps", ""])
def test_a_device_that_is_not_here_is_refused(monkeypatch, name):
    monkeypatch.setenv("TWOFOLD_DEVICE", name)
    with pytest.raises(TrainingError, match=rf"TWOFOLD_DEVICE={name}: .* allowed are auto, cpu, cuda"):
        devices.device()


@pytest.mark.parametrize("has", [True, False])
def test_mixed_precision_only_where_the_processor_has_it(monkeypatch, has):
    monkeypatch.setattr(devices, "has_bf16", lambda where: has)
    with devices.autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has else torch.float32)


def test_the_description_names_what_last_bits_depend_on(monkeypatch):
    monkeypatch.setenv("TWOFOLD_DEVICE", "cpu")
    found = devices.device_description()
    assert found["torch"] == torch.__version__
    assert found["threads"] == str(torch.get_num_threads())
    assert found["device"] == "cpu"
    assert set(found) == {"torch", "device", "processor", "threads", "precision"}


def test_settling_makes_a_gpu_deterministic(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    devices.make_deterministic()
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize(("device", "size", "images"), [("cpu", 224, 16), ("cpu", 1024, 16), ("cuda", 32, 256)])
def test_a_forward_pass_takes_what_suits_the_device(device, size, images):
    assert devices.inference_batch_size(torch.device(device), size) == images


def test_a_gpu_takes_fewer_large_images_at_once_and_never_fewer_than_a_cpu():
    found = [devices.inference_batch_size(torch.device("cuda"), size) for size in (224, 256, 512, 1024)]
    assert found == [256, 256, 64, 16]

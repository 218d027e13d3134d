import pytest
import torch

from twofold.core.errors import ParameterError, TrainingError
from twofold.model import torch_compile
from twofold.model.torch_compile import compiled, compiler_version, should_compile

GPU, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(autouse=True)
def able(monkeypatch, tmp_path):
    monkeypatch.setattr(torch_compile, "compiler_version", lambda: "3.0")
    monkeypatch.delenv("TWOFOLD_COMPILE", raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))


def test_a_training_is_compiled_if_that_saves_more_than_half_a_minute(monkeypatch):
    # At batch 256 and 224 px a step saves 0.0022 + 0.01408 s.
    assert not should_compile(GPU, 1842, 256, 224)
    assert should_compile(GPU, 1843, 256, 224)
    assert should_compile(GPU, 1843, 64, 448)  # a quarter of the images, four times the pixels
    assert not should_compile(CPU, 10**6, 256, 224)
    monkeypatch.setattr(torch_compile, "compiler_version", lambda: "")
    assert not should_compile(GPU, 10**6, 256, 224)


def test_the_environment_decides(monkeypatch):
    monkeypatch.setenv("TWOFOLD_COMPILE", "on")
    assert should_compile(GPU, 1, 1, 32)
    monkeypatch.setenv("TWOFOLD_COMPILE", "off")
    assert not should_compile(GPU, 10**6, 256, 224)
    monkeypatch.setenv("TWOFOLD_COMPILE", "yes")
    with pytest.raises(ParameterError, match="TWOFOLD_COMPILE: found 'yes', allowed are auto, on, off"):
        should_compile(CPU, 1, 1, 32)


def test_on_without_a_gpu_or_a_compiler_is_an_error(monkeypatch):
    monkeypatch.setenv("TWOFOLD_COMPILE", "on")
    with pytest.raises(TrainingError, match=r"TWOFOLD_COMPILE=on: .*; here the device is cpu"):
        should_compile(CPU, 1, 1, 32)
    monkeypatch.setattr(torch_compile, "compiler_version", lambda: "")
    with pytest.raises(TrainingError, match="here no C compiler"):
        should_compile(GPU, 1, 1, 32)


def test_without_a_c_compiler_nothing_compiles(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert compiler_version() == ""


def test_a_compiler_failure_is_logged_once_and_the_function_still_works(monkeypatch, capsys):
    def broken(*inputs):
        raise RuntimeError("no Python.h\nand a long trace")

    monkeypatch.setattr(torch, "compile", lambda function, **options: broken)
    double = compiled(lambda tensor: tensor * 2, "fine-tuning")
    for _ in range(2):
        assert double(torch.ones(1)).item() == 2
    said = capsys.readouterr().err
    assert (
        said.count("fine-tuning: cannot be compiled: RuntimeError: no Python.h; training continues without compiling")
        == 1
    )
    assert "trace" not in said
    monkeypatch.setenv("TWOFOLD_COMPILE", "on")
    with pytest.raises(TrainingError, match=r"cannot be compiled: RuntimeError: no Python\.h; set TWOFOLD_COMPILE=off"):
        compiled(lambda tensor: tensor * 2, "fine-tuning")(torch.ones(1))


def test_a_compiled_function_is_compiled_once(monkeypatch):
    made = []
    monkeypatch.setattr(torch, "compile", lambda function, **options: made.append(function) or function)
    triple = compiled(lambda tensor: tensor * 3, "fine-tuning")
    assert [triple(torch.ones(1)).item() for _ in range(3)] == [3, 3, 3]
    assert len(made) == 1

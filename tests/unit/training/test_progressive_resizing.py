from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.training_maker import FINETUNE, make_finetuned, make_head, make_prepared
from twofold.core.errors import ParameterError
from twofold.core.params import check_section
from twofold.model import inference
from twofold.orchestration.params_file import set_values
from twofold.steps.finetune_all import FinetuneAll
from twofold.training import data_loader
from twofold.training.data_loader import ProgressiveResizing, scale_down

ROOT = Path(__file__).resolve().parents[3]
SMALLER = {"start": 32, "end": 64, "at": 0.5}


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """Prepared images of 64 px, and a head for them."""
    folder = tmp_path_factory.mktemp("larger")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TWOFOLD_LIVE", "off")
        data = make_prepared(folder, size=64)
        return data, make_head(data, folder)


@pytest.mark.parametrize(
    ("epochs", "at", "small"),
    [(4, 0.75, 3), (6, 0.75, 4), (6, 0.5, 3), (1, 0.9, 0), (10, 0.05, 0), (10, 0.9, 9), (100, 0.29, 29)],
)
def test_the_first_epochs_are_small_and_the_others_large(epochs, at, small):
    sizes = [ProgressiveResizing(160, 224, at, epochs).size(epoch) for epoch in range(1, epochs + 1)]
    assert sizes == [160] * small + [224] * (epochs - small)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_scale_down_as_pillow_does_within_a_level(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, channels), np.uint8)
    found = scale_down(torch.from_numpy(pixels), 64)
    assert found.shape == (2, 64, 64, channels) and found.dtype == torch.uint8
    for image, small in zip(pixels, found.numpy(), strict=True):
        opened = Image.fromarray(image[:, :, 0] if channels == 1 else image)
        expected = np.asarray(opened.resize((64, 64), Image.Resampling.BILINEAR)).reshape(64, 64, channels)
        assert np.abs(small.astype(int) - expected).max() <= 1


def test_images_of_that_size_stay_unchanged():
    pixels = torch.zeros(2, 64, 64, 1, dtype=torch.uint8)
    assert scale_down(pixels, 64) is pixels


def test_training_begins_with_small_images_and_validates_on_full_ones(larger, alone, monkeypatch):
    data, head = larger
    trained, validated = [], []
    probabilities = inference.probabilities

    def record(batches):
        for batch in batches:
            validated.append(batch.shape[1])
            yield batch

    monkeypatch.setattr(
        inference, "probabilities", lambda net, batches, **how: probabilities(net, record(batches), **how)
    )
    monkeypatch.setattr(data_loader, "scale_down", lambda x, size: trained.append(size) or scale_down(x, size))
    make_finetuned(data, head, alone, image_size=SMALLER)
    steps = len(trained) // 2
    assert trained == [32] * steps + [64] * steps
    assert set(validated) == {64}


def test_the_same_training_gives_the_same_bytes_and_another_size_others(larger, alone):
    data, head = larger
    made = []
    for name, changes in (("a", {"image_size": SMALLER}), ("b", {"image_size": SMALLER}), ("c", {})):
        (alone / name).mkdir()
        made.append((make_finetuned(data, head, alone / name, **changes) / "model.safetensors").read_bytes())
    assert made[0] == made[1] != made[2]


def test_an_end_that_is_not_the_size_of_the_images_is_an_error(larger, alone):
    data, head = larger
    with pytest.raises(ParameterError, match=r"image_size\.end: found 96; .* has images of 64 px"):
        make_finetuned(data, head, alone, image_size=SMALLER | {"end": 96})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (SMALLER | {"start": 64}, r"finetune_all\.image_size\.end: found 64.*above start, which is 64"),
        (SMALLER | {"at": 1.0}, r"finetune_all\.image_size\.at: found 1\.0"),
        (SMALLER | {"at": 0.0}, r"finetune_all\.image_size\.at: found 0\.0"),
        ({"start": 32, "end": 64}, r"finetune_all\.image_size\.at: missing"),
        (SMALLER | {"stop": 1}, r"finetune_all\.image_size\.stop: unknown key; known in this section: at, end, start"),
        (64, r"finetune_all\.image_size: found 64; must be prepared, or a section that holds start, end and at"),
        (None, r"finetune_all\.image_size: found None; must be prepared, or a section"),
        ("whole", r"finetune_all\.image_size: found 'whole'; must be 'prepared'"),
    ],
)
def test_a_wrong_schedule_is_an_error(value, said):
    with pytest.raises(ParameterError, match=said):
        check_section(FinetuneAll, "finetune_all", FINETUNE | {"image_size": value})


def test_a_schedule_of_floats_from_kubeflow_is_accepted():
    floats = {"start": 32.0, "end": 64.0, "at": 0.5}
    section = check_section(FinetuneAll, "finetune_all", FINETUNE | {"image_size": floats})
    assert section.image_size.model_dump() == SMALLER


def test_a_schedule_must_end_at_the_prepared_size(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "tests" / "params.yaml").read_text())
    with pytest.raises(ParameterError, match=r"finetune_all\.image_size\.end: found 192; .*which is 224"):
        set_values(path, ["finetune_all.image_size={start: 128, end: 192, at: 0.75}"])
    changed = ["finetune_all.image_size={start: 128, end: 192, at: 0.75}", "preprocess.image_size=192"]
    assert "image_size" in set_values(path, changed)

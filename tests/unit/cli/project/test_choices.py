from pathlib import Path

import numpy as np
import pytest

from tests.support.makers import encode, make_folder, pixels
from twofold.cli.project import choices
from twofold.cli.project.choices import SourceSummary, choose, look
from twofold.core.errors import DataError, WeightsError
from twofold.data.decoding import Limits
from twofold.orchestration.params_file import check_all, read
from twofold.training import pretrained_weights

ROOT = Path(__file__).resolve().parents[4]
LIMITS = Limits(10_000_000, 1_000_000, 4)


@pytest.fixture
def sections():
    return read(ROOT / "tests" / "params.yaml")


@pytest.fixture(autouse=True)
def packaged(monkeypatch):
    """Weights of both backbones are there."""
    monkeypatch.setattr(pretrained_weights, "fetch_weights", lambda backbone, weights=None: Path(f"{backbone}.pth"))


def summary(bad, good, **changes):
    return SourceSummary({"good": good, "bad": bad}, {}, "seen")._replace(**changes)


def only_packaged(backbone, weights=None):
    if backbone == "resnet50":
        raise WeightsError("not here")
    return Path("packaged.pth")


def chosen(found, sections, orientation=None):
    made = choose(found, "parts", orientation, sections)
    values = {key: str(value) for choice in made for key, value in choice.values.items()}
    return values, "\n".join(choice.reason for choice in made)


def test_a_look_counts_classes_sizes_and_colours(tmp_path):
    make_folder(tmp_path, per_class=12, size=24)
    (tmp_path / "bad" / "colour.png").write_bytes(encode(pixels(np.random.default_rng(0), 40, True, 3)))
    (tmp_path / "good" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = look(str(tmp_path), "bad", LIMITS)
    assert [*found.counts.items()] == [("good", 13), ("bad", 13)]
    for words in (
        "13 good and 13 bad",
        "25 images looked at",
        "24 to 40 px",
        "24 grey and 1 in colour",
        "1 more would be",
    ):
        assert words in found.text
    assert "such as good/broken.png: " in found.text


def test_a_look_at_many_images_decodes_some_of_each_class(tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "SAMPLE", 10)
    make_folder(tmp_path, per_class=30, size=24)
    assert "10 images looked at" in look(str(tmp_path), "bad", LIMITS).text


@pytest.mark.parametrize("names", [["bad"], ["a", "b", "c"]])
def test_another_number_of_classes_is_refused(names, tmp_path):
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(encode(pixels(np.random.default_rng(0), 24, True)))
    with pytest.raises(
        DataError, match=f"exactly two classes are needed, found {len(names)}: {', '.join(map(repr, names))}"
    ):
        look(str(tmp_path), "bad", LIMITS)


def test_resnet50_is_chosen_where_its_weights_are(sections):
    values, reason = chosen(summary(500, 500), sections)
    assert (values["train_head.backbone"], values["train_head.weights"]) == ("resnet50", "imagenet1k_v1")
    assert "resnet50.pth" in reason
    assert "preprocess.image_size" not in values


def test_weights_of_neither_backbone_are_an_error(sections, monkeypatch):
    def fetch(backbone, weights=None):
        raise WeightsError(f"{backbone} cannot be had")

    monkeypatch.setattr(pretrained_weights, "fetch_weights", fetch)
    with pytest.raises(WeightsError, match="efficientnet_lite0 cannot be had"):
        choose(summary(500, 500), "parts", None, sections)


@pytest.mark.parametrize("packaged", [False, True])
@pytest.mark.parametrize("orientation", [None, "fixed", "mirrored", "free"])
def test_every_choice_gives_valid_parameters_and_no_orientation_is_free_by_itself(
    orientation, packaged, sections, monkeypatch
):
    if packaged:
        monkeypatch.setattr(pretrained_weights, "fetch_weights", only_packaged)
    values, reason = chosen(summary(500, 500), sections, orientation)
    assert (values["train_head.orientation_free"] == "true") == (orientation == "free")
    assert ("nobody said" in reason) == (orientation is None)
    document = {name: section.model_dump(mode="json") for name, section in sections.items()}
    for address, value in values.items():
        section, key = address.split(".")
        document[section][key] = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
    check_all(document | {"ingest": sections["ingest"].model_dump(mode="json")})


@pytest.mark.parametrize(
    ("bad", "good", "given", "promotion"),
    [
        (500, 500, {}, "auto"),
        (40, 40, {}, "review"),
        (500, 500, {"bad": 8, "good": 8}, "review"),
        (40, 40, {"bad": 400, "good": 400}, "auto"),
    ],
)
def test_promotion_is_left_to_people_where_a_gate_cannot_be_passed(bad, good, given, promotion, sections):
    values, reason = chosen(summary(bad, good, test=given), sections)
    assert values["register.promotion"] == promotion
    assert not [name for name in values if "gates" in name]
    if promotion == "review":
        assert "no gate was lowered" in reason
        assert "roc_auc" in reason
    test = given or {"bad": bad // 5, "good": good // 5}
    assert f"about {sum(test.values())} test images ({test['good']} good, {test['bad']} bad)" in reason


@pytest.mark.parametrize("name", ["yes", "1", "it's", "a: b"])
def test_a_class_name_is_quoted(name, sections):
    found = summary(500, 500, counts={"good": 500, name: 500})
    values, _ = chosen(found, sections)
    from ruamel.yaml import YAML

    assert YAML(typ="safe").load(values["ingest.positive"]) == name

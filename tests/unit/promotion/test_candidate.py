"""The candidate: artifacts that were not made from each other are refused."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from tests.support import registration_case as case
from twofold.core.artifacts import read_json, write_json
from twofold.core.errors import ArtifactError
from twofold.promotion.candidate import read_candidate, sample_files


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("candidate")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        return case.make_candidate(root, case.make_data(root))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: write_json(own.metrics, read_json(own.metrics) | {"accuracy": 0.99}), "accuracy is 0.99"),
        (lambda own: write_json(own.metrics, {}), "accuracy is None"),
        (lambda own: of_version(own.evaluation, 4), r"\('evaluation', 4\), expected \('evaluation', 5\); make this"),
        (lambda own: write_json(own.metrics, without(own.metrics, "n_units")), "n_units is None.*run evaluate again"),
        (lambda own: (own.model / "extra").write_text(""), "the model's digest is .*run evaluate again"),
        (lambda own: (own.evaluation / "predictions.parquet").unlink(), "predictions.parquet: cannot be read"),
        (lambda own: (own.head / "meta.json").unlink(), "meta.json: no such file"),
        (lambda own: rebased(own.head), "the base weights' SHA-256 is 0+, expected b+"),
    ],
)
def test_altered_artifacts_are_refused(made, tmp_path, change, message):
    own = case.copy(made, tmp_path)
    change(own)
    with pytest.raises(ArtifactError, match=message):
        read_candidate(*own)


def without(metrics, name):
    """The metrics as an earlier version wrote them."""
    return {key: value for key, value in read_json(metrics).items() if key != name}


def of_version(evaluation, number):
    """An evaluation as Twofold 0.1.0 wrote it, whose metrics were beside it."""
    write_json(evaluation / "meta.json", read_json(evaluation / "meta.json") | {"schema_version": number})


def rebased(head):
    write_json(head / "meta.json", read_json(head / "meta.json") | {"base_sha256": "0" * 64})


def test_artifacts_of_other_data_are_refused(made, tmp_path, monkeypatch):
    images = case.IMAGES
    monkeypatch.setattr(case, "IMAGES", [*images[:-1], ("test", 111, True)])
    other = case.make_data(tmp_path)
    with pytest.raises(ArtifactError, match=r"decision\.json: the data's fingerprint is .*run evaluate again"):
        read_candidate(*made._replace(raw=other[0], data=other[1]))
    with pytest.raises(ArtifactError, match=r"data: the data's fingerprint is .*run preprocess again"):
        read_candidate(*made._replace(raw=other[0]))


def test_the_key_depends_on_model_decision_and_test_images(made):
    candidate = read_candidate(*made)
    assert candidate.key == read_candidate(*made).key
    for name in ("finetune_all", "decision"):
        assert replace(candidate, digests={**candidate.digests, name: "0"}).key != candidate.key
    assert replace(candidate, test_fingerprint="0").key != candidate.key
    assert replace(candidate, digests={**candidate.digests, "train_head": "0"}).key == candidate.key


def test_it_names_the_images_of_each_split(made):
    candidate = read_candidate(*made)
    assert {split: len(images) for split, images in candidate.splits.items()} == {
        "train": 4,
        "validation": 6,
        "test": 7,
    }
    assert candidate.splits["test"] == {*candidate.test.sha256.tolist()}


def test_the_sample_has_the_files_of_test_images_and_their_probabilities(made):
    candidate = read_candidate(*made)
    files, probability = sample_files(candidate, 3)
    by_sha256 = dict(zip(candidate.test.sha256, candidate.test.probability, strict=True))
    assert [by_sha256[hashlib.sha256(data).hexdigest()] for data in files] == probability.tolist()
    assert len(sample_files(candidate, 16)[0]) == 7
    six = replace(candidate, rows=candidate.rows[:6], test=candidate.test.take(np.arange(6)))
    assert len(sample_files(six, 16)[0]) == 6

"""Further files that a seal may list."""

import shutil

import pytest

from tests.support import sealed_case
from twofold.core.artifacts import file_sha256, read_json, write_json
from twofold.core.errors import ArtifactError
from twofold.serving.sealed_model import FILES, open_sealed


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sealed model with a further file, notes.json."""
    root = tmp_path_factory.mktemp("made")
    (root / "notes").write_text("more")
    return sealed_case.make(root, further={"notes.json": root / "notes"})


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "sealed")


def test_a_further_file_is_verified_like_the_others(folder):
    assert set(read_json(folder / "seal.json")["files"]) == {*FILES, "notes.json"}
    digest = file_sha256(folder / "seal.json")
    assert open_sealed(folder, digest).digest == digest
    (folder / "notes.json").write_text("less")
    with pytest.raises(ArtifactError, match=r"notes\.json: altered"):
        open_sealed(folder)
    (folder / "notes.json").unlink()
    with pytest.raises(ArtifactError, match=r"notes\.json: no such file"):
        open_sealed(folder)


@pytest.mark.parametrize("name", ["../notes", "..", "a/b", "/etc/passwd", ".", ""])
def test_a_seal_that_lists_a_path_is_refused(folder, name):
    forged = read_json(folder / "seal.json")
    forged["files"][name] = "0" * 64
    write_json(folder / "seal.json", forged)
    with pytest.raises(ArtifactError, match=r"seal\.json: lists"):
        open_sealed(folder)

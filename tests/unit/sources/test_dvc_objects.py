"""Data that DVC has linked into its cache are read like files of the folder; the cache's own configuration decides."""

import pytest

from tests.support.dvc_case import command
from tests.support.makers import file_bytes, make_folder, make_raw
from twofold.core.errors import DataError
from twofold.data.raw import RawDataset
from twofold.sources.local_folder import FolderSource


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A DVC project with links for copies; it is the working directory, and the user has no configuration."""
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    root = tmp_path / "project"
    root.mkdir()
    command(root, "dvc", "init", "-q", "--no-scm")
    command(root, "dvc", "config", "cache.type", "symlink")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize("shared", [False, True])
def test_data_that_dvc_has_linked_are_images(project, tmp_path, shared):
    if shared:
        command(project, "dvc", "config", "--local", "cache.dir", "../shared")
    images = make_folder(project / "data" / "images", per_class=4, size=24)
    expected = file_bytes(images)
    command(project, "dvc", "add", "-q", "data/images")
    assert all(path.is_symlink() for path in images.glob("*/*.png"))
    assert (tmp_path / "shared").is_dir() == shared
    raw = RawDataset.open(make_raw("data/images", tmp_path / "raw"))
    assert {image.key: raw.read(image) for image in raw.images} == expected


def test_links_into_the_cache_of_another_project_are_refused_until_the_user_names_it(project, tmp_path, monkeypatch):
    images = make_folder(project / "images", per_class=2, size=24)
    command(project, "dvc", "add", "-q", "images")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"4 of 4 files are refused.*(?s:.*)your or the project's configuration"):
        make_raw(images, tmp_path / "raw")
    command(project, "dvc", "config", "--global", "cache.dir", str(project / ".dvc" / "cache"))
    assert len(RawDataset.open(make_raw(images, tmp_path / "raw")).images) == 4


@pytest.mark.parametrize("config", ["[cache", "[cache]\n    dir = 1\n[cache]\n", "\xff"])
def test_a_configuration_that_cannot_be_read_is_the_reason(project, tmp_path, config):
    images = make_folder(tmp_path / "images", per_class=1, size=24)
    (images / "bad" / "link.png").symlink_to(project / ".dvc" / "cache" / "files" / "md5" / "00" / "0")
    (project / ".dvc" / "config").write_bytes(config.encode("latin-1"))
    problem = FolderSource(images).problem("bad/link.png")
    assert problem.startswith("a symbolic link that leaves the folder; DVC: config file error")

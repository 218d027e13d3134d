"""Twofold's wheel and its skeleton, as if it were installed; weights that can or cannot be had; images."""

from pathlib import Path

import pytest

import twofold
from tests.support import wheel_case
from tests.support.makers import make_folder
from twofold.core.errors import WeightsError
from twofold.training import pretrained_weights


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_case.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the installed package."""
    return wheel_case.install(wheel, tmp_path_factory.mktemp("site"))


@pytest.fixture
def installed(site: Path, alone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, in which twofold is the installed one and ResNet-50 cannot be downloaded."""
    monkeypatch.setattr(twofold, "__file__", str(site / "twofold" / "__init__.py"))

    def fetch(backbone: str, weights: str | None = None) -> Path:
        if backbone == "resnet50":
            raise WeightsError("https://weights.example/resnet50.pth: could not be downloaded\nremedies")
        return Path("packaged.pth")

    monkeypatch.setattr(pretrained_weights, "fetch_weights", fetch)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        monkeypatch.setenv(name, "Tester")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "tester@example.org")
    return alone


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images of each of two classes."""
    return make_folder(tmp_path_factory.mktemp("parts"), per_class=60, size=24)

"""Fixtures of the container tests only: the engine and the images, built once."""

import pytest

from tests.support.tools.engine import Engine, names


@pytest.fixture(scope="session")
def engine():
    """The started engine; at the end, removes the additional images that tests have built."""
    engine = Engine()
    yield engine
    images = engine.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    extra = [name for name in images if ":tests-" in name]
    if extra:
        engine.run("image", "rm", "--force", *extra)
    engine.stop()


@pytest.fixture(scope="session")
def images(engine):
    """{target: image} of this checkout; also removes the unnamed layers of earlier lock files."""
    found = names(engine.build("data", "train", "server", tag="tests"))
    engine.run("image", "prune", "--force", check=False)  # an interrupted build may still hold one
    return found

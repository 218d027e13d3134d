"""For the tests in containers: the engine and the images, once for all of them. Asked for by no other test."""

import pytest

from tests.support.tools.engine import Engine, names


@pytest.fixture(scope="session")
def engine():
    """Ready; what the tests built beside the images of this tree is given back at the end."""
    found = Engine()
    yield found
    made = found.run("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").stdout.split()
    extra = [name for name in made if ":tests-" in name]
    if extra:
        found.run("image", "rm", "--force", *extra)
    found.stop()


@pytest.fixture(scope="session")
def images(engine):
    """{target: image} of this tree; the layers of earlier locks, which nothing names any more, are given back."""
    found = names(engine.build("data", "train", "server", tag="tests"))
    engine.run("image", "prune", "--force")
    return found

import subprocess
import sys

import pytest

from twofold.core.code_digest import ROOT, closure, code_digest

FILES = {
    "__init__": "",
    "a": "import shop.b\nfrom shop import c\n\nif __name__ == '__main__':\n    from shop.face import main\n",
    "b": "def work():\n    from shop.d import thing\n    return thing\n",
    "c": "import os, json\n",
    "d": "import shop.a  # in a circle\nthing = 1\n",
    "face": "",
    "unused": "",
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "shop").mkdir()
    for name, text in FILES.items():
        (tmp_path / "shop" / f"{name}.py").write_text(text)
    return tmp_path


def test_imports_are_followed_into_functions_and_through_circles_but_not_into_the_command_line(root):
    assert [path.stem for path in closure("shop.a", root)] == ["a", "b", "c", "d"]


def test_the_digest_follows_every_file_of_the_closure_and_no_other(root):
    before = code_digest("shop.a", root)
    (root / "shop" / "unused.py").write_text("x = 1\n")
    assert code_digest("shop.a", root) == before
    (root / "shop" / "d.py").write_text("thing = 2\n")
    assert code_digest("shop.a", root) != before


def test_what_a_step_imports_when_it_runs_is_in_its_closure():
    listed = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in closure("twofold.training.feature_extraction")
    }
    program = "import sys, twofold.training.feature_extraction, twofold.storage.cache_s3; print(*(m for m in sys.modules if m.startswith('twofold')))"
    packages = {"twofold", *(f"twofold.{path.parent.name}" for path in ROOT.glob("twofold/*/__init__.py"))}
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) - packages == listed

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


def test_the_closure_includes_imports_in_functions_and_circles_but_not_those_of_the_command_line(root):
    assert [path.stem for path in closure("shop.a", root)] == ["a", "b", "c", "d"]


def test_the_digest_depends_on_the_files_of_the_closure_only(root):
    before = code_digest("shop.a", root)
    (root / "shop" / "unused.py").write_text("x = 1\n")
    assert code_digest("shop.a", root) == before
    (root / "shop" / "d.py").write_text("thing = 2\n")
    assert code_digest("shop.a", root) != before


def test_the_closure_contains_every_module_that_is_imported_at_run_time():
    module = "twofold.training.feature_extraction"
    found = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in closure(module)}
    imports = f"import sys, {module}, twofold.storage.cache_s3"
    program = f"{imports}; print(*(name for name in sys.modules if name.startswith('twofold')))"
    packages = {"twofold", *(f"twofold.{path.parent.name}" for path in ROOT.glob("twofold/*/__init__.py"))}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) - packages == found

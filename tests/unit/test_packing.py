"""What a model is packed with: its own code under a name of its own, and the packages that it needs."""

import pytest

from twofold import sealing
from twofold.errors import ArtifactError
from twofold.serving import packing
from twofold.serving.packing import requirements


@pytest.mark.parametrize("line", ["import twofold.model", "from twofold import model as m", "from . import model"])
def test_code_that_cannot_be_renamed_is_refused(monkeypatch, tmp_path, line):
    (tmp_path / "twofold").mkdir()
    (tmp_path / "twofold" / "odd.py").write_text(f"def f():\n    {line}\n")
    monkeypatch.setattr(sealing, "ROOT", tmp_path)
    monkeypatch.setattr(sealing, "closure", lambda module: [tmp_path / "twofold" / "odd.py"])
    if line.startswith("from twofold import"):
        package, files = sealing.served_code()
        assert f"from {package} import model" in files["odd.py"]
    else:
        with pytest.raises(ArtifactError, match=r"odd\.py: write its imports as"):
            sealing.served_code()


def test_a_builds_own_mark_is_not_pinned(monkeypatch):
    monkeypatch.setattr(packing.metadata, "version", lambda name: "1.2+cu130")
    assert set(requirements.__wrapped__()) >= {"torch==1.2", "numpy==1.2"}

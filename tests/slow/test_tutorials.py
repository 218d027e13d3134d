"""The shell blocks of the tutorials run as they stand, in the order in which a reader can follow the pages.

Images are generated, training is short, and Kubeflow is the tests' server. LEFT_OUT needs the network, containers or
gigabytes.
"""

import re
import shutil
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project
from tests.support import wheel_case
from tests.support.kfp_server.server import KfpServer
from tests.support.kube_server.objects import fill
from tests.support.kube_server.server import Kube, kubeconfig, serve
from tests.support.makers import make_folder
from twofold.kubeflow.definition.resources import load_resources

pytestmark = pytest.mark.slow
TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
LEFT_OUT = {
    "demo": [
        "git clone URL-OF-THIS-REPOSITORY twofold",
        "cd twofold",
        "make demo",
        ". .venv/bin/activate",
        "twofold open mlflow",
    ],
    "own-images": [
        ". .venv/bin/activate",
        "scripts/wheel dist",
        "python3 -m venv ~/.venvs/twofold",
        ". ~/.venvs/twofold/bin/activate",
        "pip install dist/twofold-0.2.0-py3-none-any.whl",
    ],
    "retraining": [". ~/.venvs/twofold/bin/activate"],
    "kubeflow": [
        ". ~/.venvs/twofold/bin/activate",
        "twofold kfp run",  # tests/pipeline/test_kfp_run.py
        "docker/images",
        "REGISTRY=registry.example/team docker/push",
    ],
}
# After `twofold init`: less work, and a gate that the small test can pass.
QUICK = """
twofold params set train_head.epochs=2 finetune_all.epochs=1 preprocess.image_size=64 preprocess.test_fraction=0.4 \\
  evaluate.robustness=0 register.promotion=auto "register.gates=[{figure: roc_auc, min: 0.5}]"
"""


def shell_blocks(name: str) -> str:
    """All shell blocks of a tutorial as one script, without LEFT_OUT, each line of which must be there."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (TUTORIALS / f"{name}.md").read_text(), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).splitlines()
    for line in LEFT_OUT[name]:
        lines.remove(line)
    return "\n".join(lines)


class Reader:
    """A person with a home folder, images in `data/`, and the package as its wheel installs it."""

    def __init__(self, root: Path) -> None:
        self.project = Project(root / "home")  # it makes the folder, its HOME
        self.home = self.project.root
        wheel = wheel_case.build(root)
        env = self.project.env
        env |= {"HOME": str(self.home), "PYTHONPATH": str(wheel_case.install(wheel, root / "site")), "BROWSER": "true"}
        env |= {f"GIT_{role}_{key}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        env |= {"OMP_NUM_THREADS": "1", "WHEEL": str(wheel)}
        for name in ("KF_PIPELINES_ENDPOINT", "KFP_TOKEN", "KFP_COOKIES"):
            env.pop(name, None)

    def follow(self, name: str, changes: dict[str, str] | None = None) -> str:
        """Run a tutorial's commands in one shell; return what they printed."""
        script = re.sub(r"(?<![.\w/])/data/", f"{self.home}/data/", shell_blocks(name))
        for old, new in (changes or {}).items():
            assert old in script, f"{name}: {old} is not in it"
            script = script.replace(old, new)
        done = self.project.run("bash", "-euo", "pipefail", "-x", "-c", script)
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A reader who has followed the tutorial on own images."""
    made = Reader(tmp_path_factory.mktemp("tutorials"))
    make_folder(made.home / "data" / "parts", per_class=60)
    init = "twofold init ~/line --source"
    made.said = made.follow(
        "own-images",
        {f"{init}": f'{init[:20]} --wheel "$WHEEL" --yes --source', "\ncd ~/line\n": f"\ncd ~/line\n{QUICK}"},
    )
    return made


def test_own_images(reader):
    assert "because: " in reader.said
    assert (reader.home / "line" / "audit" / "ingest" / "audit.html").is_file()
    tracked = reader.project.run("git", "-C", "line", "ls-files").stdout.splitlines()
    assert "params.yaml" in tracked
    assert [name for name in tracked if name.startswith(("audit/", "answers"))] == []
    verdict = (reader.home / "line" / "reports" / "registration.json").read_text()
    assert '"version": 1' in verdict
    assert "promotion: review" in (reader.home / "line" / "params.yaml").read_text()


def test_the_demo(reader):
    (reader.home / "demo").symlink_to("line")
    images = reader.home / "data" / "elpv" / "images"
    images.mkdir(parents=True)
    for number, path in enumerate(sorted((reader.home / "data" / "parts" / "bad").glob("*.png"))[:10], start=1):
        shutil.copy(path, images / f"cell{number:04d}.png")  # named as data/elpv.py names them
    said = reader.follow("demo")
    assert re.search(r"^path,label,probability,threshold,version,error\n.*cell0001\.png,", said, re.MULTILINE)
    assert "policy: max_accuracy" in (reader.home / "line" / "params.yaml").read_text()


def test_weekly_retraining(reader):
    make_folder(reader.home / "data" / "new", per_class=20, seed=1)
    labelled = make_folder(reader.home / "more", per_class=70)
    for path in sorted(labelled.rglob("*.png")):
        if int(path.stem) >= 60:
            (reader.home / "data" / "labelled" / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, reader.home / "data" / "labelled" / path.parent.name)
    said = reader.follow("retraining")
    assert "is now champion (entry " in said
    assert "misses scratches at line 4" in reader.project.run("bash", "-c", "cd line; twofold models history").stdout


def test_kubeflow(reader):
    kube = Kube()
    fill(kube, load_resources())
    store = f"sqlite:///{reader.home}/line/mlflow.db"
    with KfpServer() as server, serve(kube) as cluster:
        reader.project.env["KUBECONFIG"] = str(kubeconfig(reader.home / "kubeconfig", cluster))
        said = reader.follow("kubeflow", {"https://kubeflow.example": server.host, "https://mlflow.example": store})
    assert "/#/runs/details/" in said
    assert "nightly" in said

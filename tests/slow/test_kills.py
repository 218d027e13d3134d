"""Each step is killed with SIGKILL at random moments: the next run gives the same bytes and leaves nothing behind.

One kill of each step; TWOFOLD_KILLS=10 (`make soak`) makes it ten, at other moments each time.
"""

import json
import os
import re
import shlex
import sys
import time

import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import ROOT, make_project
from twofold.orchestration.params_file import STEPS, set_values

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("TWOFOLD_KILLS", "1"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which the first five steps have run, and no model is registered."""
    project = make_project(tmp_path_factory.mktemp("kills") / "project")
    # A kill should cost seconds.
    set_values(project.root / "params.yaml", ["evaluate.pictures=false", "evaluate.robustness=0", "evaluate.views=1"])
    project.run("dvc", "repro", "evaluate")
    temporary = project.root.parent / "tmp"
    temporary.mkdir()
    project.env |= {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    return project


@pytest.mark.parametrize("step", STEPS)
def test_a_run_after_a_kill_gives_the_same_bytes_and_leaves_nothing_behind(step, project):
    seed = f"{time.time_ns() if KILLS > 1 else 0}"
    script = str(ROOT / "tests" / "support" / "kill_case.py")
    done = project.run(sys.executable, script, step, str(KILLS), seed)
    first, *others = map(json.loads, done.stdout.splitlines()[-KILLS - 1 :])
    print(step, seed, [other["moment"] for other in others])
    assert first["status"] == 0, done.stderr
    assert [name for name in first["files"][0] if name.startswith(project.env["TMPDIR"])] == []
    for other in others:
        about = f"{step}, seed {seed}, killed after {other['moment']}:\n{done.stderr}"
        assert other["status"] == 0, about
        assert other["outcome"] == first["outcome"], about
        assert other["files"] == first["files"], about


# Runs Python under the kernel's limit of a file's size, which ends a write as a full disk does.
WITHOUT_ROOM = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_finds_no_room_says_where_in_one_line_and_leaves_nothing(step, project):
    words = shlex.split(YAML(typ="safe").load((project.root / "dvc.yaml").read_text())["stages"][step]["cmd"])
    before = left(project)
    # MLflow logs tracebacks of its database itself, for live curves and in register.
    own = {"TWOFOLD_CACHE": "no-cache", "TWOFOLD_LIVE": "off"}
    done = project.run(sys.executable, "-c", WITHOUT_ROOM, *words[1:], check=False, **own)
    assert done.returncode == 1, done.stderr
    assert step == "register" or "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    where = r"((\S*/tmp|data|reports|models|\.twofold)/[^.]\S*: cannot be written: |MLflow at sqlite:\S+/mlflow\.db: )"
    assert re.match(rf"twofold {step}: error: {where}", last)
    assert left(project) == before


def left(project):
    ignored = (".dvc/", ".git/", "no-cache", "mlflow.db", "tmp/torchinductor")
    files = [path for path in project.root.parent.rglob("*") if "__pycache__" not in path.parts]
    names = [path.relative_to(project.root.parent).as_posix().removeprefix("project/") for path in files]
    return sorted(name for name in names if not name.startswith(ignored))

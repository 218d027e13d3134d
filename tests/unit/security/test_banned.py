"""No source in the repository reads a file in a way that executes code from it."""

from pathlib import Path

import pytest

from tests.support.banned import banned

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("twofold", "components", "pipelines", "bench", "data", "docker", "deploy", "scripts", "examples")
# file -> the banned calls that it may make
EXCEPTIONS = {
    # Loads what register has just packed itself, in a separate process where unpickling is disabled.
    "twofold/serving/smoke_test_script.py": {"mlflow.pyfunc.load_model"},
}


def sources():
    return sorted(path for folder in FOLDERS if (ROOT / folder).is_dir() for path in (ROOT / folder).rglob("*.py"))


def offences(path):
    allowed = EXCEPTIONS.get(path.relative_to(ROOT).as_posix(), set())
    return [each for each in banned(path.read_text(encoding="utf-8")) if each.partition(": ")[2] not in allowed]


def test_no_source_executes_code_from_a_file():
    found = {path.relative_to(ROOT).as_posix(): offences(path) for path in sources()}
    assert len(found) > 100
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_every_exception_is_still_needed():
    for name, allowed in EXCEPTIONS.items():
        found = {each.partition(": ")[2] for each in banned((ROOT / name).read_text(encoding="utf-8"))}
        assert found == allowed, name


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(f)",
        "import pickle\npickle.loads(b'')",
        "import pickle as p\np.loads(b'')",
        "from pickle import load\nload(f)",
        "from pickle import loads as read\nread(b'')",
        "from pickle import *",
        "import pickle\npickle.Unpickler(f).load()",
        "import pickle\nread = pickle.load",
        "import pickle\nlist(map(pickle.loads, parts))",
        "import pickle\ngetattr(pickle, 'loads')(b'')",
        "import importlib\nimportlib.import_module('pickle').loads(b'')",
        "import _pickle\n_pickle.loads(b'')",
        "import joblib\njoblib.load('calibrator.joblib')",
        "from joblib import load\nload('calibrator.joblib')",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=flag)",
        "import torch\ntorch.load(path, **options)",
        "from torch import load\nload(path)",
        "import torch.serialization\ntorch.serialization.load(path)",
        "import torch\ngetattr(torch, 'load')(path)",
        "import torch\ntorch.hub.load('a/b', 'c')",
        "import torch\ntorch.jit.load(path)",
        "import torch\ntorch.serialization.add_safe_globals([getattr])",
        "read(path, weights_only=False)",
        "options(weights_only=not strict)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, None, True)",
        "import numpy\nnumpy.load(path, allow_pickle=flag)",
        "from numpy import load\nload(path, allow_pickle=True)",
        "import dill",
        "import cloudpickle\ncloudpickle.loads(b'')",
        "from cloudpickle import loads",
        "def late():\n    import dill.source",
        "import pandas as pd\npd.read_pickle(path)",
        "import marshal\nmarshal.loads(b'')",
        "import shelve\nshelve.open('x')",
        "import mlflow\nmlflow.pyfunc.load_model(uri)",
        "import mlflow.pyfunc\nmlflow.pyfunc.load_model(uri)",
        "from mlflow.pyfunc import load_model",
        "from mlflow import pyfunc\npyfunc.load_model(uri)",
        "import mlflow\nmlflow.pytorch.load_model(uri)",
        "from mlflow import sklearn as s\ns.load_model(uri)",
        "import mlflow\nmlflow.pyfunc.spark_udf(spark, uri)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "from ruamel.yaml import YAML\nYAML(typ='unsafe')",
        "import runpy\nrunpy.run_path('model.py')",
        "from importlib.util import spec_from_file_location",
        "exec(text)",
        "eval(text)",
    ],
)
def test_a_banned_call_is_found(source):
    assert list(banned(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torch\ntorch.load(path, map_location='cpu', weights_only=True)",
        "import numpy as np\nnp.load(path, mmap_mode='r')",
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import pickle\ntry:\n    pass\nexcept pickle.UnpicklingError:\n    pass",
        "import json\njson.load(f)\njson.loads(text)",
        "from safetensors.torch import load_file\nload_file(path)",
        "from twofold.model.classifier import load_classifier\nload_classifier(path)",
        "import yaml\nyaml.safe_load(text)",
        "from ruamel.yaml import YAML\nyaml = YAML(typ='safe')\nyaml.load(text)",
        "model.eval()",
        "store.load_model(uri)",
        "text = 'pickle.load(f)'  # pickle.load(f)",
    ],
)
def test_a_harmless_call_is_not_reported(source):
    assert list(banned(source)) == []

"""What the compiled pipeline holds."""

from ruamel.yaml import YAML

from twofold.kubeflow.definition.compiler import compile_pipeline
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import load_resources
from twofold.orchestration.params_file import load_yaml

NAMES = {"positive": "1e3", "source": "0o17", "max_bytes": 50000000, "max_refused_fraction": 1e-05}
OTHERS = {"split_salt": "12E4", "fit": "1.5e3", "image_size": 224}


def test_kubeflow_reads_every_text_as_text_and_every_number_as_number(tmp_path, request):
    root = request.config.rootpath
    params = load_yaml(root / "tests" / "params.yaml")
    params["ingest"] |= NAMES
    params["preprocess"] |= OTHERS
    resources = load_resources(root / "tests" / "golden" / "resources.yaml")
    compile_pipeline(tmp_path / "a.yaml", images=Images("a:1", "b:1"), resources=resources, params=params)
    inputs = next(YAML(typ="safe").load_all(tmp_path / "a.yaml"))["root"]["inputDefinitions"]["parameters"]
    # YAML 1.2 reads numbers as Kubeflow's server does.
    assert inputs["ingest"]["defaultValue"] == params["ingest"]
    assert inputs["preprocess"]["defaultValue"] == params["preprocess"]

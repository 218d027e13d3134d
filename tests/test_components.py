"""The KFP components are thin and agree with the steps; their own modules are no dependency of a step."""

import ast
import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from components.check_gates import check_gates
from tests.support.makers import make_folder
from tests.test_contract import ROOT, imports_of, step_function
from twofold.core.code_digest import closure
from twofold.orchestration.params_file import STEPS, load_yaml
from twofold.orchestration.step_cli import signature
from twofold.promotion import attainable_gates


def top_level_imports(path):
    """The modules that a file imports outside of functions."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


MODULES = tuple(f"twofold.orchestration.{name}" for name in ("task", "kfp_display", "notifications"))
COMPONENTS = sorted(path for path in (ROOT / "components").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.stem)
def test_a_component_imports_kfp_at_its_top_and_twofold_in_its_body_and_has_no_logic(path):
    tree = ast.parse(path.read_text())
    assert {name.split(".")[0] for name in top_level_imports(path)} <= {"kfp", "typing"}, path
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == [path.stem]
    inside = {name.split(".")[0] for name in imports_of(path)} - {"kfp", "typing"}
    assert inside == {"twofold"}, path
    (function,) = functions
    assert function.end_lineno - function.lineno <= 30
    assert not [node for node in ast.walk(function) if isinstance(node, ast.If | ast.IfExp | ast.Try | ast.While)]


@pytest.mark.parametrize("step", STEPS)
def test_a_component_reads_and_writes_what_its_steps_signature_says(step):
    component = getattr(importlib.import_module(f"components.{step}"), step)
    contract, spec = signature(step_function(step)), component.component_spec
    reads = {name for name, found in spec.inputs.items() if found.type.startswith("system.")}
    assert reads == set(contract.reads)
    for_display = {"evaluate": {"curves", "report"}, "register": {"gates", "decision"}}.get(step, set())
    for_display |= {"audit_page"} if "audit" in contract.writes else set()
    writes = {name for name, found in spec.outputs.items() if found.type.startswith("system.")}
    assert writes == set(contract.writes) | for_display
    parameters = set(spec.inputs) - reads
    assert {f"{name}_digest" for name in reads} | {"params", "force"} <= parameters
    assert "digest" in set(spec.outputs) - writes


def test_check_gates_names_every_gate_that_a_perfect_model_fails_in_the_log_and_on_its_page(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(
        attainable_gates,
        "find_in_prepared",
        lambda data, sections: [f"{data}: {gate.figure}" for gate in sections["register"].gates[:2]],
    )
    sections = load_yaml(ROOT / "tests" / "params.yaml")
    data, page = (SimpleNamespace(path=str(tmp_path / name)) for name in ("data", "page"))
    given = {name: sections[name] for name in ("preprocess", "register")}
    check_gates.python_func(**given, force="", data=data, data_digest="", page=page)
    found = [f"{data.path}: roc_auc", f"{data.path}: accuracy"]
    assert capsys.readouterr().err.splitlines() == [f"check_gates: warning: {text}" for text in found]
    assert (tmp_path / "page").read_text() == "\n\n".join(found)


def test_pipelines_import_no_step():
    for path in (ROOT / "pipelines").rglob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] not in {"torch", "mlflow", "sklearn", "timm", "tests", "bench"}, path
            assert not name.startswith("twofold.steps"), path


def test_the_modules_of_the_components_are_no_dependency_of_a_step():
    modules = {ROOT / f"{module.replace('.', '/')}.py" for module in MODULES}
    assert all(path.exists() for path in modules)
    for step in STEPS:
        assert not modules & set(closure(f"twofold.steps.{step}"))


def test_the_components_of_source_version_and_ingest_run_in_the_data_image(tmp_path):
    source = make_folder(tmp_path / "images", per_class=1)
    missing = ["torch", "torchvision", "mlflow", "timm", "matplotlib", "safetensors", "pandas", "cleanlab"]
    code = (
        f"import sys; sys.modules |= dict.fromkeys({missing})\n"
        "from pathlib import Path\n"
        "from twofold.orchestration.kfp_display import read_metrics\n"
        "from twofold.orchestration.params_file import load_yaml\n"
        "from twofold.orchestration.task import check_parameters_and_source, run_step\n"
        "from twofold.steps.preprocess import preprocess\n"
        "sections = load_yaml(Path('tests/params.yaml'))\n"
        f"sections['ingest']['source'] = {str(source)!r}\n"
        "print(check_parameters_and_source(**sections)[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr.startswith("source_version: "), len(done.stderr.splitlines())) == (
        "twofold\n",
        True,
        1,
    )


@pytest.mark.parametrize(
    "module",
    ["twofold.cli.main", "twofold.orchestration.params_file", *MODULES, *(f"twofold.steps.{s}" for s in STEPS)],
)
def test_importing_is_light(module):
    heavy = "{'torch', 'mlflow', 'timm', 'sklearn', 'matplotlib', 'dvc'}"
    code = f"import sys, {module}; sys.exit(str(sorted({heavy} & set(sys.modules)) or ''))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert found.stderr.strip() == ""

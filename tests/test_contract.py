"""The steps, dvc.yaml, params.yaml and the components agree; imports go down the floors."""

import ast
import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from twofold.core.code_digest import closure
from twofold.core.params import nested_section, section_choices
from twofold.orchestration.params_file import STEPS, check_all, load_yaml, section_model
from twofold.orchestration.step_cli import signature

ROOT = Path(__file__).resolve().parent.parent
STAGES = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]


def step_function(step):
    return getattr(importlib.import_module(f"twofold.steps.{step}"), step)


def names(entries):
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def paths_of(step):
    """{argument: path} of the stage's command."""
    words = shlex.split(STAGES[step]["cmd"])
    assert words[:3] == ["python", "-m", f"twofold.steps.{step}"]
    return {option.removeprefix("--"): path for option, path in zip(words[3::2], words[4::2], strict=True)}


def test_the_stages_are_the_steps_in_order():
    assert tuple(STAGES) == STEPS
    files = {path.stem for path in (ROOT / "twofold" / "steps").glob("*.py")} - {"__init__"}
    assert files == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_reads_and_writes_what_its_steps_signature_says(step):
    contract, paths = signature(step_function(step)), paths_of(step)
    assert tuple(paths) == contract.reads + contract.writes
    stage = STAGES[step]
    data = [dep for dep in names(stage["deps"]) if not dep.startswith("twofold/")]
    outs = names(stage.get("outs", [])) + names(stage.get("metrics", []))
    expected = [paths[name] for name in contract.reads]
    assert data == (["${ingest.source}"] if step == "ingest" else []) + expected
    assert sorted(outs) == sorted(paths[name] for name in contract.writes)
    assert stage["params"] == [step]


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_depends_on_all_code_that_its_step_reaches_and_on_nothing_in_vain(step):
    reached = {path.relative_to(ROOT) for path in closure(f"twofold.steps.{step}")}
    listed = [Path(dep) for dep in names(STAGES[step]["deps"]) if dep.startswith("twofold/")]
    assert listed == sorted(listed)
    missing = sorted(path for path in reached if not any(path.is_relative_to(each) for each in listed))
    assert not missing, "dvc.yaml lacks:\n" + "\n".join(f"      - {path}" for path in missing)
    vain = [each for each in listed if not any(path.is_relative_to(each) for path in reached)]
    assert not vain, "dvc.yaml lists in vain:\n" + "\n".join(f"      - {path}" for path in vain)


@pytest.mark.parametrize(
    ("steps", "wings"),
    [
        (("finetune_all",), {"audit", "evaluation", "promotion", "registry", "reporting", "serving"}),
        (("ingest", "preprocess"), {"model", "tracking", "training"}),
    ],
)
def test_what_is_expensive_depends_on_no_page_and_the_data_on_no_model(steps, wings):
    for step in steps:
        listed = {Path(dep).parts[1] for dep in names(STAGES[step]["deps"]) if dep.startswith("twofold/")}
        assert not listed & wings, step


def test_what_editors_and_python_leave_behind_runs_no_stage_again():
    left = ["__pycache__/a.pyc", ".ipynb_checkpoints/a.py", ".DS_Store", "a.py.swp", "a.py~", "a.py.orig", "a.py.rej"]
    paths = [f"twofold/core/{name}" for name in left]
    command = [sys.executable, "-m", "dvc", "check-ignore", *paths, "twofold/core/errors.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.split() == paths


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_a_section_without_defaults_and_a_public_function_with_a_docstring(step):
    function, section = step_function(step), section_model(step)
    assert function.__doc__
    first = next(iter(function.__annotations__.values()))
    assert first in (section, section.__name__)
    assert section.model_fields
    chosen = [
        (f"{name} ({tag}).{key}", inner)
        for name, field in fields_of(section)
        for tag, choice in section_choices(field).items()
        for key, inner in fields_of(choice)
    ]
    for name, field in [*fields_of(section), *chosen]:
        assert field.is_required(), f"{step}.{name} has a default; params.yaml is the only place for values"
        assert field.description, f"{step}.{name} has no description"


def fields_of(section, prefix=""):
    """(key, field) of a section and of the sections within it."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        if inner := nested_section(field):
            yield from fields_of(inner, f"{prefix}{name}.")


def keys_of(values, section, prefix=""):
    """The keys that a section's values hold; one of several choices of sections is a value and no section."""
    for name, value in values.items():
        yield prefix + name
        field = section.model_fields.get(name)
        if isinstance(value, dict) and not (field and section_choices(field)):
            yield from keys_of(value, (field and nested_section(field)) or section, f"{prefix}{name}.")


@pytest.mark.parametrize("file", ["params.yaml", "tests/params.yaml"])
def test_a_parameter_file_holds_every_key_in_order_and_no_other(file):
    values = load_yaml(ROOT / file)
    assert tuple(values) == STEPS
    sections = check_all(values)
    for step in STEPS:
        expected = [name for name, _ in fields_of(type(sections[step]))]
        assert list(keys_of(values[step], type(sections[step]))) == expected, f"order of keys in section {step}"


FLOORS = {
    "api": 12,  # a file, not a folder
    "cli": 11,
    "kubeflow": 10,
    "steps": 9,
    "registry": 8,
    "reporting": 8,
    "promotion": 7,
    "serving": 6,
    "orchestration": 6,
    "training": 5,
    "evaluation": 5,
    "audit": 5,
    "data": 4,
    "sources": 3,
    "storage": 2,
    "tracking": 2,
    "metrics": 2,
    "model": 2,
    "core": 1,
}
KUBEFLOW_FLOORS = {"preflight": 3, "server": 2, "local": 2, "definition": 1}
ONLY_IN = {
    "mlflow": ("tracking", "serving"),
    "dvc": ("sources",),
    "dvc_data": ("sources",),
    "kfp": ("kubeflow",),
    "kfp_server_api": ("kubeflow",),
    "pipelines": (),
    "components": (),
    "scripts": (),
    "tests": (),
    "bench": (),
}


def imports_of(path):
    """The modules that a source imports, inside functions too; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


SOURCES = {
    module_of(path): path
    for folder in ("twofold", "pipelines", "components", "bench", "scripts", "tests", "data", "docker")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
}
IMPORTS = {module: set(imports_of(path)) & SOURCES.keys() - {module} for module, path in SOURCES.items()}


def wrong_way(module, imported):
    """Why a module of the package may not import another one; nothing if it may."""
    (one, *_), (other, *_) = (parts := [name.split(".")[1:] for name in (module, imported)])
    if one != other:
        return "" if FLOORS[other] < FLOORS[one] else f"{module} (floor {FLOORS[one]}) imports {imported}"
    rooms = [part[1] for part in parts]
    if one == "kubeflow" and rooms[0] != rooms[1] and KUBEFLOW_FLOORS[rooms[1]] >= KUBEFLOW_FLOORS[rooms[0]]:
        return f"{module} imports {imported}"
    return ""


def circles(imports):
    """The sets of modules that import each other in a circle (Tarjan 1972)."""
    number, low, stack, found = {}, {}, [], []

    def visit(module):
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                visit(other)
            if other in stack:
                low[module] = min(low[module], low[other])
        if low[module] == number[module]:
            circle = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for module in sorted(imports):
        if module not in number:
            visit(module)
    return found


def test_the_wings_are_the_folders_of_the_package_with_a_sentence_and_no_code():
    folders = {path.parent for path in (ROOT / "twofold").rglob("*.py")}
    assert {folder.name for folder in folders if folder.parent == ROOT / "twofold"} == {*FLOORS} - {"api"}
    assert {folder.name for folder in folders if folder.parent == ROOT / "twofold" / "kubeflow"} == set(KUBEFLOW_FLOORS)
    for folder in folders - {ROOT / "twofold"}:
        (sentence,) = ast.parse((folder / "__init__.py").read_text()).body
        assert isinstance(sentence.value, ast.Constant), folder
        files = len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        apart = {"cli", "kubeflow"} & set(folder.parts)
        assert (0 if apart else 5) <= files <= 18, f"{folder}: {files} files; more than 18 hold two subjects"


def test_imports_go_down_the_floors():
    twofold = {module: others for module, others in IMPORTS.items() if module.startswith("twofold.")}
    wrong = [wrong_way(one, other) for one, others in twofold.items() for other in others if other in twofold]
    assert [each for each in wrong if each] == []


def test_no_module_imports_itself_in_a_circle():
    assert circles(IMPORTS) == []


def test_an_import_up_sideways_or_in_a_circle_would_be_seen():
    assert wrong_way("twofold.core.errors", "twofold.core.params") == ""
    assert wrong_way("twofold.steps.ingest", "twofold.core.errors") == ""
    assert wrong_way("twofold.core.errors", "twofold.cli.main")
    assert wrong_way("twofold.metrics.curves", "twofold.model.device")
    assert wrong_way("twofold.kubeflow.server.cron", "twofold.kubeflow.local.outputs")
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("package", ONLY_IN)
def test_a_package_is_imported_in_its_wings_alone(package):
    found = {path for path in SOURCES.values() if path.is_relative_to(ROOT / "twofold")}
    found = {path for path in found if package in {name.split(".")[0] for name in imports_of(path)}}
    assert {path.relative_to(ROOT / "twofold").parts[0] for path in found} <= set(ONLY_IN[package])
    if package.startswith("dvc"):
        assert {path.name for path in found} <= {"dvc_repo.py", "dvc_objects.py"}


@pytest.mark.parametrize("module", ["twofold.steps.ingest", "twofold.steps.preprocess"])
def test_the_data_steps_import_no_torch(module):
    heavy = {"torch", "torchvision", "timm", "mlflow"}
    for path in (each for each in closure(module) if each.suffix == ".py"):
        assert not {name.split(".")[0] for name in imports_of(path)} & heavy, path


def test_no_python_file_is_long():
    for path in SOURCES.values():
        assert len(path.read_text().splitlines()) <= 300, f"{path}: past 300 lines it holds two subjects"


# Tests of what several files of a wing do together.
ALONE = {"precision", "seal", "incremental_data", "progressive_resizing", "kfp_server_stand_in"}


def test_the_unit_tests_mirror_the_package():
    for path in (ROOT / "tests" / "unit").glob("*/**/test_*.py"):
        folder = ROOT / "twofold" / path.parent.relative_to(ROOT / "tests" / "unit")
        if not {"bench", "deploy", "security"} & set(path.parts):
            name = path.stem.removeprefix("test_")
            assert name in ALONE or any(name.startswith(each.stem) for each in folder.glob("*.py")), path

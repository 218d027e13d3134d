"""The steps, dvc.yaml, params.yaml, the Makefile and the README agree; imports go one way."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from scripts import reference_tables
from twofold.core.code_digest import closure
from twofold.core.errors import ParameterError
from twofold.core.params import choices, nested
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
    data = [dep for dep in names(stage["deps"]) if not dep.endswith(".py")]
    outs = names(stage.get("outs", [])) + names(stage.get("metrics", []))
    expected = [paths[name] for name in contract.reads]
    assert data == (["${ingest.source}"] if step == "ingest" else []) + expected
    assert sorted(outs) == sorted(paths[name] for name in contract.writes)
    assert stage["params"] == [step]


@pytest.mark.parametrize("step", STEPS)
def test_a_stages_code_dependencies_are_its_steps_imports(step):
    imported = sorted(path.relative_to(ROOT).as_posix() for path in closure(f"twofold.steps.{step}"))
    listed = [dep for dep in names(STAGES[step]["deps"]) if dep.endswith(".py")]
    assert listed == imported, "dvc.yaml should list:\n" + "\n".join(f"      - {path}" for path in imported)


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
        for tag, choice in choices(field).items()
        for key, inner in fields_of(choice)
    ]
    for name, field in [*fields_of(section), *chosen]:
        assert field.is_required(), f"{step}.{name} has a default; params.yaml is the only place for values"
        assert field.description, f"{step}.{name} has no description"


def fields_of(section, prefix=""):
    """(key, field) of a section and of the sections within it."""
    for name, field in section.model_fields.items():
        yield prefix + name, field
        if inner := nested(field):
            yield from fields_of(inner, f"{prefix}{name}.")


def keys_of(values, section, prefix=""):
    """The keys that a section's values hold; one of several choices of sections is a value and no section."""
    for name, value in values.items():
        yield prefix + name
        field = section.model_fields.get(name)
        if isinstance(value, dict) and not (field and choices(field)):
            yield from keys_of(value, (field and nested(field)) or section, f"{prefix}{name}.")


@pytest.mark.parametrize("file", ["params.yaml", "tests/params.yaml"])
def test_a_parameter_file_holds_every_key_in_order_and_no_other(file):
    values = load_yaml(ROOT / file)
    assert tuple(values) == STEPS
    sections = check_all(values)
    for step in STEPS:
        expected = [name for name, _ in fields_of(type(sections[step]))]
        assert list(keys_of(values[step], type(sections[step]))) == expected, f"order of keys in section {step}"


def test_the_demos_parameters_are_valid():
    values = load_yaml(ROOT / "params.yaml")
    for line in (ROOT / "scripts" / "demo.params").read_text().splitlines():
        if line and not line.startswith("#"):
            address, text = line.split("=")
            section, key = address.split(".")
            assert key in values[section]
            values[section][key] = YAML(typ="safe").load(text)
    check_all(values)


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_go_one_way():
    for path in (ROOT / "twofold").rglob("*.py"):
        rooms = {name.split(".")[0] for name in imports_of(path)}
        if "kubeflow" not in path.parts and "kfp" not in path.parts:
            assert not rooms & {"kfp", "components", "pipelines", "tests", "bench"}, path
        if path.name not in ("dvc_repo.py", "dvc_objects.py"):
            assert not rooms & {"dvc", "dvc_data"}, path
        # Forgetting an image prepares the others anew, as the step does; an audit of any source runs two steps.
        if "steps" not in path.parts and path.name not in ("forget.py", "audit.py"):
            steps = [name for name in imports_of(path) if name.startswith("twofold.steps")]
            assert not steps, f"{path} imports a step"


def at_the_top(path):
    """What a module imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


AROUND = ("twofold.orchestration.task", "twofold.orchestration.kfp_display", "twofold.orchestration.notifications")
FACES = sorted(path for path in (ROOT / "components").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.stem)
def test_a_face_knows_kfp_at_its_top_and_twofold_in_its_body_and_decides_nothing(path):
    tree = ast.parse(path.read_text())
    assert {name.split(".")[0] for name in at_the_top(path)} <= {"kfp", "typing"}, path
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [function.name for function in functions] == [path.stem]
    inside = {name.split(".")[0] for name in imports_of(path)} - {"kfp", "typing"}
    assert inside == {"twofold"}, path
    (function,) = functions
    assert function.end_lineno - function.lineno <= 30
    assert not [node for node in ast.walk(function) if isinstance(node, ast.If | ast.IfExp | ast.Try | ast.While)]


@pytest.mark.parametrize("step", STEPS)
def test_a_face_reads_and_writes_what_its_steps_signature_says(step):
    face = getattr(importlib.import_module(f"components.{step}"), step)
    contract, spec = signature(step_function(step)), face.component_spec
    reads = {name for name, found in spec.inputs.items() if found.type.startswith("system.")}
    assert reads == set(contract.reads)
    shown = {"evaluate": {"curves", "report"}, "register": {"gates", "decision"}}.get(step, set())
    shown = shown | ({"audit_page"} if "audit" in contract.writes else set())
    writes = {name for name, found in spec.outputs.items() if found.type.startswith("system.")}
    assert writes == set(contract.writes) | shown
    parameters = set(spec.inputs) - reads
    # register's metrics are held to the predictions by the step itself.
    assert {f"{name}_digest" for name in reads - {"metrics"}} | {"params", "force"} <= parameters
    assert "digest" in set(spec.outputs) - writes


def test_pipelines_know_the_order_and_no_step_from_within():
    for path in (ROOT / "pipelines").rglob("*.py"):
        for name in imports_of(path):
            assert name.split(".")[0] not in {"torch", "mlflow", "sklearn", "timm", "tests", "bench"}, path
            assert not name.startswith("twofold.steps"), path


def test_what_serves_the_faces_alone_is_no_steps_dependency():
    around = {ROOT / f"{module.replace('.', '/')}.py" for module in AROUND}
    assert all(path.exists() for path in around)
    for step in STEPS:
        assert not around & set(closure(f"twofold.steps.{step}"))


def test_ingests_face_needs_nothing_that_the_data_image_lacks():
    lacks = ["torch", "torchvision", "mlflow", "timm", "matplotlib", "safetensors", "pandas", "cleanlab"]
    code = (
        f"import sys; sys.modules |= dict.fromkeys({lacks})\n"
        "from pathlib import Path\n"
        "from twofold.orchestration.kfp_display import numbers\n"
        "from twofold.orchestration.params_file import load_yaml\n"
        "from twofold.orchestration.task import experiment, perform\n"
        "from twofold.steps.preprocess import preprocess\n"
        "print(experiment(**load_yaml(Path('tests/params.yaml'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.stderr) == ("twofold\n", "")


def test_only_the_tracking_room_knows_mlflow():
    for path in (ROOT / "twofold").rglob("*.py"):
        if any(name.split(".")[0] == "mlflow" for name in imports_of(path)):
            assert path.parent.name in ("tracking", "serving"), path


@pytest.mark.parametrize("module", ["twofold.steps.ingest", "twofold.steps.preprocess"])
def test_the_data_steps_import_no_torch(module):
    heavy = {"torch", "torchvision", "timm", "mlflow"}
    for path in closure(module):
        assert not {name.split(".")[0] for name in imports_of(path)} & heavy, path


@pytest.mark.parametrize(
    "module", ["twofold.cli.main", "twofold.orchestration.params_file", *AROUND, *(f"twofold.steps.{s}" for s in STEPS)]
)
def test_importing_is_light(module):
    heavy = "{'torch', 'mlflow', 'timm', 'sklearn', 'matplotlib', 'dvc'}"
    code = f"import sys, {module}; sys.exit(str(sorted({heavy} & set(sys.modules)) or ''))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert found.stderr.strip() == ""


def test_package_init_files_are_empty_and_no_python_file_is_long():
    tracked = subprocess.run(["git", "ls-files", "*.py"], capture_output=True, text=True, cwd=ROOT, check=True)
    for name in tracked.stdout.split():
        text = (ROOT / name).read_text() if (ROOT / name).exists() else ""
        assert len(text.splitlines()) <= 300, f"{name}: past 300 lines it holds two nouns"
        if name.endswith("__init__.py"):
            assert not ast.parse(text).body or [type(node) for node in ast.parse(text).body] == [ast.Expr], name


def test_the_lock_holds_every_dependency_with_its_hash_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        if block[:1].isalnum():
            assert "==" in block.splitlines()[0], block[:60]
            assert "--hash=sha256:" in block, block[:60]


def test_the_readmes_commands_exist():
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", readme, re.MULTILINE))
    assert {"demo", "test"} <= mentioned
    assert mentioned <= targets
    for command in set(re.findall(r"^\s*(?:\$ )?twofold ([a-z]+(?: [a-z]+)?)", readme, re.MULTILINE)):
        words = [*command.split(), "--help"]
        done = subprocess.run([sys.executable, "-m", "twofold.cli", *words], capture_output=True, cwd=ROOT, check=False)
        assert done.returncode == 0, f"README: twofold {command}"


def test_the_readmes_first_two_commands_are_demo_and_test():
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]
    assert commands[:2] == ["make demo", "make test"]


def test_the_tables_of_parameters_and_resources_are_those_of_the_models():
    assert reference_tables.main(["--check"]) == 0


def test_a_table_is_written_between_its_marks_and_checked(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    begin, end = reference_tables.marks("parameters")
    page.write_text(f"# A\n\n{begin}\n{end}\n\nend\n")
    monkeypatch.setattr(reference_tables, "ROOT", tmp_path)
    monkeypatch.setattr(reference_tables, "PAGES", {page: ("parameters", reference_tables.parameters)})
    assert reference_tables.main(["--check"]) == 1
    assert "out of date: README.md; run: make readme" in capsys.readouterr().out
    assert reference_tables.main([]) == 0
    text = page.read_text()
    assert text.startswith("# A\n")
    assert text.endswith("\n\nend\n")
    assert "| `positive` | The class that is to be found" in text
    assert reference_tables.main(["--check"]) == 0


def test_a_page_without_the_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# A\n")
    with pytest.raises(ParameterError, match="must hold the marks"):
        reference_tables.replace_table(tmp_path / "README.md", "parameters", "", write=False)

"""Reads, checks, edits and describes params.yaml as a whole."""

import difflib
import functools
import importlib
import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode
from ruamel.yaml.tag import Tag

from twofold.core.artifacts import write_bytes
from twofold.core.errors import ParameterError
from twofold.core.redaction import redact

if TYPE_CHECKING:  # pydantic takes a tenth of a second to import
    from twofold.core.params import Section

STEPS = ("ingest", "preprocess", "train_head", "finetune_all", "evaluate", "register")
PARAMS = "params.yaml"


def project_root() -> Path:
    """Return the nearest folder that holds params.yaml, from here upwards; raise ParameterError if there is none."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PARAMS).is_file():
            return folder
    raise ParameterError(f"{here}: no {PARAMS} here or in a folder above; change to your project's folder")


def project_path(file: str = "") -> Path:
    """Return a file of the project, or its root, as a path from the current folder; errors as for `project_root`."""
    return Path(os.path.relpath(project_root() / file))


def section_model(step: str) -> "type[Section]":
    """Return the pydantic model of a step's section: `train_head` -> `TrainHead`."""
    # Imported by name: an import statement would make every step a code dependency of every other one.
    module = importlib.import_module(f"twofold.steps.{step}")
    return getattr(module, "".join(word.capitalize() for word in step.split("_")))  # type: ignore[no-any-return]


def read(path: Path) -> "dict[str, Section]":
    """Read and check every section of params.yaml.

    Raises:
        ParameterError: the file is missing or not YAML, or a section or key is wrong, missing or unknown. The message
            lists all problems of all sections.
    """
    return check_all(load_yaml(path))


def check_all(values: Mapping[str, Any]) -> "dict[str, Section]":
    """Check every section of values that are in memory; errors as for `read`."""
    from twofold.core.params import check_section

    problems: list[str] = []
    sections: dict[str, Section] = {}
    if unknown := [str(name) for name in values if name not in STEPS]:
        problems.append(f"{', '.join(unknown)}: unknown section; known: {', '.join(STEPS)}")
    for step in STEPS:
        if step not in values:
            problems.append(f"{step}: section missing")
            continue
        try:
            sections[step] = check_section(section_model(step), step, values[step])
        except ParameterError as error:
            problems += str(error).splitlines()[1:] or [str(error)]
    problems += _cross_section_problems(sections)
    if problems:
        raise ParameterError("params.yaml:\n  " + "\n  ".join(line.strip() for line in problems))
    return sections


def _cross_section_problems(sections: Mapping[str, Any]) -> list[str]:
    preprocess, finetune = sections.get("preprocess"), sections.get("finetune_all")
    if preprocess is None or finetune is None or finetune.image_size == "prepared":
        return []
    end, size = finetune.image_size.end, preprocess.image_size
    problem = f"finetune_all.image_size.end: found {end}; must be preprocess.image_size, which is {size}"
    return [problem] if end != size else []


def load_yaml(path: Path) -> dict[str, Any]:
    """Return the file's values as plain dicts and lists; a name, such as a class, is text as it is written."""
    try:
        values = _parse(path.read_text(encoding="utf-8-sig"), YAML(typ="safe"))
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such file; run from the project's root or name it with --params") from None
    except OSError as error:
        raise ParameterError(f"{path}: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ParameterError(f"{path}: not YAML in UTF-8: {error}") from None
    if not isinstance(values, dict):
        raise ParameterError(f"{path}: must hold the sections {', '.join(STEPS)}, found {values!r}")
    return values


def _parse(text: str, yaml: YAML, key: str = "") -> Any:
    """Return the values of a text, which is the value of `key`, or a whole file."""
    node = yaml.compose(text)
    if node is not None:
        _keep_names(node, key)
    return None if node is None else yaml.constructor.construct_document(node)


def _keep_names(node: Any, key: str) -> None:
    """Make text of what names a class, a slice and the like: to YAML, 01, true and null are no text."""
    if isinstance(node, MappingNode):
        for name, value in node.value:
            if key == "slice":
                _keep_names(name, key)
            _keep_names(value, key if key == "slice" else name.value)
    elif not isinstance(node, ScalarNode):
        for item in node.value:
            _keep_names(item, key)
    elif node.value and key in _name_keys() and not (key == "slice" and str(node.tag).endswith(":null")):
        node.ctag = Tag(suffix="tag:yaml.org,2002:str")


@functools.cache
def _name_keys() -> frozenset[str]:
    fields = [item for step in STEPS for item in section_model(step).model_fields.items()]
    return frozenset(["slice", *(key for key, field in fields if field.annotation is str)])


def set_values(path: Path, assignments: list[str]) -> str:
    """Set `section.key=value` pairs in the file; comments and order stay, and nothing is written unless all are valid.

    Returns:
        The unified diff of the file before and after; empty if nothing changed.
    """
    load_yaml(path)  # for its errors
    before = path.read_text(encoding="utf-8-sig")
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = _parse(before, yaml)
    assign(document, assignments, path)
    stream = StringIO()
    yaml.dump(document, stream)
    after = stream.getvalue()
    check_all(_parse(after, YAML(typ="safe")))
    if after != before:
        write_bytes(path, after.encode())
    old, new = before.splitlines(True), after.splitlines(True)
    return redact("".join(difflib.unified_diff(old, new, f"{path} (before)", str(path), n=0)))


def assign(document: MutableMapping[str, Any], assignments: Sequence[str], path: Path) -> list[str]:
    """Set `section.key=value` pairs in values that are in memory; `check_all` checks their types and ranges.

    Args:
        document: the values of every section.
        assignments: the pairs; a value is written as in YAML.
        path: the file that the values come from, for the errors.

    Returns:
        The names of the changed sections, each once.

    Raises:
        ParameterError: a pair has another form, or names a section or key that does not exist.
    """
    sections: dict[str, None] = {}
    for assignment in assignments:
        address, equals, text = assignment.partition("=")
        *parents, key = address.split(".")
        if not equals or not parents:
            raise ParameterError(f"{assignment}: write it as section.key=value")
        target: Any = document
        for parent in parents:
            if not isinstance(target, dict) or parent not in target:
                raise ParameterError(f"{address}: no '{parent}' in {path}; every key: docs/reference/parameters.md")
            target = target[parent]
        holder = ".".join(parents)
        if not isinstance(target, dict):
            raise ParameterError(f"{address}: {holder} is {target!r} and holds no keys; set it whole: {holder}=VALUE")
        if key not in target:
            raise ParameterError(f"{address}: unknown key; '{holder}' holds {', '.join(map(str, target))}")
        try:
            target[key] = _parse(text, YAML(typ="safe"), key)
        except YAMLError as error:
            raise ParameterError(f"{assignment}: not a YAML value: {error}") from None
        sections[parents[0]] = None
    return list(sections)


def get_value(path: Path, address: str) -> Any:
    """Return one value of the file, such as `train_head.backbone`; raise ParameterError if it holds no such key."""
    value: Any = load_yaml(path)
    for part in address.split("."):
        if not isinstance(value, dict) or part not in value:
            known = ", ".join(map(str, value)) if isinstance(value, dict) else "none, as this is a value"
            raise ParameterError(f"{address}: no '{part}' in {path}; known keys: {known}")
        value = value[part]
    return value


def model_name(path: Path) -> str:
    """Return register.model_name as it is written, without the sections' models, which take half a second to import."""
    try:
        values = {key.value: value for key, value in YAML(typ="safe").compose(path.read_text("utf-8-sig")).value}
        return str({key.value: value.value for key, value in values["register"].value}["model_name"])
    except (OSError, YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError):
        return str(get_value(path, "register.model_name"))


def describe() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield (step, [(key, description)]) for every section, in the order of the pipeline."""
    for step in STEPS:
        yield step, list(_fields(section_model(step), ""))


def _fields(model: "type[Section]", prefix: str) -> Iterator[tuple[str, str]]:
    from twofold.core.params import nested_section

    for key, field in model.model_fields.items():
        if (inner := nested_section(field)) is None:
            yield prefix + key, field.description or ""
        else:
            yield from _fields(inner, f"{prefix}{key}.")

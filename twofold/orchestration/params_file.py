"""params.yaml as a whole: read and checked in one go, edited in the open, described for the README."""

import difflib
import importlib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from twofold.core.artifacts import write_bytes
from twofold.core.errors import ParameterError
from twofold.core.params import Section, check_section, nested_section

STEPS = ("ingest", "preprocess", "train_head", "finetune_all", "evaluate", "register")
PARAMS = "params.yaml"


def project_root() -> Path:
    """The folder of the project: the nearest one, from the current folder upwards, that holds params.yaml.

    Raises:
        ParameterError: neither the current folder nor any above it holds one.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / PARAMS).is_file():
            return folder
    raise ParameterError(f"{here}: no {PARAMS} here or in a folder above; change to your project's folder")


def section_model(step: str) -> type[Section]:
    """The pydantic model of a step's section: `train_head` -> `TrainHead`."""
    # By name, so that reading parameters does not make every step a code dependency of every other one.
    module = importlib.import_module(f"twofold.steps.{step}")
    return getattr(module, "".join(word.capitalize() for word in step.split("_")))  # type: ignore[no-any-return]


def read(path: Path) -> dict[str, Section]:
    """Every section of params.yaml, checked.

    Raises:
        ParameterError: the file is missing or is not YAML, or a section or key is wrong, missing or unknown; all
            problems of all sections are listed at once.
    """
    return check_all(load_yaml(path))


def check_all(values: Mapping[str, Any]) -> dict[str, Section]:
    """The same for values that are already in memory."""
    problems: list[str] = []
    sections: dict[str, Section] = {}
    unknown = [name for name in values if name not in STEPS]
    if unknown:
        problems.append(f"{', '.join(map(str, unknown))}: unknown section; known: {', '.join(STEPS)}")
    for step in STEPS:
        if step not in values:
            problems.append(f"{step}: section missing")
            continue
        try:
            sections[step] = check_section(section_model(step), step, values[step])
        except ParameterError as error:
            problems += str(error).splitlines()[1:] or [str(error)]
    problems += _disagreements(sections)
    if problems:
        raise ParameterError("params.yaml:\n  " + "\n  ".join(line.strip() for line in problems))
    return sections


def _disagreements(sections: Mapping[str, Any]) -> list[str]:
    """What no section can see alone: keys of two of them that do not fit together."""
    prepared, trained = sections.get("preprocess"), sections.get("finetune_all")
    if prepared is None or trained is None or trained.image_size == "prepared":
        return []
    end, size = trained.image_size.end, prepared.image_size
    if end == size:
        return []
    return [f"finetune_all.image_size.end: found {end}; must be preprocess.image_size, which is {size}"]


def load_yaml(path: Path) -> dict[str, Any]:
    """The file's values as plain dicts and lists."""
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path}: no such file; run from the project's root or name it with --params") from None
    except OSError as error:
        raise ParameterError(f"{path}: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not YAML: {error}") from None
    if not isinstance(values, dict):
        raise ParameterError(f"{path}: must hold the sections {', '.join(STEPS)}, found {values!r}")
    return values


def set_values(path: Path, assignments: list[str]) -> str:
    """Set `section.key=value` pairs in the file, comments and order kept; nothing is written unless all are valid.

    Returns:
        The unified difference between the file before and after; empty if nothing changed.
    """
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    load_yaml(path)
    document = yaml.load(before)
    assign(document, assignments, path)
    stream = StringIO()
    yaml.dump(document, stream)
    after = stream.getvalue()
    check_all(YAML(typ="safe").load(after))
    if after != before:
        write_bytes(path, after.encode())
    return "".join(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"{path} (before)", str(path), n=0)
    )


def assign(document: MutableMapping[str, Any], assignments: Sequence[str], path: Path) -> list[str]:
    """Set `section.key=value` pairs in values that are in memory; their types and ranges are for `check_all`.

    Args:
        document: the values of every section.
        assignments: the pairs; a value is written as in YAML.
        path: the file that the values come from, for the errors.

    Returns:
        The sections that were named, each once.

    Raises:
        ParameterError: a pair is not written so, or names a section or key that is not there.
    """
    sections: dict[str, None] = {}
    for assignment in assignments:
        address, equals, text = assignment.partition("=")
        parts = address.split(".")
        if not equals or len(parts) < 2:
            raise ParameterError(f"{assignment}: write it as section.key=value")
        place: Any = document
        for part in parts[:-1]:
            if not isinstance(place, dict) or part not in place:
                raise ParameterError(f"{address}: no '{part}' in {path}; see the README for every key")
            place = place[part]
        if not isinstance(place, dict) or parts[-1] not in place:
            holder = ".".join(parts[:-1])
            if not isinstance(place, dict):
                raise ParameterError(
                    f"{address}: {holder} is {place!r} and holds no keys; set it whole: {holder}=VALUE"
                )
            raise ParameterError(f"{address}: unknown key; '{holder}' holds {', '.join(map(str, place))}")
        try:
            place[parts[-1]] = YAML(typ="safe").load(text)
        except YAMLError as error:
            raise ParameterError(f"{assignment}: not a YAML value: {error}") from None
        sections[parts[0]] = None
    return list(sections)


def get_value(path: Path, address: str) -> Any:
    """One value of the file: `train_head.backbone`.

    Raises:
        ParameterError: the file holds no such key.
    """
    value: Any = load_yaml(path)
    for part in address.split("."):
        if not isinstance(value, dict) or part not in value:
            known = ", ".join(map(str, value)) if isinstance(value, dict) else "nothing below it"
            raise ParameterError(f"{address}: no '{part}' in {path}; there is {known}")
        value = value[part]
    return value


def describe() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """(step, [(key, description)]) for every section, in the order of the pipeline."""
    for step in STEPS:
        yield step, list(_fields(section_model(step), ""))


def _fields(model: type[Section], prefix: str) -> Iterator[tuple[str, str]]:
    for key, field in model.model_fields.items():
        inner = nested_section(field)
        if inner is None:
            yield prefix + key, field.description or ""
        else:
            yield from _fields(inner, f"{prefix}{key}.")

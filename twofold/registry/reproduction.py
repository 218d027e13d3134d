"""Make a version again from its git commit, parameters and data, and compare the result with the record.

Reads a version's lineage. Returns the commands as a shell script, or runs them and reports whether data, model and
decision are those that were recorded. The same bytes need the same processor and number of threads; elsewhere the
metrics agree up to the last digits.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from twofold.core.artifacts import digest, file_sha256, read_json
from twofold.core.errors import RegistryError
from twofold.core.progress import say
from twofold.metrics.decision_threshold import DECISION
from twofold.registry import approval
from twofold.registry.lineage import LINEAGE, UNKNOWN
from twofold.registry.transitions import inspect_ledger
from twofold.registry.version_text import lineage_rows, shorten_names
from twofold.tracking.store import MlflowStore, flatten, main_checkout

COMMIT, SHA256 = "[0-9a-f]{40}|[0-9a-f]{64}", "[0-9a-f]{64}"
# The first command makes the data, the last one the model and the decision.
DVC_COMMANDS = ("dvc repro ingest", "dvc repro evaluate")
STEPS = ("ingest", "preprocess", "train_head", "finetune_all", "evaluate")
_DVC_SOURCE = re.compile(r"(dvc\+)(.+)(@[^@:]+:[^:@]*)")  # see `twofold.sources.dvc_repo`


@dataclass(frozen=True)
class Recipe:
    """Everything needed to make a version again.

    Attributes:
        changed: files that differed from the commit, or "none".
        repository: the git repository that holds the commit.
        source: the source for ingest; None if it is not recorded, so that params.yaml of the commit names it.
        settings: `section.key=value` pairs.
        commands: shell commands; the first one makes the data.
        data: recorded fingerprint of the data.
        model: recorded SHA-256 of the model.
        decision: recorded SHA-256 of decision.json.
        about: `key: value` lines for people, about the libraries, hardware and data that were used.
    """

    version: int
    commit: str
    changed: str
    repository: Path
    source: str | None
    settings: tuple[str, ...]
    commands: tuple[str, ...]
    data: str
    model: str
    decision: str
    about: tuple[str, ...]

    @property
    def warnings(self) -> list[str]:
        """Reasons why the result may differ, a sentence each."""
        found = []
        if self.changed != "none":
            found.append(f"the commit is not enough: these files had other changes: {shorten_names(self.changed)}")
        if self.source is None:
            found.append(
                "the images' source is not recorded (see the pipeline run): params.yaml of the commit names it"
            )
        return found


def make_recipe(store: MlflowStore, name: str, selector: str, source: str | None = None) -> Recipe:
    """Read from a version's lineage how to make it again.

    Args:
        selector: the version's number, `champion` or `challenger`.
        source: where the images are now, if they have moved.

    Raises:
        RegistryError: the lineage is not recorded, or names no commit.
    """
    version = approval.find_version(store, name, selector, inspect_ledger(store, name)[0])
    try:
        lineage = json.loads(version.tags.get(LINEAGE, ""))
        git, data, digests, sections = (lineage[key] for key in ("git", "data", "digests", "params"))
        if git["commit"] == UNKNOWN:
            raise RegistryError(f"version {version.version} was made outside of git: no commit is recorded")
        # These become words of a shell script, and anyone who may write a tag must not be able to write commands.
        commit = _require_match(COMMIT, git["commit"])
        fingerprint = _require_match(SHA256, data["fingerprint"])
        model, decision = (_require_match(SHA256, digests[key]) for key in ("finetune_all", "decision"))
        changed = str(git["changed"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"version {version.version}: its tag {LINEAGE} does not say how it was made ({error!r})"
        ) from None
    repository = main_checkout()
    source = source or _resolve_source(repository, data.get("source"))
    values = flatten({step: section for step, section in sections.items() if step != "register"})
    if source:
        values["ingest.source"] = source
    return Recipe(
        version=int(version.version),
        commit=commit,
        changed=changed,
        repository=repository,
        source=source,
        settings=tuple(f"{key}={_yaml(value)}" for key, value in values.items()),
        commands=_stage_commands(repository, commit) if source and source.startswith("dvc+") else DVC_COMMANDS,
        data=fingerprint,
        model=model,
        decision=decision,
        about=tuple(f"{key}: {value}" for key, value in lineage_rows(lineage)),
    )


def _require_match(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{text!r} is not of the form {pattern}")
    return text


def _stage_commands(repository: Path, commit: str) -> tuple[str, ...]:
    """The commands of the stages in dvc.yaml of the commit.

    DVC cannot depend on a version of another repository, so the steps, which can read it, are run without DVC.
    """
    words = ["git", "-C", str(repository), "show", f"{commit}:dvc.yaml"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RegistryError(f"commit {commit} is not in {repository} ({done.stderr.strip()}): fetch it, then try again")
    try:
        stages = YAML(typ="safe").load(done.stdout)["stages"]
        return tuple(" ".join(stages[step]["cmd"].split()) for step in STEPS)
    except (YAMLError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"dvc.yaml of commit {commit} does not say how its stages are run ({error!r})") from None


def _resolve_source(repository: Path, source: str | None) -> str | None:
    """Make the path of an existing folder absolute, so that another checkout finds it; other sources stay the same."""
    if source is not None and (parts := _DVC_SOURCE.fullmatch(source)) and (repository / parts[2]).is_dir():
        return f"{parts[1]}{(repository / parts[2]).resolve()}{parts[3]}"
    if source is None or ":" in source or not (repository / source).is_dir():
        return source
    return str((repository / source).resolve())


def write_script(recipe: Recipe, folder: Path) -> str:
    """The commands as a shell script that checks out into a folder."""
    place = shlex.quote(str(folder))
    settings = " \\\n  ".join(shlex.quote(setting) for setting in recipe.settings)
    lines = [
        "#!/usr/bin/env bash",
        f"# Makes version {recipe.version} again. It was made with:",
        *(f"#   {' '.join(line.split())}" for line in recipe.about),
        *(f"# WARNING: {' '.join(line.split())}" for line in recipe.warnings),
        "set -euo pipefail",
        f"git clone --quiet {shlex.quote(str(recipe.repository))} {place}",
        f"cd {place}",
        f"git checkout --quiet {recipe.commit}",
        "make setup && source .venv/bin/activate",
        f"twofold params set {settings}",
        "export TWOFOLD_LIVE=off",
        recipe.commands[0],
        f"grep -q {recipe.data} data/raw/meta.json || {{ echo 'the data differ from the record' >&2; exit 1; }}",
        *recipe.commands[1:],
        "python - <<'CHECK'",
        "from pathlib import Path",
        "try:",
        "    from twofold.core.artifacts import digest, file_sha256",
        "except ModuleNotFoundError:  # a commit from before the package had folders",
        "    from twofold.artifacts import digest, file_sha256",
        f"assert digest(Path('models/finetuned')) == {recipe.model!r}, 'the model differs from the record'",
        f"decision = file_sha256(Path('reports/evaluation/{DECISION}'))",
        f"assert decision == {recipe.decision!r}, 'the decision differs from the record'",
        f"print('version {recipe.version} again, byte for byte')",
        "CHECK",
    ]
    return "\n".join(lines) + "\n"


def run_recipe(recipe: Recipe, folder: Path) -> list[str]:
    """Run the commands in the current environment; return the differences from the record, a sentence each.

    Args:
        folder: a folder that does not exist yet; the checkout stays there.

    Raises:
        RegistryError: the folder exists, the commit is missing, or a command fails.
    """
    if folder.exists():
        raise RegistryError(f"{folder}: exists; name a folder that does not, into which the commit is checked out")
    for line in recipe.warnings:
        say(f"warning: {line}")
    _call(["git", "clone", "--quiet", str(recipe.repository), str(folder)], Path.cwd())
    _call(["git", "checkout", "--quiet", recipe.commit], folder)
    _call([sys.executable, "-m", "twofold.cli", "params", "set", *recipe.settings], folder)
    _call(_python_command(recipe.commands[0]), folder)
    fingerprint = read_json(folder / "data" / "raw" / "meta.json")["fingerprint"]
    if fingerprint != recipe.data:
        return [
            f"the data's fingerprint is {fingerprint}, recorded is {recipe.data}: these are other images, so no "
            "training was started; name the source of the right ones with --source"
        ]
    for command in recipe.commands[1:]:
        _call(_python_command(command), folder)
    compared = {
        "model": (digest(folder / "models" / "finetuned"), recipe.model),
        "decision": (file_sha256(folder / "reports" / "evaluation" / DECISION), recipe.decision),
    }
    return [
        f"the {what}'s SHA-256 is {now}, recorded is {then}" for what, (now, then) in compared.items() if now != then
    ]


def _python_command(command: str) -> list[str]:
    """Run a command with this environment's Python; every command is DVC's or that of a Python module."""
    words = shlex.split(command)
    return [sys.executable, *words[1:]] if words[0] == "python" else [sys.executable, "-m", *words]


def _call(words: list[str], folder: Path) -> None:
    say("reproduce: " + " ".join(shlex.quote(word) for word in words[:6]) + (" …" if len(words) > 6 else ""))
    # PYTHONPATH selects the checkout's own code, whatever is installed; PATH selects this environment's commands.
    paths = {"PYTHONPATH": str(folder), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(words, cwd=folder, env=os.environ | paths | {"TWOFOLD_LIVE": "off"}, check=False)
    if done.returncode:
        raise RegistryError(f"{folder}: `{' '.join(words[:6])}` ended with status {done.returncode}; see above")


def _yaml(value: Any) -> str:
    # JSON is YAML, except for a number like 1e-05, which YAML reads as text.
    if isinstance(value, float):
        return f"{value:.20f}".rstrip("0") + ("0" if value == int(value) else "") if "e" in repr(value) else repr(value)
    return json.dumps(value)

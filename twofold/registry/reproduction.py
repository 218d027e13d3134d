"""Making a version again: from its git commit, its parameters and its data, and comparing what comes out.

In: a version's lineage. Out: the commands as a shell script; or, where they are run, whether data, model and decision
are those that were recorded. The same processor and number of threads are needed for the same bytes; elsewhere the
figures agree and the last digits do not.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
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
from twofold.registry.transitions import state
from twofold.registry.version_text import lineage as facts
from twofold.registry.version_text import shortened
from twofold.tracking.store import MlflowStore, main_checkout

COMMIT, SHA256 = "[0-9a-f]{40}|[0-9a-f]{64}", "[0-9a-f]{64}"
# In the order of the steps; after the first of them the data must be as recorded, after the last one all else.
WAYS = ("dvc repro ingest", "dvc repro evaluate")
STEPS = ("ingest", "preprocess", "train_head", "finetune_all", "evaluate")
_DVC = re.compile(r"(dvc\+)(.+)(@[^@:]+:[^:@]*)")  # see `twofold.sources.dvc_repo`


@dataclass(frozen=True)
class Recipe:
    """What it takes to make a version again.

    Attributes:
        version: its number.
        commit: of git; `changed`: files that differed from it, or "none".
        repository: where that commit is.
        source: what ingest reads, where it is known; else what params.yaml of the commit names.
        settings: `section.key=value` pairs.
        commands: what to run, as shell commands; the first one makes the data.
        data, model, decision: SHA-256 of what comes out.
        about: what the version was made with, `key: value` lines for people.
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
        """Why it may come out otherwise, a sentence each."""
        found = []
        if self.changed != "none":
            found.append(f"the commit alone does not make it: these files were changed then: {shortened(self.changed)}")
        if self.source is None:
            found.append(
                "where its images were is not recorded (see its pipeline run): params.yaml of the commit says it"
            )
        return found


def recipe(store: MlflowStore, name: str, which: str, source: str | None = None) -> Recipe:
    """How to make a version again.

    Args:
        store: of the registry.
        name: of the registered model.
        which: its number, or `champion` or `challenger`.
        source: where its images are now, if not where they were.

    Raises:
        RegistryError: its lineage is not recorded, or it names no commit.
    """
    version = approval.find_version(store, name, which, state(store, name)[0])
    try:
        lineage = json.loads(version.tags.get(LINEAGE, ""))
        git, data, digests, sections = (lineage[key] for key in ("git", "data", "digests", "params"))
        if git["commit"] == UNKNOWN:
            raise RegistryError(f"version {version.version} was made outside of git: no commit is recorded")
        # They become words of a shell script; whoever may write a tag must not be able to write commands.
        commit = _matching(COMMIT, git["commit"])
        fingerprint = _matching(SHA256, data["fingerprint"])
        model, decision = (_matching(SHA256, digests[name]) for name in ("finetune_all", "decision"))
        changed = str(git["changed"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"version {version.version}: its tag {LINEAGE} does not say how it was made ({error!r})"
        ) from None
    repository = main_checkout()
    there = source or _where(repository, data.get("source"))
    settings = [
        f"{step}.{key}={_yaml(value)}"
        for step, section in sections.items()
        if step != "register"
        for key, value in _flat(section)
    ]
    return Recipe(
        version=int(version.version),
        commit=commit,
        changed=changed,
        repository=repository,
        source=there,
        settings=tuple(settings + ([f"ingest.source={_yaml(there)}"] if there else [])),
        commands=_stages(repository, commit) if there and there.startswith("dvc+") else WAYS,
        data=fingerprint,
        model=model,
        decision=decision,
        about=tuple(f"{key}: {value}" for key, value in facts(lineage)),
    )


def _matching(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text):
        raise ValueError(f"{text!r} is not of the form {pattern}")
    return text


def _stages(repository: Path, commit: str) -> tuple[str, ...]:
    """The commands of the stages as dvc.yaml of the commit has them.

    DVC itself can neither watch nor even name a version of another repository as a dependency; the steps can read it.
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


def _where(repository: Path, source: str | None) -> str | None:
    """A folder as a path that holds in another checkout too, if it is here; what the pipeline itself makes is not."""
    if source is not None and (parts := _DVC.fullmatch(source)) and (repository / parts[2]).is_dir():
        return f"{parts[1]}{(repository / parts[2]).resolve()}{parts[3]}"
    if source is None or ":" in source or not (repository / source).is_dir():
        return source
    return str((repository / source).resolve())


def script(found: Recipe, folder: Path) -> str:
    """The commands, to be read and to be run."""
    here = shlex.quote(str(folder))
    settings = " \\\n  ".join(shlex.quote(each) for each in found.settings)
    lines = [
        "#!/usr/bin/env bash",
        f"# Makes version {found.version} again; what it was made with:",
        *(f"#   {' '.join(line.split())}" for line in found.about),
        *(f"# WARNING: {' '.join(line.split())}" for line in found.warnings),
        "set -euo pipefail",
        f"git clone --quiet {shlex.quote(str(found.repository))} {here}",
        f"cd {here}",
        f"git checkout --quiet {found.commit}",
        "make setup && source .venv/bin/activate",
        f"twofold params set {settings}",
        "export TWOFOLD_LIVE=off",
        found.commands[0],
        f"grep -q {found.data} data/raw/meta.json || {{ echo 'other data than recorded' >&2; exit 1; }}",
        *found.commands[1:],
        "python - <<'CHECK'",
        "from pathlib import Path",
        "try:",
        "    from twofold.core.artifacts import digest, file_sha256",
        "except ModuleNotFoundError:  # a commit from before the package had folders",
        "    from twofold.artifacts import digest, file_sha256",
        f"assert digest(Path('models/finetuned')) == {found.model!r}, 'another model than recorded'",
        f"assert file_sha256(Path('reports/evaluation/{DECISION}')) == {found.decision!r}, 'another decision'",
        f"print('version {found.version} again, byte for byte')",
        "CHECK",
    ]
    return "\n".join(lines) + "\n"


def run(found: Recipe, folder: Path) -> list[str]:
    """Run the commands with the environment at hand; what differs from what was recorded, a sentence each.

    Args:
        found: the recipe.
        folder: that does not exist yet; the checkout stays there.

    Raises:
        RegistryError: the folder is there already, the commit is not, or a command fails.
    """
    if folder.exists():
        raise RegistryError(f"{folder}: exists; name a folder that does not, into which the commit is checked out")
    for line in found.warnings:
        say(f"warning: {line}")
    _call(["git", "clone", "--quiet", str(found.repository), str(folder)], Path.cwd())
    _call(["git", "checkout", "--quiet", found.commit], folder)
    _call([sys.executable, "-m", "twofold.cli", "params", "set", *found.settings], folder)
    _call(_words(found.commands[0]), folder)
    fingerprint = read_json(folder / "data" / "raw" / "meta.json")["fingerprint"]
    if fingerprint != found.data:
        return [
            f"the data's fingerprint is {fingerprint}, recorded is {found.data}: other images, and no training begun; "
            "name the place of the right ones with --source"
        ]
    for command in found.commands[1:]:
        _call(_words(command), folder)
    made = {
        "model": (digest(folder / "models" / "finetuned"), found.model),
        "decision": (file_sha256(folder / "reports" / "evaluation" / DECISION), found.decision),
    }
    return [f"the {what}'s SHA-256 is {now}, recorded is {then}" for what, (now, then) in made.items() if now != then]


def _words(command: str) -> list[str]:
    """A command of a recipe with this environment's Python; each is either DVC's or a Python module's."""
    words = shlex.split(command)
    return [sys.executable, *words[1:]] if words[0] == "python" else [sys.executable, "-m", *words]


def _call(words: list[str], folder: Path) -> None:
    say("reproduce: " + " ".join(shlex.quote(word) for word in words[:6]) + (" …" if len(words) > 6 else ""))
    # The checkout's own code, whatever is installed; and the commands of this environment.
    paths = {"PYTHONPATH": str(folder), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment = os.environ | paths | {"TWOFOLD_LIVE": "off"}
    done = subprocess.run(words, cwd=folder, env=environment, check=False)
    if done.returncode:
        raise RegistryError(f"{folder}: `{' '.join(words[:6])}` ended with status {done.returncode}; see above")


def _flat(section: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in section.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def _yaml(value: Any) -> str:
    # JSON is YAML, but for a number like 1e-05, which YAML takes for text.
    if isinstance(value, float):
        return f"{value:.20f}".rstrip("0") + ("0" if value == int(value) else "") if "e" in repr(value) else repr(value)
    return json.dumps(value)

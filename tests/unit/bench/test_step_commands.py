"""The benchmarks use the steps as they are: their commands, and the functions whose time is measured."""

import importlib

from bench.benchmarks import b09_incremental_data
from bench.workloads.step_commands import step_commands
from twofold.orchestration.step_cli import signature


def test_the_pipelines_commands_have_the_options_of_the_steps(tmp_path):
    for name, words in step_commands(tmp_path / "params.yaml", tmp_path).items():
        step = getattr(importlib.import_module(f"twofold.steps.{name}"), name)
        given = {word[2:] for word in words if word.startswith("--")}
        assert given - {"params"} == {path for paths in signature(step) for path in paths}


def test_the_functions_that_b9_measures_exist():
    assert [part for part, module, name in b09_incremental_data.MEASURED if not callable(getattr(module, name))] == []

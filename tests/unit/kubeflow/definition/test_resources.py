import json

import pytest
from ruamel.yaml import YAML

from twofold.core.errors import ParameterError
from twofold.core.params import Section
from twofold.kubeflow.definition import resources
from twofold.kubeflow.definition.resources import DEFAULT, TASKS


@pytest.fixture
def values():
    """A file that sets every key, independent of the project's own."""
    text = (DEFAULT.parent.parent / "tests" / "golden" / "resources.yaml").read_text()
    return json.loads(json.dumps(YAML(typ="safe").load(text)))


@pytest.fixture
def load_values(tmp_path):
    def load(values):
        with (tmp_path / "resources.yaml").open("w") as stream:
            YAML(typ="safe").dump(values, stream)
        return resources.load_resources(tmp_path / "resources.yaml")

    return load


@pytest.fixture
def refused(load_values):
    def check(values, match):
        with pytest.raises(ParameterError, match=match):
            load_values(values)

    return check


@pytest.mark.parametrize("path", [DEFAULT, DEFAULT.with_name("resources-cpu.yaml")])
def test_the_projects_own_files_are_valid_and_name_every_task(path):
    found = resources.load_resources(path)
    assert set(found.steps) == set(TASKS)
    assert found.security.run_as_user > 0
    assert path == DEFAULT or not any(step.gpu or step.shm or step.tolerations for step in found.steps.values())


def test_more_than_one_gpu_is_refused_until_it_is_used(values, refused):
    values["steps"]["finetune_all"]["gpu"]["count"] = 2
    refused(values, r"steps\.finetune_all\.gpu\.count: found 2; .*must be 1")


@pytest.mark.parametrize("task", [task for task in TASKS if task not in resources.WITH_GPU])
def test_a_task_that_uses_no_gpu_may_not_request_one(values, refused, task):
    values["steps"][task]["gpu"] = {"type": "nvidia.com/gpu", "count": 1}
    refused(values, f"{task}: uses no GPU")


def test_register_may_request_one(values, load_values):
    values["steps"]["register"]["gpu"] = {"type": "amd.com/gpu", "count": 1}
    assert load_values(values).steps["register"].gpu.type == "amd.com/gpu"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("steps.ingest.cpu", 2),
        ("steps.ingest.cpu", "two"),
        ("steps.ingest.cpu", "0"),
        ("steps.ingest.memory", "4GB"),
        ("steps.ingest.timeout", 3600),
        ("steps.ingest.timeout", "0s"),
        ("steps.ingest.retries.count", 21),
        ("steps.ingest.retries.backoff", "1d"),
        ("steps.ingest.retries", {"count": 20, "backoff": "60s", "factor": 2}),
        ("steps.ingest.retries", {"count": 2, "backoff": "60s", "factor": 2, "longest": "600s"}),
        ("steps.train_head.shm", "lots"),
        ("steps.train_head.tolerations", [{"operator": "Equal"}]),
        ("steps.train_head.tolerations", [{"key": "a", "operator": "Exists", "value": "b"}]),
        ("steps.train_head.node_selector", {"a b": "c"}),
        ("steps.train_head.node_affinity", [{"weight": 50}]),
        ("steps.train_head.node_affinity", [{"match_expressions": [], "weight": 50}]),
        ("steps.train_head.node_affinity", [{"match_expressions": [{"key": "a", "operator": "Exists"}], "weight": 0}]),
        ("steps.train_head.node_affinity", [{"match_expressions": [{"key": "a", "operator": "In"}]}]),
        (
            "steps.train_head.node_affinity",
            [{"match_expressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}],
        ),
        ("steps.train_head.node_affinity", [{"match_expressions": [{"key": "a", "operator": "Gt", "values": ["b"]}]}]),
        (
            "steps.train_head.node_affinity",
            [{"match_expressions": [{"key": "a", "operator": "Lt", "values": ["1", "2"]}]}],
        ),
        ("pipeline.timeout", "2d"),
        ("pipeline.timeout", "596524h"),  # more seconds than fit in 32 bits
        ("pipeline.ttl_after_finished", "1h"),
        ("security.run_as_user", 0),
        ("security.run_as_non_root", False),
        ("secrets.s3.name", "Not A Name"),
        ("secrets.s3.keys", {"id": "not a variable"}),
        ("secrets.s3.tasks", ["train"]),
        ("secrets.gitlab", {"name": "a", "keys": {"b": "C"}, "tasks": ["ingest"]}),
        ("volumes", [{"claim": "a", "path": "relative", "tasks": ["ingest"]}]),
        ("image_pull_secrets", "one"),
        ("environment", {"LOWER": 1}),
        ("colour", "red"),
    ],
)
def test_a_wrong_value_is_named(values, refused, place, value):
    *path, last = place.split(".")
    holder = values
    for key in path:
        holder = holder[key]
    holder[last] = value
    refused(values, rf"resources\.yaml:\n  .*{place.split('.')[0]}")


def test_all_wrong_values_are_named_at_once(values, refused):
    values["steps"]["ingest"]["cpu"] = 1
    values["labels"] = {"-": "x"}
    del values["security"]
    refused(values, r"(?s)steps\.ingest\.cpu.*security: missing.*labels")


def test_a_missing_task_is_named(values, refused):
    del values["steps"]["notify"]
    refused(values, "steps: .*missing: notify")


@pytest.mark.parametrize(
    ("text", "match"), [(None, "No such file"), ("a: [", "not YAML"), ("", "the file: found None")]
)
def test_no_file_and_no_yaml(tmp_path, text, match):
    if text is not None:
        (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ParameterError, match=match):
        resources.load_resources(tmp_path / "file.yaml")


def test_a_byte_order_mark_is_skipped(values, load_values, tmp_path):
    found = load_values(values)
    path = tmp_path / "resources.yaml"
    path.write_text("\ufeff" + path.read_text(), encoding="utf-8")
    assert resources.load_resources(path) == found


def test_without_requests_the_user_the_labels_and_the_retries_stay(values, load_values):
    full = load_values(values)
    bare = full.without_requests()
    assert (bare.secrets, bare.volumes) == ({}, [])
    for name, step in bare.steps.items():
        kept = {"timeout": full.steps[name].timeout, "retries": full.steps[name].retries.model_dump()}
        assert step.model_dump(exclude_defaults=True) == kept, name
    for field in ("security", "labels", "environment", "image_pull_secrets"):
        assert getattr(bare, field) == getattr(full, field), field


def test_durations():
    assert [resources.parse_duration(text) for text in ("90s", "10m", "6h")] == [90, 600, 21600]


def test_every_key_has_a_description():
    for model in (each for each in vars(resources).values() if isinstance(each, type) and issubclass(each, Section)):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"

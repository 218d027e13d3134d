"""The stand-in refuses what the real server would not understand: otherwise the tests that use it prove nothing."""

import json
import urllib.error
import urllib.request

import kfp_server_api
import pytest

from tests.support.kfp_server.server import ROOT, KfpServer
from tests.support.kfp_server.shape import Refused, check
from tests.support.kfp_server.specs import check_parameters, parse
from tests.support.kfp_server.store import NEVER, Frame

SPEC = b"""
pipelineInfo: {name: small}
root:
  dag: {tasks: {}}
  inputDefinitions:
    parameters:
      ingest: {parameterType: STRUCT, defaultValue: {}}
      force: {parameterType: STRING}
schemaVersion: 2.1.0
sdkVersion: kfp-2.17.0
"""


@pytest.fixture
def server():
    with KfpServer() as server:
        yield server


def ask(server, method, path, body=None):
    """(status, answer) as any client would get it."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(server.host + path, data, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request) as response:  # noqa: S310
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"nane": "x"}, "has no field nane"),
        ({"display_name": 3}, "expected str"),
        ({"max_concurrency": 1.5}, "expected str"),
        ({"mode": "ENABLED"}, "is none of"),
        ({"no_catchup": "true"}, "expected bool"),
        ({"trigger": {"cron_schedule": {"start_time": "tomorrow"}}}, "RFC 3339"),
        ({"trigger": {"cron": "0 0 * * * *"}}, "has no field cron"),
        ({"runtime_config": {"parameters": []}}, "expected an object"),
    ],
)
def test_a_body_that_is_not_the_apis_is_refused(body, says):
    with pytest.raises(Refused, match=says) as caught:
        check(body, "V2beta1RecurringRun", "recurring_run")
    assert caught.value.status == 400


def test_a_body_that_is_the_apis_is_taken():
    body = {"max_concurrency": 1, "mode": "ENABLE", "trigger": {"periodic_schedule": {"interval_second": 60}}}
    taken = check(body, "V2beta1RecurringRun", "recurring_run")
    assert taken["max_concurrency"] == "1", "as protobuf writes 64 bits"
    assert taken["trigger"] == {"periodic_schedule": {"interval_second": "60"}}


@pytest.mark.parametrize("package", [b"a: [", b"name: x", b"", SPEC.replace(b"pipelineInfo", b"pipelineInfos")])
def test_what_is_no_pipeline_is_refused(package):
    with pytest.raises(Refused, match="Failed to parse the PipelineSpec"):
        parse(package)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"force": "", "other": 1}, "other is not found"),
        ({"force": "", "ingest": "x"}, "requires type STRUCT"),
        ({"force": True}, "requires type STRING"),
        ({}, "force is required"),
    ],
)
def test_parameters_that_the_pipeline_does_not_take_are_refused(parameters, says):
    with pytest.raises(Refused, match=says):
        check_parameters(parse(SPEC), parameters)


def test_the_calls_are_the_published_ones(server):
    # What is served is looked up in the generated client, not in what was typed here.
    import inspect

    source = "".join(
        inspect.getsource(getattr(kfp_server_api, name)) for name in dir(kfp_server_api) if "ServiceApi" in name
    )
    for path in ("pipelines", "pipelines/upload", "pipelines/upload_version", "experiments", "runs", "recurringruns"):
        assert f"'{ROOT}/{path}'" in source
    assert ask(server, "GET", f"{ROOT}/nothing")[0] == 404
    assert ask(server, "DELETE", f"{ROOT}/runs")[0] == 404


def test_answers_leave_out_what_is_empty_and_give_1970_for_what_has_not_come(server):
    assert ask(server, "GET", f"{ROOT}/recurringruns") == (200, {})
    identity = server._add(server.runs, "run_id", {"display_name": "x"})["run_id"]
    server._frames[identity] = [Frame("RUNNING", {"ingest": "RUNNING"})]
    status, run = ask(server, "GET", f"{ROOT}/runs/{identity}")
    assert status == 200
    driver, task, executor = run["run_details"]["task_details"]
    assert [one["display_name"] for one in (driver, task, executor)] == ["ingest-driver", "ingest", "executor"]
    assert task["end_time"] == NEVER


def test_a_page_token_belongs_to_its_question(server):
    for number in range(3):
        server.create_experiment({"display_name": f"e{number}"})
    _, first = ask(server, "GET", f"{ROOT}/experiments?page_size=2")
    assert first["total_size"] == 4
    token = first["next_page_token"]
    _, second = ask(server, "GET", f"{ROOT}/experiments?page_size=2&page_token={token}")
    names = [one["display_name"] for answer in (first, second) for one in answer["experiments"]]
    assert names == ["Default", "e0", "e1", "e2"]
    assert "next_page_token" not in second
    status, answer = ask(server, "GET", f"{ROOT}/experiments?page_token={token}&sort_by=display_name")
    assert status == 400
    assert "does not match" in answer["message"]


def test_an_unreadable_filter_is_refused(server):
    assert ask(server, "GET", f"{ROOT}/runs?filter=display_name")[0] == 400

"""The stand-in refuses what the real server would not accept; otherwise the tests that use it would prove nothing."""

import inspect

import kfp_server_api
import pytest
import urllib3

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


def ask(server, method, path):
    """Send a request; return (status, answer)."""
    with urllib3.PoolManager() as pool:
        answer = pool.request(method, server.host + path)
        return answer.status, answer.json()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"nane": "x"}, "has no field nane"),
        ({"display_name": 3}, "expected str"),
        ({"max_concurrency": 1.5}, "expected str"),
        ({"mode": "ENABLED"}, "expected one of"),
        ({"no_catchup": "true"}, "expected bool"),
        ({"trigger": {"cron_schedule": {"start_time": "tomorrow"}}}, "RFC 3339"),
        ({"trigger": {"cron": "0 0 * * * *"}}, "has no field cron"),
        ({"runtime_config": {"parameters": []}}, "expected an object"),
    ],
)
def test_a_body_that_does_not_fit_the_api_is_refused(body, message):
    with pytest.raises(Refused, match=message) as caught:
        check(body, "V2beta1RecurringRun", "recurring_run")
    assert caught.value.status == 400


def test_a_body_that_fits_the_api_is_accepted():
    body = {"max_concurrency": 1, "mode": "ENABLE", "trigger": {"periodic_schedule": {"interval_second": 60}}}
    taken = check(body, "V2beta1RecurringRun", "recurring_run")
    assert taken["max_concurrency"] == "1", "as protobuf writes 64 bits"
    assert taken["trigger"] == {"periodic_schedule": {"interval_second": "60"}}


@pytest.mark.parametrize("package", [b"a: [", b"name: x", b"", SPEC.replace(b"pipelineInfo", b"pipelineInfos")])
def test_a_package_without_a_pipeline_is_refused(package):
    with pytest.raises(Refused, match="Failed to parse the PipelineSpec"):
        parse(package)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"force": "", "other": 1}, "other is not found"),
        ({"force": "", "ingest": "x"}, "requires type STRUCT"),
        ({"force": True}, "requires type STRING"),
        ({}, "force is required"),
    ],
)
def test_parameters_that_the_pipeline_does_not_take_are_refused(parameters, message):
    with pytest.raises(Refused, match=message):
        check_parameters(parse(SPEC), parameters)


def test_the_calls_are_the_published_ones(server):
    # The generated client is the reference, not the stand-in's own text.
    apis = [getattr(kfp_server_api, name) for name in dir(kfp_server_api) if "ServiceApi" in name]
    source = "".join(map(inspect.getsource, apis))
    for path in ("pipelines", "pipelines/upload_version", "experiments", "runs", "recurringruns"):
        assert f"'{ROOT}/{path}'" in source
    assert ask(server, "GET", f"{ROOT}/nothing")[0] == 404
    assert ask(server, "DELETE", f"{ROOT}/runs")[0] == 404


def test_answers_leave_out_empty_fields_and_give_1970_for_unknown_times(server):
    assert ask(server, "GET", f"{ROOT}/recurringruns") == (200, {})
    identity = server._add(server.runs, "run_id", {"display_name": "x"})["run_id"]
    server._frames[identity] = [Frame("RUNNING", {"ingest": "RUNNING"})]
    status, run = ask(server, "GET", f"{ROOT}/runs/{identity}")
    assert status == 200
    driver, task, executor = run["run_details"]["task_details"]
    assert [one["display_name"] for one in (driver, task, executor)] == ["ingest-driver", "ingest", "executor"]
    assert task["end_time"] == NEVER


def test_a_page_token_belongs_to_its_query(server):
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

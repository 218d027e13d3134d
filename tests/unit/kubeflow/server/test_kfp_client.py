import argparse
import json
from dataclasses import replace

import kfp
import pytest

from tests.support.kfp_server.case import SECRET, fails, options, quick
from tests.support.kfp_server.server import Fault
from twofold.cli.kfp.options import add_connection_options, connection_from
from twofold.core.errors import ServerError
from twofold.kubeflow.server.connection import connect, open_client
from twofold.kubeflow.server.kfp_client import NoAnswerError, RefusedError, list_all, list_named


@pytest.mark.parametrize("version", ["2.0.5", "2.15.3", "1.8.5"])
def test_a_server_too_old_is_refused_with_its_version_and_the_sdks(server, version):
    server.version = version
    server.v1_only = version.startswith("1")
    message = fails(server)
    for part in (version, "too old", "2.16 or newer", kfp.__version__):
        assert part in message


@pytest.mark.parametrize("version", ["2.17.0", "v2.17.3", "2.18.0-rc.1", "3.0.0"])
def test_a_server_as_new_as_the_sdk_is_accepted_silently(server, version, capfd):
    server.version = version
    connect(options(server))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("version", ["2.16.0", "unknown", ""])
def test_a_server_that_may_be_too_old_is_accepted_with_a_warning(server, version, capfd):
    server.version = version
    connect(options(server))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"warning: {server.host}")


def test_the_version_is_read_from_the_uis_server_too(server):
    server.behind_ui = True
    server.ready = False
    assert "the API server behind it does not" in fails(server)
    server.ready = True
    server.version = "2.15.0"
    assert "2.15.0, too old" in fails(server)


def test_a_get_without_an_answer_is_retried_and_a_change_is_not(server):
    client = connect(options(server))
    server.faults = [Fault("GET /experiments", lose="before", times=2)]
    assert client.list_experiments().experiments
    server.faults = [Fault("POST /recurringruns", lose="before", times=2)]
    with pytest.raises(NoAnswerError, match="no answer"):
        client.disable_recurring_run("x")
    assert len(server.changes()) == 1


def test_a_server_that_is_down(server):
    with pytest.raises(ServerError, match=r"no answer .*Connection refused") as caught:
        connect(replace(options(server), host="http://127.0.0.1:9"))
    assert "0x" not in str(caught.value)


def test_a_slow_server_times_out(server, monkeypatch):
    client = connect(options(server))
    monkeypatch.setattr("twofold.kubeflow.server.kfp_client.TIMEOUT", (1, 0.05))
    server.faults = [Fault("GET", wait=0.3, times=9)]
    with pytest.raises(NoAnswerError, match="timed out"):
        client.list_experiments()


def test_a_proxys_504_is_no_answer_and_a_500_is_one(server):
    client = connect(options(server))
    server.faults = [Fault("POST", status=504)]
    with pytest.raises(NoAnswerError):
        client.disable_recurring_run("x")
    server.faults = [Fault("POST", status=500, message="database is locked")]
    with pytest.raises(RefusedError, match=r"refused \(500\): database is locked"):
        client.disable_recurring_run("x")


def test_a_multi_user_server_needs_a_namespace(server, tmp_path, monkeypatch):
    server.multi_user = True
    monkeypatch.setattr("kfp.Client._NAMESPACE_PATH", str(tmp_path / "namespace"))
    assert "--namespace" in fails(server)
    assert connect(options(server, "-n", "team")).get_user_namespace() == "team"


def test_nothing_is_written_into_the_home_folder(server, tmp_path, monkeypatch):
    server.multi_user = True
    (tmp_path / "namespace").write_text("team")
    monkeypatch.setattr("kfp.Client._NAMESPACE_PATH", str(tmp_path / "namespace"))
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "kfp" / "context.json"))
    assert connect(options(server)).get_user_namespace() == "team", "the pod's own, in a cluster"
    assert not (tmp_path / "kfp").exists()


def test_kfps_own_context_file_is_used_and_a_broken_one_named(server, tmp_path, monkeypatch):
    context = tmp_path / "context.json"
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(context))
    context.write_text(json.dumps({"namespace": "mine"}))
    assert connect(options(server)).get_user_namespace() == "mine"
    context.write_text("{")
    assert str(server.host) in fails(server)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: --host"),
        (["--host", "server:8080"], "write http://HOST:PORT"),
        (["--host", f"https://me:{SECRET}@server"], "credentials in the address"),
        (["--host", "http://server", "--token", "a", "--token-file", "b"], "not allowed with"),
    ],
)
def test_wrong_usage_ends_with_2(words, message, monkeypatch, capsys):
    quick(monkeypatch)
    parser = argparse.ArgumentParser()
    add_connection_options(parser)
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(words)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert SECRET not in err


def test_the_host_may_come_from_kfps_variable(server, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", server.host + "/")
    parser = argparse.ArgumentParser()
    add_connection_options(parser)
    assert open_client(connection_from(parser.parse_args([]))).link == server.host


def test_lists_are_read_over_all_pages(server, monkeypatch):
    client = connect(options(server))
    for letter in "eE":
        for number in range(115):
            server.create_experiment({"display_name": f"{letter}{number}"})
    call = client.experiments.experiment_service_list_experiments
    assert len(list(list_all(call, "experiments"))) == 231
    assert sum(call == "GET /experiments" for call in server.calls) == 3
    assert [one.display_name for one in list_named(call, "experiments", "e7")] == ["e7"]
    assert list_named(call, "experiments", "none") == []

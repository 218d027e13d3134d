"""No text that is shown, logged or stored holds a secret, whichever library quotes it and from wherever it came."""

from pathlib import Path
from urllib.parse import quote

import pytest
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session

from twofold.cli.main import main
from twofold.core.errors import RegistryError, TwofoldError, exit_with_message, first_line
from twofold.core.progress import say
from twofold.core.redaction import has_credentials, redact, without_credentials
from twofold.kubeflow.definition.resources import DEFAULT, load_resources
from twofold.orchestration import notifications
from twofold.orchestration.params_file import load_yaml, set_values
from twofold.orchestration.preflight_findings import failure, in_log, lines, markdown
from twofold.orchestration.task import check_parameters_and_source
from twofold.sources.factory import open_source
from twofold.sources.unlabelled import list_unlabelled
from twofold.tracking import registry_client
from twofold.tracking.store import MlflowStore, explain_error

ROOT = Path(__file__).parents[3]
CANARY = "Canary/7+p@ss=%word"
VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
    *("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "KFP_TOKEN", "KFP_COOKIES", "TWOFOLD_WEBHOOK"),
    *("GITHUB_TOKEN", "HF_TOKEN", "PGPASSWORD", "AZURE_CLIENT_SECRET", "AZURE_ACCOUNT_KEY", "WANDB_API_KEY"),
)
ADDRESSES = ("MLFLOW_TRACKING_URI", "HTTPS_PROXY", "AWS_ENDPOINT_URL", "TWOFOLD_CACHE", "KF_PIPELINES_ENDPOINT")
# How other libraries quote a value.
QUOTED = (str, repr, quote, lambda text: quote(text, ""), lambda text: repr(f"{text}\n"), lambda text: f"a {text}\nb")


def exits(text, capsys, kind=ValueError):
    with pytest.raises(SystemExit), exit_with_message("twofold"):
        raise kind(text)
    return capsys.readouterr().err


CHANNELS = {
    "an error": lambda text, capsys: str(RegistryError(text)),
    "its first line": lambda text, capsys: first_line(ValueError(text)),
    "an error of MLflow": lambda text, capsys: explain_error(ValueError(text)),
    "a traceback": exits,
    "an error of the system": lambda text, capsys: exits(text, capsys, OSError),
    "a warning": lambda text, capsys: (say(text), capsys.readouterr().err)[1],
    "a finding": lambda text, capsys: (
        in_log(finding(text)) + markdown([finding(text)]) + "".join(lines([finding(text)]))
    ),
    "a notification": lambda text, capsys: posted(text, capsys),
    "an optional write": lambda text, capsys: registry_client.try_write(lambda: fail(text)),
}


def finding(text):
    return failure(text, text, text)


def fail(text):
    raise OSError(text)


def posted(text, capsys):
    notifications._post(text)
    return capsys.readouterr().err


WAYS_OUT = [(name, channel) for name in (*VARIABLES, *ADDRESSES) for channel in CHANNELS]
WAYS_OUT.remove(("TWOFOLD_WEBHOOK", "a notification"))  # which would be sent there: see test_notifications


@pytest.mark.parametrize(("name", "channel"), WAYS_OUT)
def test_no_way_out_shows_a_secret_of_the_environment(name, channel, monkeypatch, capsys):
    monkeypatch.delenv("TWOFOLD_WEBHOOK", raising=False)
    for secret in (CANARY, "0123456789abcdef"):
        # A secret that was made from a file ends with a line end.
        value = f"http://some-user:{quote(secret, '')}@host/" if name in ADDRESSES else f"{secret}\n"
        monkeypatch.setenv(name, value)
        for quoted in QUOTED:
            shown = CHANNELS[channel](f"refused: {quoted(secret)}, see the log", capsys)
            assert not [form(secret) for form in QUOTED if form(secret).strip("b'\"") in shown], shown
            assert secret not in shown
            assert "***" in shown


def test_a_message_names_its_variable_and_keeps_words_and_paths(monkeypatch, tmp_path):
    (tmp_path / "token").touch()
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token")
    monkeypatch.setenv("KF_TOKEN", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("TWOFOLD_SOURCE", "dvc+https://host:443/team/repo@v1:data")
    text = f"/var/run/token and {tmp_path}/token: set the secret AWS_SECRET_ACCESS_KEY; false; team/repo of git@host"
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Max retries exceeded with url: /b/k?X-Amz-Credential=CANARY%2F2024%2Fus&X-Amz-Signature=CANARY&x=1",
        "/b/k?AWSAccessKeyId=CANARY&Signature=CANARY%3D&Expires=1",
        "https://host/repo?private_token=CANARY",
        "AWS4-HMAC-SHA256 Credential=CANARY/2024/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=CANARY",
        "<Error><AWSAccessKeyId>CANARY</AWSAccessKeyId><SignatureProvided>CANARY</SignatureProvided>",
        "headers {'Authorization': 'Bearer CANARY', 'Set-Cookie': 'id=CANARY'}",
        "Authorization: Basic CANARY\r\nHost: there",
        "sent bearer CANARY7 to it",
        "Invalid header value b'CANARY\\n'",
        'Invalid header value: "CANARY\'s"',
        "password authentication failed for host=db password=CANARY",
        *(
            "postgresql://me:CANARY@db/x",
            "https://CANARY@host/repo",
            "https://me:CAN@RY@host:1/x",
            "s3://k:CA/CANARY@b",
        ),
        *("AKIA0CANARY0CANARY0", "ghp_CANARY7CANARY7CANARY7"),
    ],
)
def test_secrets_that_no_variable_holds_are_known_by_their_form(text):
    assert "CANARY" not in redact(text)
    assert redact(redact(text)) == redact(text)
    assert "CANARY" not in str(TwofoldError(text))


@pytest.mark.parametrize("token", ["two\nlines", "CanaryOfAFile7\n"])
def test_what_botocore_says_of_a_session_token_with_a_line_end_does_not_hold_it(token, monkeypatch):
    request = AWSRequest("GET", "http://127.0.0.1:1/", headers={"X-Amz-Security-Token": token}).prepare()
    with pytest.raises(Exception, match="header") as caught:
        URLLib3Session().send(request)
    assert token.strip().splitlines()[0] in str(caught.value), "otherwise this test shows nothing"
    assert token.strip().splitlines()[0] not in first_line(caught.value)


@pytest.mark.parametrize("address", ["http://me:a-password@127.0.0.1:1", "postgresql://me:a-password@127.0.0.1:1/db"])
def test_the_warning_about_a_lock_does_not_hold_the_password_of_the_tracking_address(address, monkeypatch, capsys):
    from twofold.registry import lock

    store = MlflowStore(None, address, None)
    monkeypatch.setattr(lock, "_acquire", lambda *_: lock.Lock(store, "m", 1, "t"))
    monkeypatch.setattr(registry_client, "tag_model", lambda *_: fail(f"no answer from {address}"))
    with lock.locked(store, "m"):
        pass
    shown = capsys.readouterr().err
    assert "could not be released (no answer from" in shown
    assert "a-password" not in shown


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:secret@db/mlflow", "postgresql://db/mlflow"),
        ("https://token@host/x", "https://host/x"),
        ("sqlite:////a@b/mlflow.db", "sqlite:////a@b/mlflow.db"),
        ("dvc+ssh://git@host/repo@v1:data", "dvc+ssh://git@host/repo@v1:data"),
        ("ssh://git:secret@host/repo", "ssh://host/repo"),
        ("dvc+git@host:team/repo@v1:data", "dvc+git@host:team/repo@v1:data"),
        ("dvc+git@host:repo@v1:data", "dvc+git@host:repo@v1:data"),
        ("dvc+host:repo@v1:data", "dvc+host:repo@v1:data"),
        ("dvc+me:secret@host/repo@v1:data", "dvc+host/repo@v1:data"),
        ("http://host:80/a@b", "http://host:80/a@b"),
    ],
)
def test_an_address_loses_its_login_and_nothing_else(address, shown):
    assert without_credentials(address) == shown
    assert has_credentials(address) == (address != shown)


@pytest.mark.parametrize(
    "address",
    [
        "dvc+https://CANARY@host/repo@v1:data",
        "dvc+https://CANARY@host/repo",
        "dvc+https://me:CANARY@host/repo@v1:data",
        "dvc+ssh://git:CANARY@host/repo@v1:data",
        "dvc+me:CANARY@host/repo@v1:data",
        "dvc+me:CANARY@host/repo",
        "dvc+https://host/repo?private_token=CANARY@v1:data",
        "s3://CANARY@bucket/prefix",
        "s3://key:CAN/CANARY@bucket/prefix",
        "https://CANARY@host/images.zip",
    ],
)
def test_an_address_with_credentials_is_refused_wherever_it_can_be_written_and_shown_nowhere(address, tmp_path, capsys):
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    resources = tmp_path / "resources.yaml"
    environment = f"environment: {{MLFLOW_TRACKING_URI: '{address}'}}"
    resources.write_text((ROOT / DEFAULT).read_text().replace("environment: {}", environment))
    for refused in (
        lambda: open_source(address),
        lambda: list_unlabelled(address),
        lambda: set_values(path, [f"ingest.source={address}"]),
        lambda: load_resources(resources),
        lambda: source_version({"source": address}),
    ):
        with pytest.raises((TwofoldError, SystemExit)) as caught:
            refused()
        text = f"{caught.value}{''.join(capsys.readouterr())}"
        assert "user, password or token" in text
        assert "CANARY" not in text
    assert "CANARY" not in path.read_text()


def source_version(ingest):
    values = load_yaml(ROOT / "params.yaml")
    check_parameters_and_source(**values | {"ingest": values["ingest"] | ingest})


def test_credentials_that_stand_in_params_yaml_already_are_not_shown_when_they_are_removed(tmp_path, capsys):
    path = tmp_path / "params.yaml"
    set_values_in = (ROOT / "params.yaml").read_text().replace("source: ", "source: dvc+https://CANARY@h/r@v1:d  # ")
    path.write_text(set_values_in)
    for words in (["get", "ingest.source"], ["check"], ["set", "ingest.source=data/images"]):
        with pytest.raises(SystemExit):
            main(["params", *words, "--params", str(path)])
        shown = "".join(capsys.readouterr())
        assert shown
        assert "CANARY" not in shown
    assert "CANARY" not in path.read_text()

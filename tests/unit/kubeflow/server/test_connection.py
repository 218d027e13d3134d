import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from google.auth.exceptions import GoogleAuthError

from tests.support.kfp_server.case import SECRET, fails, options
from tests.support.kfp_server.server import Fault, KfpServer
from twofold.cli.main import kfp_main as main
from twofold.core.errors import ServerError
from twofold.kubeflow.server.connection import connect


@pytest.mark.parametrize("how", ["option", "variable", "file"])
def test_a_token_reaches_the_server_and_nobody_else(server, how, tmp_path, monkeypatch, capfd):
    server.token = SECRET
    (tmp_path / "token").write_text(SECRET + "\n")
    words = {"option": ["--token", SECRET], "file": ["--token-file", str(tmp_path / "token")]}
    if how == "variable":
        monkeypatch.setenv("KFP_TOKEN", SECRET)
    client = connect(options(server, *words.get(how, [])))
    assert client.list_experiments().experiments[0].display_name == "Default"
    assert {call["authorization"] for call in server.headers} == {f"Bearer {SECRET}"}
    assert SECRET not in "".join(capfd.readouterr())


def test_a_token_file_is_read_again_at_every_call(server, tmp_path):
    path = tmp_path / "token"
    path.write_text("one")
    client = connect(options(server, "--token-file", str(path)))
    path.write_text("\ufefftwo", encoding="utf-8")  # with the mark that some editors put before a text
    server.token = "two"
    client.list_experiments()
    path.unlink()
    with pytest.raises(ServerError, match="No such file"):
        client.list_experiments()


@pytest.mark.parametrize("text", ["", "two words", "a\nb", "é"])
def test_an_invalid_token_is_refused_without_being_shown(server, text, tmp_path):
    (tmp_path / "token").write_text(text, encoding="utf-8")
    message = fails(server, "--token-file", str(tmp_path / "token"))
    assert f"--token-file {tmp_path}" in message
    assert not text or text not in message.removeprefix(f"--token-file {tmp_path}")
    assert server.calls == []


def test_a_wrong_token_is_a_401_that_says_what_to_do_and_shows_no_token(server):
    server.token = "another"
    message = fails(server, "--token", SECRET)
    assert "(401)" in message
    assert "--token-file" in message
    assert "***" in message, "the server's message, which repeats the token, is redacted"
    assert len(server.calls) == 1, "kfp.Client alone would ask five times, five seconds apart"


def test_no_output_of_any_failure_holds_the_token(server, cli, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", SECRET)
    monkeypatch.setenv("KFP_COOKIES", f"session={SECRET}")
    message = "x" * 390 + f"{SECRET} {SECRET}"  # messages are cut here: half a token must not be left
    faults = [Fault("", status=status, message=message) for status in (400, 401, 403, 404, 409, 429, 500, 503)]
    faults += [Fault("", status=302, location=f"https://login.example/?token={SECRET}"), Fault("", page=SECRET)]
    faults += [Fault("", lose="before"), Fault("", lose="after")]
    for fault in faults:
        fault.times = 9
        server.faults = [fault]
        err = cli("schedule", "list", status=1).err
        assert err.startswith("twofold: error: http://127.0.0.1")
        assert SECRET[:8] not in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    "words",
    [
        ("submit", "--tokn", SECRET),
        ("submit", f"--tokn={SECRET}"),
        ("submit", f"--tok={SECRET}"),
        ("submit", "--token-fil", SECRET),
        ("submit", f"-t{SECRET}"),
        ("submit", "--cpu", SECRET),
        ("schedule", "list", "--tokn", SECRET),
        ("--token", SECRET, "submit"),
        ("schedule", "--token", SECRET, "list"),
        ("submit", "--ui-host", f"someone:{SECRET}@host"),
        ("submit", "--ui-host", f"http:/someone:{SECRET}@host"),
        ("submit", "--ui-host", f"http://someone:{SECRET}@host"),
        ("submit", "--ui-host", f"http://host/?token={SECRET}"),
    ],
)
def test_no_usage_error_repeats_the_token(server, cli, words):
    err = cli(*words, status=2).err  # which checks that the complete token is not in the output
    assert SECRET[:8] not in err
    assert "error: " in err


def test_the_help_shows_no_secret_of_the_environment(server, capfd, monkeypatch):
    for name in ("KFP_TOKEN", "KFP_COOKIES"):
        monkeypatch.setenv(name, SECRET)
    with pytest.raises(SystemExit):
        main(["submit", "--help"])
    assert SECRET not in "".join(capfd.readouterr())


def test_a_given_namespace_takes_precedence_even_if_it_is_called_kubeflow(server, tmp_path, monkeypatch):
    context = tmp_path / "context.json"
    context.write_text('{"namespace": "from-a-file"}')
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(context))
    server.multi_user = True
    assert connect(options(server)).get_user_namespace() == "from-a-file"
    assert connect(options(server, "--namespace", "kubeflow")).get_user_namespace() == "kubeflow"
    assert connect(options(server, "--namespace", "mine")).get_user_namespace() == "mine"


def test_cookies_are_sent_and_not_shown(server, monkeypatch):
    monkeypatch.setenv("KFP_COOKIES", f"authservice_session={SECRET}; a=b")
    connect(options(server))
    assert server.headers[-1]["cookie"] == f"authservice_session={SECRET}; a=b"
    server.faults = [Fault("", status=403, message=f"no such session: {SECRET}")]
    assert "no such session: ***" in fails(server)
    monkeypatch.setenv("KFP_COOKIES", f"authservice_session={SECRET}; lang=en; a=b")
    server.faults = [Fault("", status=403, message="no such bench")]
    assert "forbidden (403): no such bench. You" in fails(server), (
        "a short value is not secret, and may be part of any word"
    )


def test_a_403_explains_access(server):
    server.faults = [Fault("", status=403, message="User 'x' is not authorized")]
    message = fails(server)
    assert "forbidden (403): User 'x' is not authorized." in message
    assert "--namespace" in message


def test_a_login_page_is_not_an_answer_of_the_api(server):
    server.faults = [Fault("", page="<html>log in</html>")]
    assert "login page" in fails(server)
    server.faults = [Fault("", status=302, location="https://login.example/auth")]
    assert "redirects to https://login.example/auth (302)" in fails(server)


def test_googles_proxy_gets_the_token_that_kfp_finds(server, monkeypatch):
    server.token = SECRET
    monkeypatch.setattr("kfp.client.auth.get_auth_token", lambda *_: (SECRET, False))
    connect(options(server, "--client-id", "id.apps.example"))
    server.faults = [Fault("", status=403, message=f"{SECRET} is of no use")]
    assert "*** is of no use" in fails(server, "--client-id", "id.apps.example")


def test_missing_google_credentials_are_no_traceback(server, monkeypatch):
    def missing(*_):
        raise GoogleAuthError("credentials were not found")

    monkeypatch.setattr("kfp.client.auth.get_auth_token", missing)
    assert f"no connection to {server.host}: credentials were not found" in fails(server, "--client-id", "id")


def self_signed(path):
    """A certificate for 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
    return path


def test_a_certificate_of_a_private_authority_is_accepted_once_it_is_named(server, tmp_path):
    certificate = tmp_path / "certificate.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(certificate))
    with KfpServer(context) as secure:
        assert "its certificate is not accepted" in fails(secure)
        assert connect(options(secure, "--ca-cert", str(certificate))).version == secure.version


def test_a_missing_certificate_is_named(server, tmp_path):
    assert "no such file" in fails(server, "--ca-cert", str(tmp_path / "ca.pem"))

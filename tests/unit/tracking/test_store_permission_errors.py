"""Explanations of a server's refusals, from messages of MLflow 3.17.2's client (a real server is tested in slow)."""

import pytest
from mlflow.exceptions import MlflowException, RestException
from requests import HTTPError

from twofold.tracking.store import explain_error, explain_refusal, may_pass

API = "API request to endpoint /api/2.0/mlflow/{} failed with error code 403 != 200. Response body: 'Permission denied'"
FILE = "403 Client Error: FORBIDDEN for url: http://mlflow:5000/api/2.0/mlflow-artifacts/artifacts/1/a/page.html"


@pytest.fixture(autouse=True)
def login(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "reader")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "the-password")


@pytest.mark.parametrize(
    ("text", "need", "thing"),
    [
        (API.format("registered-models/alias"), "EDIT (MANAGE where", "registered model"),
        (API.format("model-versions/set-tag"), "EDIT (MANAGE where", "registered model"),
        (API.format("registered-models/get?name=x"), "READ", "registered model"),
        (API.format("runs/create"), "EDIT (MANAGE where", "experiment"),
        (API.format("runs/search"), "READ", "experiment"),
        (API.format("logged-models/m-1/tags"), "EDIT (MANAGE where", "experiment"),
        (API.format("users/create"), "EDIT (MANAGE where", "server"),
        (FILE, "EDIT (MANAGE where", "experiment"),
    ],
)
def test_a_refusal_names_the_permission_the_object_and_the_user(text, need, thing):
    message = explain_refusal("" if text is FILE else "PERMISSION_DENIED", text)
    assert message.startswith(f"permission denied: user 'reader' lacks {need}")
    assert f" on the {thing}" in message
    assert "docs/guides/mlflow.md" in message
    assert "the-password" not in message


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("UNAUTHENTICATED", "You are not authenticated."),
        ("", "401 Client Error: UNAUTHORIZED for url: http://mlflow:5000/x"),
    ],
)
def test_a_rejected_login_names_the_variables(code, text, monkeypatch):
    message = explain_refusal(code, text)
    assert "rejects the login of user 'reader': set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in message
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    assert "this process (MLFLOW_TRACKING_USERNAME is not set)" in explain_refusal(code, text)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("RESOURCE_DOES_NOT_EXIST", "Registered Model with name=x not found"),
        ("INTERNAL_ERROR", "API request failed with error code 500"),
        ("PERMISSION_DENIED", "Invalid Host header"),
        ("", "404 Client Error: NOT FOUND for url: http://mlflow:5000/permission"),
        ("", "[Errno 13] Permission denied: '/srv/mlflow'"),
    ],
)
def test_other_errors_are_not_explained(code, text):
    assert explain_refusal(code, text) is None


ENDPOINT = "API request to endpoint /api/2.0/mlflow/runs/get failed with error code {} != 200. Response body: 'no'"
LOST = "API request to http://mlflow:5000/x failed with exception Pool: Max retries exceeded with url: /x ({})"
SEVERAL = "The following failures occurred while downloading one or more artifacts from x:\n##### File a #####\n{}\n"


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (MlflowException(ENDPOINT.format(502)), True),
        (MlflowException(ENDPOINT.format(413)), False),
        (MlflowException(LOST.format("Caused by NewConnectionError: Connection refused")), True),
        (MlflowException(LOST.format("Caused by ResponseError('too many 503 error responses')")), True),
        (MlflowException(LOST.format("Caused by SSLError: CERTIFICATE_VERIFY_FAILED")), False),
        (MlflowException(SEVERAL.format("500 Server Error: no for url: x")), True),
        (MlflowException(SEVERAL.format("500 Server Error: no for url: x\n404 Client Error: no for url: y")), False),
        (MlflowException("the model has no flavor"), False),
        (HTTPError("503 Server Error: no for url: x"), True),
        (HTTPError("403 Client Error: FORBIDDEN for url: x"), False),
        (RestException({"error_code": "INTERNAL_ERROR", "message": "the database is away"}), True),
        (RestException({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slowly"}), True),
        (RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no run"}), False),
        (RestException({"error_code": "PERMISSION_DENIED", "message": "Permission denied"}), False),
        (RestException({"detail": "Not Found"}), False),
    ],
    ids=str,
)
def test_a_server_that_fails_or_is_busy_may_pass_and_a_refusal_may_not(error, transient):
    assert may_pass(error) == transient


def test_a_page_of_html_becomes_its_title_in_one_line():
    page = "<!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n<h1>Internal</h1>\n<p>Either."
    error = MlflowException(f"error code 500 != 200. Response body: '{page}'\n")
    assert explain_error(error) == "error code 500 != 200. Response body: '500 Internal Server Error'"

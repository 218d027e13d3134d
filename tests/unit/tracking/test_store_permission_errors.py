"""Explanations of a server's refusals, from messages of MLflow 3.17.2's client (a real server is tested in slow)."""

import pytest

from twofold.tracking.store import explain_refusal

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
    assert "docs/mlflow.md" in message
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

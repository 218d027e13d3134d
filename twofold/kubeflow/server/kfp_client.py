"""A kfp.Client with timeouts, readable errors, and no secrets in its messages.

Takes the settings of kfp.Client; every call returns an answer or raises a ServerError that says what to do.
"""

import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import kfp
import urllib3
from kfp_server_api import ApiException

from twofold.core.errors import ServerError
from twofold.core.progress import say
from twofold.core.redaction import redact

# The first server that obeys `run_as_non_root` of a compiled pipeline (new in kfp-kubernetes 2.16.0). Older ones
# silently ignore it.
OLDEST = (2, 16)
REQUIRED = f"{'.'.join(map(str, OLDEST))} or newer is required (the SDK here is {kfp.__version__})"
TIMEOUT = (10, 60)  # seconds to connect, and between two bytes of an answer; kfp.Client itself has no timeout
PAUSES = (0.5, 2.0)  # seconds before each retry of a GET request

T = TypeVar("T")


class NoAnswerError(ServerError):
    """No answer came: it is unknown whether the request was carried out."""


class TooOldError(ServerError):
    """The server would drop parts of what it is sent."""


class RefusedError(ServerError):
    """The server answered with an error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client(kfp.Client):  # type: ignore[misc]  # kfp has no types
    """kfp.Client with timeouts and readable errors, which writes nothing into the home folder."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self.given_namespace = ""
        self.health: dict[str, Any] = {}
        with warnings.catch_warnings():
            # kfp warns every user that it does not support servers before 2.0; check_version warns those who have one.
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(**settings)
        self._wrap_requests()

    @property
    def link(self) -> str:
        """Address of the UI for browsers."""
        return str(self._settings["ui_host"] or self._settings["host"]).rstrip("/")

    @property
    def multi_user(self) -> bool:
        return bool(self.health.get("multi_user"))

    @property
    def namespace(self) -> str | None:
        """The user's namespace; None without one."""
        return self.get_user_namespace() or None

    def get_user_namespace(self) -> str:
        """Like kfp.Client's, which ignores the given namespace if it is `kubeflow` and reads ~/.config/kfp instead."""
        return self.given_namespace if self.given_namespace and self.multi_user else str(super().get_user_namespace())

    def set_user_namespace(self, namespace: str) -> None:
        """Set it for this client only; kfp.Client would write it into ~/.config/kfp, for all servers."""
        self._context_setting["namespace"] = namespace

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        """Like kfp.Client's, which would print five tracebacks in 25 seconds if the server refuses.

        Raises:
            ServerError: no answer, or not the API that this client speaks.
        """
        self._wrap_requests()  # kfp.Client's constructor calls this method
        host = self._settings["host"]
        try:
            answer = self._healthz_api.healthz_service_get_healthz()
        except RefusedError as refusal:
            if refusal.status != 404:
                raise
            raise ServerError(
                f"{host}: no API v2beta1 here. Either this is not the address of Kubeflow Pipelines, or its version "
                f"({self._v1_version()}) is too old: {REQUIRED}"
            ) from None
        # kfp's model of the answer leaves out the version.
        self.health = json.loads(self._api.last_response.data)
        if self.health.get("apiServerReady") is False:
            # The UI's server itself is healthy and answers 200.
            raise NoAnswerError(
                f"{host}: the Kubeflow UI answers, but the API server behind it does not. Wait for its pods: kubectl "
                "get pods -l app=ml-pipeline"
            )
        return answer

    @property
    def version(self) -> str:
        """As the server reports it, such as 2.17.0; "unknown" if it does not."""
        # The API server calls it tag_name, the UI's server in front of it apiServerTagName.
        return str(self.health.get("tag_name") or self.health.get("apiServerTagName") or "unknown")

    def check_version(self) -> str:
        """Return a warning if the server is older than the SDK or does not report its version, otherwise "".

        Raises:
            ServerError: the server is too old.
        """
        self.get_kfp_healthz()
        host, version = self._settings["host"], self._numbers
        if not version:
            return f"{host} does not report its version ({self.version!r}); {REQUIRED}"
        if version < OLDEST:
            raise TooOldError(
                f"{host} runs Kubeflow Pipelines {self.version}, too old: {REQUIRED}. Older servers drop "
                "parts of the pipeline silently, such as that its pods must not run as root"
            )
        if version < tuple(map(int, kfp.__version__.split(".")[:2])):
            return (
                f"{host} runs Kubeflow Pipelines {self.version}, older than the SDK here ({kfp.__version__}): it may "
                "not support everything that it is sent"
            )
        return ""

    def plugins_input(self, experiment: str) -> dict[str, Any] | None:
        """What makes KFP's MLflow plugin, if there is one, record a run in this experiment; None before KFP 2.17."""
        return {"mlflow": {"experiment_name": experiment}} if self._numbers >= (2, 17) else None

    @property
    def _numbers(self) -> tuple[int, ...]:
        found = re.match(r"v?(\d+)\.(\d+)", self.version)
        return tuple(map(int, found.groups())) if found else ()

    @property
    def _api(self) -> Any:
        return self._healthz_api.api_client

    def _v1_version(self) -> str:
        """The version that a server with only the API v1beta1 reports."""
        try:
            kind = {"response_type": "object", "_return_http_data_only": True}
            answer = self._api.call_api("/apis/v1beta1/healthz", "GET", auth_settings=["Bearer"], **kind)
        except ServerError:
            return "unknown"
        return str(answer.get("tag_name", "unknown")) if isinstance(answer, dict) else "unknown"

    def _wrap_requests(self) -> None:
        """Route every call of this client through `_request`: all of kfp's API objects share one ApiClient."""
        api = self._api
        if "request" in vars(api):
            return
        # Follow no redirect: it leads to a login page, which answers 200 to everything. `_request` does the retries.
        api.rest_client.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(0, raise_on_redirect=False)
        original = api.request

        def request(method: str, url: str, **arguments: Any) -> Any:
            arguments["_request_timeout"] = arguments.get("_request_timeout") or TIMEOUT
            for pause in PAUSES if method == "GET" else ():
                try:
                    return self._request(original, method, url, arguments)
                except NoAnswerError:
                    time.sleep(pause)
            return self._request(original, method, url, arguments)

        api.request = request

    def _request(self, original: Any, method: str, url: str, arguments: dict[str, Any]) -> Any:
        host = self._settings["host"]
        try:
            response = original(method, url, **arguments)
        except ApiException as error:
            raise self._translate(error) from None
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, urllib3.exceptions.SSLError):
                text = f"{host}: its certificate is not accepted ({reason}); name its authority's file with --ca-cert"
                raise ServerError(self.without_secrets(text)) from None
            text = f"{host}: no answer ({type(reason).__name__}: {reason}). Check the address, server and port-forward"
            raise NoAnswerError(self.without_secrets(text)) from None
        kind = response.getheader("content-type") or ""
        if "json" not in kind:
            raise ServerError(
                f"{host} answered with {kind or 'an unknown type'} instead of JSON, as a login page does. Give a token "
                "(--token-file, KFP_TOKEN), a session's cookies (KFP_COOKIES) or --client-id; or add the API's path to "
                "the address (often /pipeline)"
            )
        return response

    def _translate(self, error: ApiException) -> ServerError:
        host, status = self._settings["host"], int(error.status or 0)
        text = self.without_secrets(_server_message(error))  # before it is shortened: half a token is a secret too
        text = text if len(text) <= 400 else text[:400] + "…"
        if status in (502, 503, 504):
            return NoAnswerError(f"{host}: no answer from behind the proxy ({status}): {text}")
        if status in (301, 302, 303, 307, 308):
            to = self.without_secrets(str((error.headers or {}).get("Location", "elsewhere")))
            return RefusedError(
                f"{host} redirects to {to} ({status}), which is a login page or the server's right address. Give a "
                "token (--token-file, KFP_TOKEN), cookies (KFP_COOKIES) or --client-id, or that address",
                status,
            )
        advice = {
            401: ". Give a token with --token-file FILE or the variable KFP_TOKEN (or --client-id for Google's proxy). "
            "If you gave one, it has expired or belongs to another server",
            403: ". You are logged in but not allowed to do this; check --namespace, or ask its owner or an "
            "administrator for access",
        }
        name = {401: "not authenticated", 403: "forbidden", 404: "not found", 409: "already exists"}
        return RefusedError(f"{host}: {name.get(status, 'refused')} ({status}): {text}{advice.get(status, '')}", status)

    def without_secrets(self, text: str) -> str:
        return redact(text, map(str, self._existing_config.api_key.values()))


def _server_message(error: ApiException) -> str:
    """The server's own error message, on one line."""
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        answer = json.loads(body)
        body = next(str(answer[key]) for key in ("message", "error_message", "error") if answer.get(key))
    except (ValueError, AttributeError, StopIteration):
        body = body or str(error.reason)
    return " ".join(body.split())


def list_all(call: Callable[..., Any], field: str, **query: Any) -> Iterator[Any]:
    """Everything that a list call returns, over all pages."""
    token = ""
    while True:
        answer = call(page_token=token, page_size=100, **query)
        yield from getattr(answer, field) or []
        token = answer.next_page_token or ""
        if not token:
            return


def list_named(call: Callable[..., Any], field: str, name: str, **query: Any) -> list[Any]:
    """The objects with this display name, oldest first."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    found = list_all(call, field, filter=json.dumps({"predicates": [predicate]}), sort_by="created_at asc", **query)
    # Databases compare names case-insensitively; two schedules may differ in nothing else.
    return [each for each in found if each.display_name == name]


def create_once(create: Callable[[], T], find: Callable[[], T | None], kind: str, failure: str) -> T:
    """Create one object and never two: if the answer is lost, look for the object before trying once more.

    Args:
        kind: of the object, for the messages.
        failure: what to say if it was not created.

    Raises:
        ServerError: the object was not created.
    """
    for last in (False, True):
        try:
            return create()
        except NoAnswerError as lost:
            say(f"connection lost while the {kind} was being created ({lost}); checking whether it exists")
            found = find()
            if found is not None:
                say("it exists")
                return found
            if last:
                raise ServerError(f"{failure}: {lost}") from None
            say("it does not exist; trying once more")
    raise AssertionError("unreachable")

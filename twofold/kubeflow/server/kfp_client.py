"""kfp.Client with an end to waiting, plain errors and no secrets in them.

In: settings of kfp.Client. Out: a kfp.Client whose every call answers, or raises a ServerError that says what to do.
"""

import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kfp
import urllib3
from kfp_server_api import ApiException

from twofold.core.errors import ServerError

# The first server that heeds `run_as_non_root` of a compiled pipeline (kfp-kubernetes 2.16.0 brought it): an older one
# drops it without a word and runs the pods as they are.
OLDEST = (2, 16)
TIMEOUT = (10, 60)  # seconds to connect, and between two bytes of an answer; kfp.Client itself waits for ever
SHORTEST = 8  # characters of a cookie that lets somebody in
PAUSES = (0.5, 2.0)  # seconds before a question (GET) is put again


class NoAnswerError(ServerError):
    """No answer came: whether what was asked has been done is not known."""


class TooOldError(ServerError):
    """The server would drop parts of what it is sent."""


class RefusedError(ServerError):
    """The server answered that it will not."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client(kfp.Client):  # type: ignore[misc]  # kfp has no types
    """kfp.Client with an end to waiting, plain errors, and nothing written into the home folder."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self.given_namespace = ""
        self.health: dict[str, Any] = {}
        with warnings.catch_warnings():
            # Says to everyone that servers of before 2.0 will not do; check_version says it to those who have one.
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(**settings)
        self._guard()

    @property
    def link(self) -> str:
        """Where a browser finds the UI."""
        return str(self._settings["ui_host"] or self._settings["host"]).rstrip("/")

    @property
    def multi_user(self) -> bool:
        return bool(self.health.get("multi_user"))

    def get_user_namespace(self) -> str:
        """As kfp.Client's, which takes the namespace `kubeflow` for none given, and then uses one of ~/.config/kfp."""
        return self.given_namespace if self.given_namespace and self.multi_user else str(super().get_user_namespace())

    def set_user_namespace(self, namespace: str) -> None:
        """For this client; kfp.Client would write it into ~/.config/kfp, for every server there is."""
        self._context_setting["namespace"] = namespace

    def get_kfp_healthz(self, sleep_duration: int = 5) -> Any:
        """As kfp.Client's, which would print five tracebacks in 25 seconds where the server refuses.

        Raises:
            ServerError: no answer, or none of the API that this client speaks.
        """
        self._guard()
        try:
            answer = self._healthz_api.healthz_service_get_healthz()
        except RefusedError as refusal:
            if refusal.status != 404:
                raise
            raise ServerError(
                f"{self._settings['host']}: no API v2beta1 here. Either this is not the address of Kubeflow Pipelines, "
                f"or its version ({self._first_version()}) is too old: {_needed()}"
            ) from None
        # kfp's model of the answer leaves out the version.
        self.health = json.loads(self._api.last_response.data)
        if self.health.get("apiServerReady") is False:
            # The UI's server is well by itself, and answers 200.
            raise NoAnswerError(
                f"{self._settings['host']}: Kubeflow's UI answers, but the API server behind it does not. Wait for its "
                "pods: kubectl get pods -l app=ml-pipeline"
            )
        return answer

    @property
    def version(self) -> str:
        """As the server says it, such as 2.17.0; "unknown" if it does not."""
        # The API server says tag_name; the UI's server, which may stand before it, words it in its own way.
        return str(self.health.get("tag_name") or self.health.get("apiServerTagName") or "unknown")

    def check_version(self) -> str:
        """A warning where the server is older than the SDK or does not say its version, else nothing.

        Raises:
            ServerError: the server is too old.
        """
        self.get_kfp_healthz()
        host = self._settings["host"]
        found = re.match(r"v?(\d+)\.(\d+)", self.version)
        if not found:
            return f"{host} does not say its version ({self.version!r}); {_needed()}"
        version = (int(found[1]), int(found[2]))
        if version < OLDEST:
            raise TooOldError(
                f"{host} is Kubeflow Pipelines {self.version}, too old: {_needed()}. An older server drops "
                "parts of the pipeline without a word, such as that its pods do not run as root"
            )
        if version < tuple(map(int, kfp.__version__.split(".")[:2])):
            return (
                f"{host} is Kubeflow Pipelines {self.version}, older than the SDK here ({kfp.__version__}): it may not "
                "know all that it is sent"
            )
        return ""

    @property
    def _api(self) -> Any:
        return self._healthz_api.api_client

    def _first_version(self) -> str:
        """What a server of the API before this one says of itself."""
        try:
            answer = self._api.call_api(
                "/apis/v1beta1/healthz",
                "GET",
                response_type="object",
                auth_settings=["Bearer"],
                _return_http_data_only=True,
            )
        except ServerError:
            return "unknown"
        return str(answer.get("tag_name", "unknown")) if isinstance(answer, dict) else "unknown"

    def _guard(self) -> None:
        """Let every call of this client pass through `_ask`: all of kfp's API objects share one ApiClient."""
        api = self._api
        if "request" in vars(api):
            return
        # A redirect leads to a login page, which answers 200 to everything; retries are `_ask`'s.
        api.rest_client.pool_manager.connection_pool_kw["retries"] = urllib3.Retry(0, raise_on_redirect=False)
        plain = api.request

        def request(method: str, url: str, **arguments: Any) -> Any:
            return self._ask(plain, method, url, arguments)

        api.request = request

    def _ask(self, plain: Any, method: str, url: str, arguments: dict[str, Any]) -> Any:
        arguments["_request_timeout"] = arguments.get("_request_timeout") or TIMEOUT
        for pause in PAUSES if method == "GET" else ():
            try:
                return self._once(plain, method, url, arguments)
            except NoAnswerError:
                time.sleep(pause)
        return self._once(plain, method, url, arguments)

    def _once(self, plain: Any, method: str, url: str, arguments: dict[str, Any]) -> Any:
        host = self._settings["host"]
        try:
            response = plain(method, url, **arguments)
        except ApiException as error:
            raise self._plain(error) from None
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, urllib3.exceptions.SSLError):
                words = f"{host}: its certificate is not accepted ({reason}); name its authority's with --ca-cert FILE"
                raise ServerError(self.redacted(words)) from None
            words = f"{host}: no answer ({type(reason).__name__}: {reason}). Is the address right, and the server up"
            raise NoAnswerError(self.redacted(words + " (or the port-forward)?")) from None
        kind = response.getheader("content-type") or ""
        if "json" not in kind:
            raise ServerError(
                f"{host} answered with {kind or 'something'} instead of JSON, which is what a login page does. Give a "
                "token (--token-file, KFP_TOKEN), a session's cookies (KFP_COOKIES) or --client-id; or the path of the "
                "API is missing in the address (often /pipeline)"
            )
        return response

    def _plain(self, error: ApiException) -> ServerError:
        host, status = self._settings["host"], int(error.status or 0)
        text = self.redacted(_words(error))  # before it is shortened: half a token is a token's half
        text = text if len(text) <= 400 else text[:400] + "…"
        if status in (502, 503, 504):
            return NoAnswerError(f"{host}: no answer from behind the proxy ({status}): {text}")
        if status in (301, 302, 303, 307, 308):
            to = self.redacted(str((error.headers or {}).get("Location", "elsewhere")))
            return RefusedError(
                f"{host} sends us on to {to} ({status}), which is where one logs in, or the server's right address. "
                "Give a token (--token-file, KFP_TOKEN), cookies (KFP_COOKIES) or --client-id, or that address",
                status,
            )
        advice = {
            401: "Give a token with --token-file FILE or the variable KFP_TOKEN (or --client-id for Google's "
            "proxy). If you gave one, it has run out, or it is for another server",
            403: "You are known there, but may not do this; is --namespace right? Its owner or an administrator can "
            "allow it",
        }
        name = {401: "not authenticated", 403: "forbidden", 404: "not found", 409: "there is one already"}
        words = f"{host}: {name.get(status, 'refused')} ({status}): {text}"
        return RefusedError(f"{words}. {advice[status]}" if status in advice else words, status)

    def redacted(self, text: str) -> str:
        """The text without anything that lets somebody in."""
        secrets = secrets_of(self._settings) | set(self._existing_config.api_key.values())
        return redact(text, {str(secret) for secret in secrets})


def _needed() -> str:
    return f"{'.'.join(map(str, OLDEST))} or newer is needed (the SDK here is {kfp.__version__})"


def secrets_of(settings: Mapping[str, Any]) -> set[str]:
    cookies = str(settings.get("cookies") or "")
    parts = {part.partition("=")[2].strip() for part in cookies.split(";")}
    # `lang=en` is no secret, and without every "en" no message can be read.
    long = {part for part in parts if len(part) >= SHORTEST}
    return {text for text in {cookies, str(settings.get("existing_token") or ""), *long} if text}


def redact(text: str, secrets: set[str]) -> str:
    for secret in sorted(secrets - {""}, key=len, reverse=True):
        text = text.replace(secret, "***")
    return re.sub(r"(?i)\b(bearer|basic)\s+[\w.~+/=*-]+", r"\1 ***", text)


def _words(error: ApiException) -> str:
    """The server's own words, on one line."""
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        answer = json.loads(body)
        body = next(str(answer[key]) for key in ("message", "error_message", "error") if answer.get(key))
    except (ValueError, AttributeError, StopIteration):
        body = body or str(error.reason)
    return " ".join(body.split())


def list_all(call: Callable[..., Any], field: str, **query: Any) -> Iterator[Any]:
    """Everything that a list call has, page by page."""
    token = ""
    while True:
        answer = call(page_token=token, page_size=100, **query)
        yield from getattr(answer, field) or []
        token = answer.next_page_token or ""
        if not token:
            return


def list_named(call: Callable[..., Any], field: str, name: str, **query: Any) -> list[Any]:
    """Those with this display name, oldest first."""
    predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name}
    found = list_all(call, field, filter=json.dumps({"predicates": [predicate]}), sort_by="created_at asc", **query)
    # Databases compare names without regard to case; two schedules may differ in nothing else.
    return [one for one in found if one.display_name == name]

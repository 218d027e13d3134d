"""A server that speaks the part of KFP's v2beta1 REST API that this project calls, over real HTTP on localhost.

    with KfpServer() as server:
        client = kfp.Client(host=server.host)

It keeps every call in `calls`, and does what a test tells it: `token`, `version`, `faults`, `script`.
"""

import json
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from tests.support.kfp_server.shape import Refused
from tests.support.kfp_server.specs import multipart
from tests.support.kfp_server.store import Resource, Store

ROOT = "/apis/v2beta1"
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}


@dataclass
class Fault:
    """What befalls the next `times` calls whose "METHOD /path" the pattern finds."""

    pattern: str
    status: int = 0  # answer this, do nothing
    lose: str = ""  # "before": the call is lost; "after": it is done, its answer is lost
    page: str = ""  # answer 200 with this HTML, as the login page of a proxy does
    location: str = ""  # with a status of 3xx
    wait: float = 0.0  # seconds before anything else
    message: str = "as the test asked"
    times: int = 1


class KfpServer(Store):
    """Starts when entered, stops when left; its attributes may be set at any time."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.version = "2.17.0"
        self.token = ""  # where set, what every call must bear
        self.v1_only = False  # a server of before v2beta1
        self.ready = True  # whether the UI's server, if that is what answers, finds the API server
        self.behind_ui = False  # called through the UI's server, which words healthz in its own way
        self.faults: list[Fault] = []
        self.calls: list[str] = []  # "METHOD /path", without the root, in order
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kfp": self}))
        self._http.daemon_threads = True
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.host = f"http{'s' if tls else ''}://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def changes(self) -> list[str]:
        """The calls that are no mere questions."""
        return [call for call in self.calls if not call.startswith("GET ")]

    def fault_of(self, call: str) -> Fault | None:
        for fault in self.faults:
            if re.search(fault.pattern, call):
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                return fault
        return None

    def healthz(self) -> Resource:
        plain: Resource = {"commit_sha": "0" * 40, "tag_name": self.version, "multi_user": self.multi_user}
        if self.behind_ui and not self.ready:
            return {"apiServerReady": False, "frontendTagName": self.version}
        if self.behind_ui:
            plain = {"apiServerReady": True, "apiServerTagName": self.version, "multi_user": self.multi_user}
        return {**plain, "pipeline_store": "database"}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Resource:
        """The resource asked for.

        Raises:
            Refused: no such call, no such resource, or a body that is not the API's.
        """
        identity = path.split("/")[2].partition(":")[0] if path.count("/") >= 2 else ""
        space, experiment = query.get("namespace"), query.get("experiment_id")
        if method == "GET" and path in ("/experiments", "/recurringruns", "/runs") and not experiment:
            self._namespace(space)
        table: dict[str, Callable[[], Resource]] = {
            r"GET /healthz": self.healthz,
            r"GET /pipelines": lambda: self.listed(self.pipelines, "pipelines", query, namespace=space),
            r"POST /pipelines": lambda: self.create_pipeline(body),
            r"POST /pipelines/upload": lambda: self.upload_pipeline(body, query),
            r"POST /pipelines/upload_version": lambda: self.upload_version(body, query),
            r"GET /pipelines/[^/]+": lambda: self._get(self.pipelines, identity, "Pipeline"),
            r"GET /pipelines/[^/]+/versions": lambda: self.listed(
                self.versions, "pipeline_versions", query, pipeline_id=identity
            ),
            r"GET /pipelines/[^/]+/versions/[^/]+": lambda: self._get(
                self.versions, path.rsplit("/", 1)[1], "PipelineVersion"
            ),
            r"GET /experiments": lambda: self.listed(self.experiments, "experiments", query, namespace=space),
            r"POST /experiments": lambda: self.create_experiment(body),
            r"GET /experiments/[^/:]+": lambda: self._get(self.experiments, identity, "Experiment"),
            r"GET /runs": lambda: self.listed(self.runs, "runs", query, experiment_id=experiment),
            r"POST /runs": lambda: self.create_run(body),
            r"GET /runs/[^/:]+": lambda: self.look(identity),
            r"GET /recurringruns": lambda: self.listed(
                self.recurring, "recurringRuns", query, namespace=space, experiment_id=experiment
            ),
            r"POST /recurringruns": lambda: self.create_recurring(body),
            r"GET /recurringruns/[^/:]+": lambda: self._get(self.recurring, identity, "RecurringRun"),
            r"DELETE /recurringruns/[^/:]+": lambda: self.delete(self.recurring, identity, "RecurringRun"),
            r"POST /recurringruns/[^/:]+:enable": lambda: self.switch(identity, True),
            r"POST /recurringruns/[^/:]+:disable": lambda: self.switch(identity, False),
        }
        if self.v1_only:
            table = {"GET /apis/v1beta1/healthz": self.healthz}
        for pattern, action in table.items():
            if re.fullmatch(pattern, f"{method} {path}"):
                return action()
        raise Refused(404, "Not Found")


class _Handler(BaseHTTPRequestHandler):
    kfp: KfpServer
    protocol_version = "HTTP/1.1"
    # One packet an answer: of two, the second would wait 40 ms for the first one's receipt.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        path, kfp = address.path.removeprefix(ROOT), self.kfp
        call = f"{self.command} {path}"
        with kfp.lock:
            kfp.calls.append(call)
            kfp.headers.append({key.lower(): value for key, value in self.headers.items()})
            fault = kfp.fault_of(call)
        if fault is not None:
            time.sleep(fault.wait)
            if fault.lose == "before":
                self.close_connection = True
                return
            if fault.page:
                self._send(200, fault.page.encode(), "text/html")
                return
            if fault.status:
                self._refuse(path, fault.status, fault.message, fault.location)
                return
        bearer = self.headers.get("Authorization", "")
        if kfp.token and bearer != f"Bearer {kfp.token}":
            # As some proxies do: the credentials that did not do come back in the answer.
            self._refuse(path, 401, f"Request header error: not authenticated with {bearer!r}")
            return
        try:
            body: Any = raw
            if not path.startswith("/pipelines/upload"):
                body = json.loads(raw) if raw else None
            else:
                body = multipart(raw, self.headers.get("Content-Type", ""), "uploadfile")
            with kfp.lock:
                kfp.bodies.append(body)
                answer = kfp.answer(self.command, path, dict(parse_qsl(address.query)), body)
                text = json.dumps(answer).encode()
        except Refused as refused:
            self._refuse(path, refused.status, refused.message)
            return
        if fault is not None and fault.lose == "after":
            self.close_connection = True
            return
        self._send(200, text, "application/json")

    def _refuse(self, path: str, status: int, message: str, location: str = "") -> None:
        if path.startswith("/pipelines/upload"):
            content = {"error_message": message, "error_details": f"{message}\ngithub.com/kubeflow/pipelines"}
        else:
            content = {"error": message, "code": CODES.get(status, 2), "message": message}  # type: ignore[dict-item]
        self._send(status, json.dumps(content).encode(), "application/json", location)

    def _send(self, status: int, text: bytes, kind: str, location: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        if location:
            self.send_header("Location", location)
        try:
            self.end_headers()
            self.wfile.write(text)
        except ConnectionError:
            self.close_connection = True  # the client has given up waiting

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet: a test looks at what the commands print."""

"""A stand-in for a KFP server: the part of its v2beta1 REST API that this project calls, over HTTP on localhost.

    with KfpServer() as server:
        client = kfp.Client(host=server.host)

It records every call in `calls`. Tests set `token`, `version`, `faults`, `script` and `logs`.
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
from urllib.parse import parse_qs, parse_qsl, urlsplit

from tests.support.kfp_server.shape import Refused
from tests.support.kfp_server.specs import multipart
from tests.support.kfp_server.store import Resource, Store

ROOT = "/apis/v2beta1"
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}


@dataclass
class Fault:
    """What happens to the next `times` calls whose "METHOD /path" matches the pattern."""

    pattern: str
    status: int = 0  # answer this, do nothing
    lose: str = ""  # "before": the call is lost; "after": it is carried out, but its answer is lost
    page: str = ""  # answer 200 with this HTML, like a proxy's login page
    location: str = ""  # for a status of 3xx
    wait: float = 0.0  # seconds before anything else
    message: str = "as the test asked"
    times: int = 1


class KfpServer(Store):
    """Starts when entered, stops when left; its attributes may be set at any time."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.token = ""  # if set, required in every call
        self.v1_only = False  # a server without v2beta1
        self.ready = True  # whether the UI's server, if called, finds the API server
        self.behind_ui = False  # called through the UI's server, which words healthz differently
        self.faults: list[Fault] = []
        self.logs: dict[str, str] = {}  # by pod
        self.calls: list[str] = []  # "METHOD /path", without the root, in order
        self.headers: list[dict[str, str]] = []
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
        """The calls that may change something."""
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
        answer: Resource = {"commit_sha": "0" * 40, "tag_name": self.version, "multi_user": self.multi_user}
        if self.behind_ui and not self.ready:
            return {"apiServerReady": False, "frontendTagName": self.version}
        if self.behind_ui:
            answer = {"apiServerReady": True, "apiServerTagName": self.version, "multi_user": self.multi_user}
        return {**answer, "pipeline_store": "database"}

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Resource:
        """The answer to a call.

        Raises:
            Refused: no such call, no such resource, or a body that does not fit the API.
        """
        identity = path.split("/")[2].partition(":")[0] if path.count("/") >= 2 else ""
        space, experiment = query.get("namespace"), query.get("experiment_id")
        if method == "GET" and path in ("/experiments", "/recurringruns", "/runs") and not experiment:
            self._namespace(space)
        both = {"namespace": space, "experiment_id": experiment}
        table: dict[str, Callable[[], Resource]] = {
            "GET /healthz": self.healthz,
            "GET /pipelines": lambda: self.listed(self.pipelines, "pipelines", query, namespace=space),
            "POST /pipelines": lambda: self.create_pipeline(body),
            "POST /pipelines/upload_version": lambda: self.upload_version(body, query),
            "GET /pipelines/ID/versions": lambda: self.listed(
                self.versions, "pipeline_versions", query, pipeline_id=identity
            ),
            "GET /experiments": lambda: self.listed(self.experiments, "experiments", query, namespace=space),
            "POST /experiments": lambda: self.create_experiment(body),
            "GET /runs": lambda: self.listed(self.runs, "runs", query, experiment_id=experiment),
            "POST /runs": lambda: self.create_run(body),
            "GET /runs/ID": lambda: self.show_run(identity),
            "GET /apis/v1beta1/runs/ID": lambda: self.show_workflow(path.rpartition("/")[2]),
            "POST /runs/ID:terminate": lambda: self.terminate_run(identity),
            "GET /recurringruns": lambda: self.listed(self.recurring, "recurringRuns", query, **both),
            "POST /recurringruns": lambda: self.create_recurring(body),
            "DELETE /recurringruns/ID": lambda: self.delete(self.recurring, identity),
            "POST /recurringruns/ID:enable": lambda: self.switch(identity, True),
            "POST /recurringruns/ID:disable": lambda: self.switch(identity, False),
        }
        if self.v1_only:
            table = {"GET /apis/v1beta1/healthz": self.healthz}
        for pattern, action in table.items():
            if re.fullmatch(pattern.replace("ID", "[^/:]+"), f"{method} {path}"):
                return action()
        raise Refused(404, "Not Found")

    def requested_pod(self, address: str) -> str | None:
        """The pod in a request for its log, "" if this server does not serve it; None for any other request."""
        url = urlsplit(address)
        if found := re.fullmatch(r"/apis/v1alpha1/runs/[^/]+/nodes/([^/]+)/log", url.path):
            return "" if self.behind_ui else found[1]
        if url.path == "/k8s/pod/logs":
            return parse_qs(url.query).get("podname", [""])[0] if self.behind_ui else ""
        return None


class _Handler(BaseHTTPRequestHandler):
    kfp: KfpServer
    protocol_version = "HTTP/1.1"
    # Send each answer as one packet: the second of two would wait 40 ms for the acknowledgement of the first.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
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
            # Like some proxies, repeat the wrong credentials in the answer.
            self._refuse(path, 401, f"Request header error: not authenticated with {bearer!r}")
            return
        pod = kfp.requested_pod(self.path)
        if pod == "":
            self._send(404, b"404 page not found\n", "text/plain")
            return
        if pod is not None:
            error = (500, b'{"error_message": "failed to read the log"}', "application/json")
            self._send(*((200, kfp.logs[pod].encode(), "text/plain") if pod in kfp.logs else error))
            return
        try:
            body: Any = raw
            if not path.startswith("/pipelines/upload"):
                body = json.loads(raw) if raw else None
            else:
                body = multipart(raw, self.headers.get("Content-Type", ""), "uploadfile")
            with kfp.lock:
                text = json.dumps(kfp.answer(self.command, path, dict(parse_qsl(address.query)), body)).encode()
        except Refused as refused:
            self._refuse(path, refused.status, refused.message)
            return
        if fault is not None and fault.lose == "after":
            self.close_connection = True
            return
        self._send(200, text, "application/json")

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _refuse(self, path: str, status: int, message: str, location: str = "") -> None:
        content: Resource = {"error": message, "code": CODES.get(status, 2), "message": message}
        if path.startswith("/pipelines/upload"):
            content = {"error_message": message, "error_details": f"{message}\ngithub.com/kubeflow/pipelines"}
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
        """Print nothing: tests check what the commands print."""

"""A minimal read-only stand-in for a Kubernetes API over HTTP: what `doctor` calls.

Takes objects, which are checked against Kubernetes' own schema, and what the user may not read; answers and refuses
like the API (`Status`). Also writes a kubeconfig that points to it.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

SCHEMA = "1.33"
TOKEN = "token-of-the-cluster"
PLURALS = {"Node": "nodes", "Namespace": "namespaces", "Secret": "secrets", "Pod": "pods"}
PLURALS |= {"PersistentVolumeClaim": "persistentvolumeclaims", "ConfigMap": "configmaps"}
CLUSTER_SCOPED = ("Node", "Namespace")


class Kube:
    """The cluster's objects by (plural, namespace, name), its logs by pod, and what is forbidden."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.logs: dict[str, str] = {}
        self.forbidden: set[str] = set()  # plurals that the user may not read; "pods/log" too
        self.host = ""

    def add(self, thing: dict[str, Any]) -> None:
        """Add an object that Kubernetes would accept."""
        kubernetes_validate.validate(thing, SCHEMA, strict=True)
        meta = thing["metadata"]
        namespace = "" if thing["kind"] in CLUSTER_SCOPED else meta["namespace"]
        self.objects[PLURALS[thing["kind"]], namespace, meta["name"]] = thing

    def remove(self, kind: str, name: str) -> None:
        self.objects = {key: thing for key, thing in self.objects.items() if key[0] != PLURALS[kind] or key[2] != name}

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, dict[str, Any] | str]:
        """HTTP status and body of a GET."""
        words = path.strip("/").split("/")
        if words[:2] != ["api", "v1"]:
            return self.status(404, "the server could not find the requested resource")
        words, namespace = words[2:], ""
        if words[0] == "namespaces" and len(words) > 2:
            namespace, words = words[1], words[2:]
        plural, name, rest = words[0], words[1] if len(words) > 1 else "", words[2:]
        resource = "/".join([plural, *rest])
        if resource in self.forbidden:
            return self.status(403, f'{resource} is forbidden: User "someone" cannot get resource "{resource}"')
        if not name:
            return 200, self.listed(plural, namespace, query)
        if (plural, namespace, name) not in self.objects:
            return self.status(404, f'{plural} "{name}" not found')
        if rest == ["log"]:
            return 200, self.logs.get(name, "")
        return 200, self.objects[plural, namespace, name]

    def listed(self, plural: str, namespace: str, query: dict[str, list[str]]) -> dict[str, Any]:
        selector = dict(pair.split("=") for selector in query.get("labelSelector", []) for pair in selector.split(","))
        items = [
            thing
            for (own, place, _), thing in sorted(self.objects.items())
            if own == plural and place == namespace
            if selector.items() <= thing["metadata"].get("labels", {}).items()
        ]
        kind = next(kind for kind, name in PLURALS.items() if name == plural)
        return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}

    @staticmethod
    def status(code: int, message: str) -> tuple[int, dict[str, Any]]:
        reason = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound"}[code]
        body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        return code, body | {"message": message, "reason": reason, "code": code}


@contextmanager
def serve(kube: Kube) -> Iterator[str]:
    """Serve the API; yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                code, body = kube.status(401, "Unauthorized")
            else:
                code, body = kube.answer(parts.path, parse_qs(parts.query))
            data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        kube.host = f"http://127.0.0.1:{server.server_port}"
        yield kube.host
        server.shutdown()


def kubeconfig(path: Path, host: str, token: str = TOKEN) -> Path:
    """Write a kubeconfig with one context, `here`, for that address."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": host}}],
        "users": [{"name": "someone", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "someone"}}],
    }
    path.write_text(json.dumps(config))
    return path

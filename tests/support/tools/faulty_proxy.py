"""A proxy in front of an S3 or MLflow server that injects faults of networks and servers."""

import http.client
import http.server
import re
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit


class Proxy(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the server; `server.fault` may change or drop the answers."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def pass_on(self):
        self.server.calls += 1
        sent = self.read_body()
        address = urlsplit(self.server.behind)
        onward = http.client.HTTPConnection(address.hostname, address.port)
        # Keep the Host header: the signature covers it.
        onward.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() != "transfer-encoding":
                onward.putheader(name, value)
        if "Transfer-Encoding" in self.headers:
            onward.putheader("Content-Length", len(sent))
        onward.endheaders(sent)
        answer = onward.getresponse()
        headers = {k.lower(): v for k, v in answer.getheaders() if k.lower() not in ("connection", "transfer-encoding")}
        status, body = answer.status, answer.read()
        onward.close()
        if self.server.fault is not None:
            changed = self.server.fault(self, "list-type=2" in self.path, status, headers, body)
            if changed is None:
                self.close_connection = True
                return
            status, headers, body = changed
        headers = {"content-length": str(len(body))} | headers
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        if int(headers["content-length"]) != len(body):
            self.close_connection = True

    def read_body(self):
        if "Transfer-Encoding" not in self.headers:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True


for method in ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"):
    setattr(Proxy, f"do_{method}", Proxy.pass_on)


@contextmanager
def between(behind, fault, monkeypatch, variable="AWS_ENDPOINT_URL"):
    """Run a proxy with a fault, and put its address into an environment variable."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    server.daemon_threads = True
    server.behind, server.fault, server.calls = behind, fault, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(variable, f"http://127.0.0.1:{server.server_port}")
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


XML = {"content-type": "application/xml"}
ERROR = "<Error><Code>{}</Code><Message>no</Message></Error>"


class Faults:
    """A fault of some kind in the first `times` requests that it applies to."""

    def __init__(self, kind, times=2):
        self.kind, self.left, self.last = kind, times, None

    def applies(self, listing):
        if listing != self.kind.startswith("list") or self.left == 0:
            return False
        self.left -= 1
        return True

    def __call__(self, handler, listing, status, headers, body):
        last, self.last = self.last, body
        if self.kind == "list page again":
            # Answer a later page with the one before it.
            if not listing or b"continuation-token=" not in handler.path.encode() or self.left == 0 or last is None:
                return status, headers, body
            self.left -= 1
            return status, XML, last
        if not self.applies(listing):
            return status, headers, body
        kind = self.kind.removeprefix("list ")
        if kind.isdigit() or kind in ("SlowDown", "InternalError", "ExpiredToken"):
            codes = {"SlowDown": 503, "InternalError": 500, "ExpiredToken": 400, "403": 403, "404": 404}
            names = {"403": "AccessDenied", "404": "NoSuchKey"}
            return codes[kind], XML, ERROR.format(names.get(kind, kind)).encode()
        if kind == "stall":
            time.sleep(4)
            return None
        if kind == "reset":
            head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % max(len(body), 2)
            handler.wfile.write(head + body[: len(body) // 2])
            return None
        if kind == "short":
            return status, headers | {"content-length": str(len(body) // 2)}, body[: len(body) // 2]
        if kind == "flip":
            return status, headers, bytes([body[0] ^ 1]) + body[1:] if body else body
        if kind == "lost page":
            # The page comes without its contents.
            empty = re.sub(rb"<Contents>.*?</Contents>", b"", body, flags=re.DOTALL)
            return status, XML, re.sub(rb"<KeyCount>\d+</KeyCount>", b"<KeyCount>0</KeyCount>", empty)
        if kind == "drop":
            return status, XML, re.sub(rb"<Contents>.*?</Contents>", b"", body, count=1)
        if kind.startswith("repeat"):
            if kind.endswith("uncounted"):
                body = re.sub(rb"<KeyCount>.*?</KeyCount>", b"", body)
            again = re.search(rb"<Contents>.*?</Contents>", body, re.DOTALL).group()
            return status, XML, body.replace(again, again + again, 1)
        raise AssertionError(kind)

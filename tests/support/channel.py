"""A webhook that records the messages that it receives: an HTTP server on a free port of this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = "T0P/S3CR3T"


class Channel:
    """The address, the status that it answers with, and the texts that it received."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}/services/{SECRET}"
        self.answer = 200
        self.texts: list[str] = []


@contextmanager
def channel() -> Iterator[Channel]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path.endswith(SECRET)
            if made.answer == 200:
                made.texts.append(json.loads(body)["text"])
            self.send_response(made.answer)
            if made.answer == 302:
                self.send_header("Location", "/login")
            self.end_headers()

        def do_GET(self) -> None:  # the login page
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Channel(server.server_address[1])
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

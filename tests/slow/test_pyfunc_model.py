"""MLflow's server with pickles forbidden: predictions of a registered model, refused and parallel requests."""

import base64
import json
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.support import registered_case
from tests.support import registration_case as case
from tests.support.makers import bomb, encode
from tests.support.tools.servers import answers, free_port, running
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.pyfunc_model import MOST
from twofold.serving.sealed_model import open_sealed
from twofold.tracking import store as tracking
from twofold.tracking.registry_client import SEAL, version_by_alias

pytestmark = pytest.mark.slow
COUNT = 256
JSON = "application/json"


class Server(NamedTuple):
    """A running server, and the sealed model whose predictions it should give."""

    address: str
    sealed: object

    def post(self, body, kind=JSON):
        """Return the status and the answer as text."""
        headers = {"Content-Type": kind} if kind else {}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/invocations", data, headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def rows(self, files):
        status, text = self.post(split(files))
        assert status == 200, text
        return json.loads(text)["predictions"]


def table(rows, *columns):
    return {"dataframe_split": {"columns": columns or ["image"], "data": rows}}


def split(files, column="image"):
    return table([[text(data)] for data in files], column)


def text(data):
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory, empty_store):
    root = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, root / 'mlflow.db')}")
        assert case.run(registered_case.make(root / "made", patch), root, registered_case.ANY)["version"] == 1
        store = tracking.connect()
        version = version_by_alias(store, "corner")
        sealed = open_sealed(fetch_sealed(store, version, root), version.tags[SEAL])
        port = free_port()
        command = ["-m", "models:/corner@champion", "--env-manager", "local", "--port", str(port)]
        # MLflow runs uvicorn by its name.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PATH": path}
        words = [sys.executable, "-m", "mlflow", "models", "serve", *command]
        address = f"http://127.0.0.1:{port}"
        with running(words, root, lambda: answers(f"{address}/ping"), environment):
            yield Server(address, sealed)


@pytest.fixture(scope="module")
def files():
    return [*registered_case.images(COUNT - 16), *map(case.image, range(0, 256, 16))]


def test_served_and_offline_answers_agree_on_256_images(server, files):
    sealed = server.sealed
    expected = sealed.score(sealed.pixels(data) for data in files)
    assert len(np.unique(expected.round(6))) > COUNT / 2
    rows = server.rows(files)
    found = np.array([row["probability"] for row in rows])
    print(f"largest difference on {COUNT} images: {np.abs(found - expected).max():.3g}")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert [row["label"] for row in rows] == [sealed.labels[int(p >= sealed.threshold)] for p in expected]
    assert {row["label"] for row in rows} == {"good", "bad"}
    assert {(row["threshold"], row["version"]) for row in rows} == {(sealed.threshold, "corner/1")}


GOOD = encode(np.full((32, 32), 200, np.uint8))
REFUSED = {
    "not an image": (split([GOOD, b"GIF89a and no more"]), "row 1: not an image of an accepted format"),
    "cut short": (split([GOOD[:-30]]), "row 0: damaged or cut short"),
    "too large a file": (split([GOOD + bytes(1 << 20)]), "row 0: 1048.* bytes, allowed are at most 1048576"),
    "too large a picture": (split([encode(np.zeros((1100, 1000), np.uint8))]), "row 0: 1000x1100 are 1100000 pixels"),
    "too small": (split([encode(np.zeros((4, 4), np.uint8))]), "row 0: 4x4"),
    "a bomb": (split([bomb()]), "row 0: .*pixels"),
    "an empty file": (split([b""]), "row 0: the file is empty"),
    "no images": (split([]), "found 0 images"),
    "nothing": (b"", "valid JSON"),
    "an empty object": ({}, "must be a JSON dictionary"),
    "no JSON": (b"{", "valid JSON"),
    "another column": (split([GOOD], "picture"), r"missing inputs \['image'\]"),
    "two columns": (table([[text(GOOD), text(GOOD)], ["", ""]], "image", "other"), "row 1: the file is empty"),
    "a number": (table([[0.5]]), "Failed to convert column image"),
    "null": (table([[None]]), "Failed to convert column image"),
    "a list": (table([[[1, 2]]]), "Failed to convert column image"),
    "not base64": (table([["%%%"]]), "row 0: the file is empty"),
    "rows of two lengths": (table([[text(GOOD), "x"]]), "1 columns passed"),
    "1,000 at once": (split([GOOD] * 1000), f"found 1000 images in one request, allowed are 1 to {MOST}"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_bad_input_is_a_client_error_and_the_server_keeps_running(server, kind):
    body, reason = REFUSED[kind]
    status, answer = server.post(body)
    assert 400 <= status < 500, answer
    assert re.search(reason, answer), answer
    assert len(server.rows([GOOD])) == 1


def test_another_content_type_is_refused(server):
    status, answer = server.post(GOOD, "image/png")
    assert (status, "only supports the following content types" in answer) == (415, True)


def test_parallel_callers_get_the_predictions_of_their_own_images(server, files):
    sealed = server.sealed
    expected = sealed.score(sealed.pixels(data) for data in files[:48])
    bad = split([b"GIF89a"])
    with ThreadPoolExecutor(12) as pool:
        single = [pool.submit(server.rows, [data]) for data in files[:48]]
        refused = [pool.submit(server.post, bad) for _ in range(12)]
        found = [answer.result()[0]["probability"] for answer in single]
        assert {answer.result()[0] for answer in refused} == {400}
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)

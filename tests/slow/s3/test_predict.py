"""`twofold predict` on a bucket: a prefix, a pattern, one object; bad objects are rows, a bad server is an error."""

import json

import pytest

from tests.support import sealed_case
from tests.support.registered_case import images
from twofold.cli import main
from twofold.serving.sealed_model import open_sealed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return sealed_case.make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def bucket(store):
    """40 images and one invalid file in two folders below `parts/`, and another folder beside them."""
    store.create_bucket(Bucket="predicted")
    for number, data in enumerate(images(40)):
        place = "a" if number < 20 else "b"
        store.put_object(Bucket="predicted", Key=f"parts/{place}/{number:03d}.png", Body=data)
    store.put_object(Bucket="predicted", Key="parts/b/bad.png", Body=b"GIF89a")
    for name in ("x.png", "x.jfif", "x"):
        store.put_object(Bucket="predicted", Key=f"parts-old/{name}", Body=images(1)[0])
    return "s3://predicted"


def call(model, capsys, *words):
    with pytest.raises(SystemExit) as caught:
        main.main(["predict", str(model), *words])
    output = capsys.readouterr()
    return caught.value.code, [json.loads(line) for line in output.out.splitlines()], output.err


def test_a_prefix_gives_the_same_predictions_as_a_folder(model, bucket, capsys):
    sealed = open_sealed(model)
    expected = sealed.score(sealed.pixels(data) for data in images(40))
    status, rows, _ = call(model, capsys, f"{bucket}/parts")
    assert status == 4
    assert [row["path"] for row in rows if row["error"]] == [f"{bucket}/parts/b/bad.png"]
    assert [row["path"] for row in rows][:2] == [f"{bucket}/parts/a/000.png", f"{bucket}/parts/a/001.png"]
    found = [row["probability"] for row in rows if not row["error"]]
    assert found == pytest.approx(expected.tolist(), abs=1e-6)


def test_a_pattern_and_one_object(model, bucket, capsys):
    status, rows, _ = call(model, capsys, f"{bucket}/parts/*/00?.png", f"{bucket}/parts/b/021.png")
    assert status == 0
    names = [f"{bucket}/parts/a/00{number}.png" for number in range(10)]
    assert [row["path"] for row in rows] == [*names, f"{bucket}/parts/b/021.png"]


@pytest.mark.parametrize("name", ["x.png", "x.jfif", "x"])
def test_one_object_of_any_name(model, bucket, capsys, name):
    status, rows, _ = call(model, capsys, f"{bucket}/parts-old/{name}")
    assert (status, [row["path"] for row in rows]) == (0, [f"{bucket}/parts-old/{name}"])


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("s3://predicted/none", "no image found"),
        ("s3://predicted/parts/*.jpg", "no image found"),
        ("s3://predicted/parts/a/999.png", "no image found"),
        ("s3://no-such-bucket/parts", "no such bucket"),
    ],
)
def test_what_is_not_there_is_an_error(model, bucket, capsys, place, reason):
    status, rows, error = call(model, capsys, place)
    assert (status, rows) == (1, [])
    assert reason in error

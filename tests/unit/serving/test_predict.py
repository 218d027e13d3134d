"""`twofold predict`: one row per file, in order; the model from a folder or from the registry."""

import csv
import io
import json
import re

import pytest

from tests.support import sealed_case
from tests.support.makers import bomb
from tests.support.registered_case import images
from twofold.cli import main
from twofold.core.errors import DataError, RegistryError
from twofold.serving import predict
from twofold.serving.image_loader import TASK_FILES, ImageFile, load_images
from twofold.serving.sealed_model import open_sealed

FIELDS = ["path", "label", "probability", "threshold", "version", "error"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return sealed_case.make(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def expected(model):
    """The probabilities of the 40 images."""
    sealed = open_sealed(model)
    return sealed.score(sealed.pixels(data) for data in images(40)).tolist()


@pytest.fixture
def folder(tmp_path):
    """40 images in two folders, without labels, and a file of a system."""
    for number, data in enumerate(images(40)):
        path = tmp_path / "parts" / ("a" if number < 20 else "b") / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tmp_path / "parts" / "Thumbs.db").write_text("no picture")
    return tmp_path / "parts"


@pytest.fixture
def call(capsys, model):
    """Runs the command; returns (exit status, rows, stderr)."""

    def run(*words, model=model):
        with pytest.raises(SystemExit) as caught:
            main.main(["predict", str(model), *map(str, words)])
        out, err = capsys.readouterr()
        return caught.value.code, out if "--csv" in words else [json.loads(line) for line in out.splitlines()], err

    return run


def test_every_image_below_a_folder_has_a_row_in_order(call, folder, model, expected):
    status, rows, err = call(folder)
    sealed = open_sealed(model)
    assert status == 0
    assert [list(row) for row in rows] == [FIELDS] * 40
    paths = [f"{folder}/{'a' if number < 20 else 'b'}/{number:03d}.png" for number in range(40)]
    assert [row["path"] for row in rows] == paths
    assert [row["probability"] for row in rows] == pytest.approx(expected, abs=1e-6)
    assert [row["label"] for row in rows] == ["bad" if each >= sealed.threshold else "good" for each in expected]
    assert {row["label"] for row in rows} == {"good", "bad"}
    same = (sealed.threshold, f"sealed/{sealed.digest[:12]}", None)
    assert {(row["threshold"], row["version"], row["error"]) for row in rows} == {same}
    assert "left aside 1 files" in err
    assert "40 files, 0 of them without a prediction" in err


def test_a_csv_has_the_same_rows(call, folder):
    _, rows, _ = call(folder / "a")
    status, text, _ = call(folder / "a", "--csv")
    read = list(csv.reader(io.StringIO(text)))
    assert status == 0
    assert read[0] == FIELDS
    assert [[row[0], row[1], float(row[2]), float(row[3]), row[4], row[5] or None] for row in read[1:]] == [
        [row[name] for name in FIELDS] for row in rows
    ]


@pytest.mark.parametrize("name", ["=1+1.png", "@a.png"])
def test_the_name_of_a_file_is_no_formula_in_the_csv(call, folder, monkeypatch, name):
    monkeypatch.chdir(folder)
    (folder / name).write_bytes(images(1)[0])
    _, text, _ = call("--csv", "--", name)
    assert [row["path"] for row in csv.DictReader(io.StringIO(text))] == [f"'{name}"]
    _, rows, _ = call("--", name)
    assert [row["path"] for row in rows] == [name], "JSON lines are for programs"


BAD = {
    "b/cut.png": (images(1)[0][:-30], "cut short|damaged"),
    "b/empty.jpg": (b"", "the file is empty"),
    "b/bomb.png": (bomb(), "pixels"),
    "b/page.tif": (b"<html>", "not an image of an accepted format"),
    "b/photo.heic": (b"\0\0\0\x18ftypheic", "found a file of the family of heic"),
    "b/notes.txt": (b"a note", "not an image of an accepted format"),
    "b/no extension": (b"a note", "not an image of an accepted format"),
    "README.md": (b"# Photos", "not an image of an accepted format"),
    "b/large.png": (b"\x89PNG" + bytes(1 << 20), "bytes, allowed are at most 1048576"),
}


def test_bad_files_are_counted_and_get_rows_with_an_error(call, folder):
    _, before, _ = call(folder)
    for name, (data, _) in BAD.items():
        (folder / name).write_bytes(data)
    (folder / "b" / "leaves.png").symlink_to("/etc/hostname")
    status, rows, err = call(folder)
    assert status == 4
    assert f"{41 + len(BAD)} files, {len(BAD) + 1} of them without a prediction" in err
    bad = {row["path"].removeprefix(f"{folder}/"): row for row in rows if row["error"]}
    assert set(bad) == {*BAD, "b/leaves.png"}
    assert {row["label"] for row in bad.values()} == {row["probability"] for row in bad.values()} == {None}
    for name, (_, reason) in BAD.items():
        assert re.search(reason, bad[name]["error"]), bad[name]
    good = [row for row in rows if not row["error"]]
    assert [row["path"] for row in good] == [row["path"] for row in before]
    assert [row["probability"] for row in good] == pytest.approx([row["probability"] for row in before], abs=1e-6)


def test_files_globs_and_folders_in_the_order_given(call, folder, monkeypatch):
    monkeypatch.chdir(folder)
    _, rows, _ = call("b/021.png", "a/00[0-2].png", "b")
    assert [row["path"] for row in rows][:5] == ["b/021.png", "a/000.png", "a/001.png", "a/002.png", "b/020.png"]
    assert len(rows) == 24
    _, rows, _ = call("**/*9.png")
    assert [row["path"] for row in rows] == ["a/009.png", "a/019.png", "b/029.png", "b/039.png"]


@pytest.mark.parametrize("name", ["c/a.jfif", "c/a.JPE", "c/a", "c/a.png.1", "c/notes.txt"])
def test_a_file_of_any_name_has_a_row(call, folder, expected, monkeypatch, name):
    (folder / "c").mkdir()
    (folder / name).write_bytes(images(1)[0])
    monkeypatch.chdir(folder)
    for path in ("c", "c/a*" if "/a" in name else "c/*", "c/**"):
        status, rows, _ = call(path)
        assert (status, [row["path"] for row in rows]) == (0, [name])
        assert rows[0]["probability"] == pytest.approx(expected[0], abs=1e-6)


def test_a_named_file_may_have_any_name_or_be_a_link(call, folder, expected):
    (folder / "odd name").write_bytes(images(1)[0])
    (folder.parent / "link").symlink_to(folder / "odd name")
    status, rows, _ = call(folder / "odd name", folder.parent / "link")
    assert status == 0
    assert [row["probability"] for row in rows] == pytest.approx([expected[0]] * 2, abs=1e-6)


def test_names_that_cannot_be_printed_are_escaped(call, folder):
    (folder / "a\nb.png").write_bytes(images(1)[0])
    status, rows, _ = call(folder / "a\nb.png")
    assert (status, rows[0]["path"]) == (0, f"{folder}/a\\nb.png")


def test_an_output_file_has_the_same_rows(call, folder):
    status, rows, _ = call(folder, "--to", folder.parent / "rows.jsonl")
    assert (status, rows) == (0, [])
    _, rows, _ = call(folder)
    assert [json.loads(line) for line in (folder.parent / "rows.jsonl").read_text().splitlines()] == rows


def test_an_interrupted_output_leaves_the_old_file(folder, model, monkeypatch):
    to = folder.parent / "rows.jsonl"
    to.write_text("old")
    real = predict.predict_files

    def breaking(resolved, files):
        for number, answer in enumerate(real(resolved, files)):
            if number == 30:
                raise DataError("the source is gone")
            yield answer

    monkeypatch.setattr(predict, "predict_files", breaking)
    with pytest.raises(DataError, match="is gone"):
        predict.predict(str(model), [str(folder)], name=str, to=to, as_csv=False)
    assert to.read_text() == "old"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["parts", "rows.jsonl"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("nothing", "nothing: no such file or folder"),
        ("nothing/*.png", "no image found"),
        ("parts/*.txt", "no image found"),
        ("parts/*.db", "no image found"),
        ("http://host/a.png", "an address of kind http"),
        ("s3://a", "found 's3://a'; must be s3://bucket"),
    ],
)
def test_a_path_without_an_image_is_an_error_before_the_model_is_resolved(call, folder, monkeypatch, path, reason):
    monkeypatch.chdir(folder.parent)
    status, rows, err = call("parts/a", path, model="no model")
    assert (status, rows) == (1, [])
    assert reason in err
    assert "ingest.source" not in err


def test_an_output_that_cannot_be_written_is_an_error(call, folder):
    assert "there is no folder" in call(folder, "--to", folder / "no" / "rows")[2]
    assert "is a folder" in call(folder, "--to", folder)[2]


@pytest.mark.parametrize("model", ["no model", "no/model", "models:/a/b", "models:/a@", "1.5"])
def test_an_unknown_form_of_model_is_refused(folder, model):
    with pytest.raises(RegistryError, match="allowed are an alias"):
        predict.predict(model, [str(folder)], name=str, to=None, as_csv=False)


def test_an_altered_model_is_refused(call, folder, tmp_path):
    made = sealed_case.make(tmp_path / "own")
    (made / "decision.json").write_text((made / "decision.json").read_text().replace("0.", "0.1", 1))
    status, _, err = call(folder, model=made)
    assert status == 1
    assert "decision.json: altered" in err


def test_memory_does_not_grow_with_the_number_of_files(folder, model):
    """Files are read as rows are requested; only the workers' next tasks are open."""
    requested = []

    def files():
        source = predict.list_unlabelled(str(folder)).source
        for number in range(4000):
            requested.append(number)
            yield ImageFile("x", source, f"a/{number % 20:03d}.png")

    stream = load_images(files(), open_sealed(model).preprocessing)
    for _ in range(3):
        next(stream)
    stream.close()
    assert len(requested) <= (3 + 2 * 2 + 2) * TASK_FILES + 1

"""Slices: their columns, their bands and their metrics."""

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.support.makers import encode, make_prepared, make_raw, write_labels
from twofold.data.prepared import PreparedDataset
from twofold.data.prepared_writer import image_sources
from twofold.data.raw import ImageRecord
from twofold.evaluation.slice_names import in_order
from twofold.evaluation.slices import MOST_SOURCES, slice_columns, slice_metrics, tercile_edges

TARGET = [1, 1, 0, 1, 0, 1, 0, 0]
PROBABILITY = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (range(1, 10), [3, 6]),  # thirds of nine
        ([300, 300, 600], [300]),  # two values: a band each, even if one is rare
        ([600] * 9 + [300], [300]),
        ([1, 5, 5, 9], [1, 5]),  # three values
        ([7, 7], []),
        ([1, 2, 3, 4] + [9] * 8, [4]),  # the upper third is 9 as well
        ([1] * 8 + [2, 3, 4, 5], [1]),  # both thirds are 1
    ],
)
def test_bands_end_at_the_terciles(values, expected):
    assert tercile_edges(np.array(list(values))) == expected


def picture(side, level, number):
    """A picture of about this grey level; every number gives another one."""
    rng = np.random.default_rng(number)
    return encode(np.clip(level + rng.integers(-2, 3, (side, side + 8)), 0, 255).astype(np.uint8))


@pytest.fixture
def make(tmp_path):
    """Makes and opens prepared data of (split, folder, side, level) images, with one image of each class per entry."""

    def made(images, header="path,label,split", **extra):
        rows = []
        for number, (split, folder, side, level) in enumerate(images):
            for label in ("good", "bad"):
                key = f"{folder}/{label}/{number}.png"
                (tmp_path / "images" / key).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "images" / key).write_bytes(picture(side, level, 2 * number + (label == "bad")))
                rows.append((key, label, split, *(values[number] for values in extra.values())))
        write_labels(tmp_path / "images", rows, ",".join([header, *extra]))
        return PreparedDataset.open(make_prepared(make_raw(tmp_path / "images", tmp_path / "raw"), tmp_path / "data"))

    return made


IMAGES = [
    *(("train", "line 1", side, 60 + side) for side in (16, 20, 24, 32, 40, 48)),
    ("validation", "line 2", 20, 100),
    ("validation", "line 1", 99, 101),
    ("test", "line 1", 20, 40),
    ("test", "line 2", 32, 90),
    ("test", "line 2", 64, 200),
]


def test_size_brightness_and_source_of_every_image(make):
    data = make(IMAGES)
    rows = np.concatenate([data.rows("validation"), data.rows("test")])
    found = slice_columns(data, rows)
    assert list(found) == ["image size", "brightness", "source"]
    seen = sorted(zip(*(found[name][data.split[rows] == "test"] for name in found), strict=True))
    # Sides of train: 16 to 48, thirds end at 20 and 32. Levels 76 to 108, thirds end at 80 (31 %) and 92 (36 %).
    assert seen == [
        ("21 to 32 px", "32 to 36 %", "line 2"),
        ("21 to 32 px", "32 to 36 %", "line 2"),
        ("33 px or more", "37 % or more", "line 2"),
        ("33 px or more", "37 % or more", "line 2"),
        ("up to 20 px", "up to 31 %", "line 1"),
        ("up to 20 px", "up to 31 %", "line 1"),
    ]


def test_bands_are_fixed_by_train_alone(make):
    data = make(IMAGES)
    rows = data.rows("test")
    expected = slice_columns(data, rows)
    other = slice_columns(data, rows[[0, 1, 2, 3, 4]])
    for name, values in other.items():
        assert values.tolist() == expected[name].tolist()[:5]


def test_a_built_in_column_with_one_value_in_the_test_is_left_out(make):
    same = [(split, "line 1", 32 if split == "test" else side, level) for split, _, side, level in IMAGES]
    data = make(same)
    assert list(slice_columns(data, data.rows("test"))) == ["brightness"]


def test_a_column_of_the_user_takes_precedence_and_is_kept(make):
    data = make(IMAGES, source=["mine"] * len(IMAGES), place=["here"] * len(IMAGES))
    found = slice_columns(data, data.rows("test"))
    assert list(found) == ["place", "source", "image size", "brightness"]
    assert set(found["source"]) == {"mine"}


def test_too_many_sources_are_no_slice(make):
    many = [("test", f"part {number}", 20, 50 + 3 * number) for number in range(MOST_SOURCES + 1)]
    data = make([*IMAGES[:8], *many])
    assert "source" not in slice_columns(data, data.rows("test"))
    data = make([*IMAGES[:8], *many[:MOST_SOURCES]])
    assert len(set(slice_columns(data, data.rows("test"))["source"])) == MOST_SOURCES


def test_metrics_of_each_value():
    kinds = ["mono", "mono", "mono", "mono", "poly", "poly", None, None]
    found = slice_metrics(TARGET, PROBABILITY, 0.45, {"type": kinds}, [None] * 8)["type"]
    assert list(found) == ["(not given)", "mono", "poly"]
    # mono: .9 .8 .6 rightly called, .7 wrongly. poly: .5 wrongly called, .4 missed.
    assert (found["mono"]["n"], found["mono"]["accuracy"], found["mono"]["precision"]) == (4, 0.75, 0.75)
    assert (found["poly"]["n"], found["poly"]["accuracy"], found["poly"]["roc_auc"]) == (2, 0.0, 0.0)
    assert found["(not given)"]["undefined"]["recall"] == "no image of the positive class"
    # Clopper-Pearson for 3 of 4: P(at least 3 of 4) at the lower bound and P(at most 3) at the upper one are .025.
    ends = found["mono"]["intervals"]["accuracy"]
    assert (ends["low"], ends["high"], ends["method"]) == (
        pytest.approx(0.194120, abs=1e-5),
        pytest.approx(0.993691, abs=1e-5),
        "wilson_or_exact",
    )
    assert "recall" not in found["(not given)"]["intervals"]


def test_images_of_one_sample_count_as_one_in_a_slice():
    # In both slices 3 of 4 answers of each of 10 parts are right; in slice a the images of a part are one sample.
    target, right = [0, 1] * 40, [True, True, True, False] * 20
    probability = [0.9 if bool(value) == hit else 0.1 for value, hit in zip(target, right, strict=True)]
    units = [f"part {row // 4}" if row < 40 else None for row in range(80)]
    found = slice_metrics(target, probability, 0.5, {"x": ["a"] * 40 + ["b"] * 40}, units)["x"]
    alone, together = ([found[name]["intervals"]["accuracy"][end] for end in ("low", "high")] for name in "ba")
    exact = binomtest(30, 40).proportion_ci(method="exact")
    assert alone == pytest.approx([exact.low, exact.high])
    assert together[0] < alone[0] < alone[1] < together[1]
    few = slice_metrics(target[:36], probability[:36], 0.5, {"x": ["a"] * 36}, units[:36])["x"]["a"]
    assert few["intervals"] == {}, "9 samples"


@pytest.mark.parametrize(("n", "judged"), [(29, False), (30, True)])
def test_thirty_images_are_enough_to_judge(n, judged):
    target, probability = [index % 2 for index in range(n)], [0.2 + 0.5 * (index % 3 == 0) for index in range(n)]
    found = slice_metrics(target, probability, 0.5, {"all": ["x"] * n}, [None] * n)
    assert found["all"]["x"]["judged"] is judged


def test_values_are_sorted():
    counts = {"up to 300 px": {"n": 1}, "1001 px or more": {"n": 3}, "301 to 1000 px": {"n": 2}}
    assert in_order("image size", counts) == ["up to 300 px", "301 to 1000 px", "1001 px or more"]
    assert in_order("type", {"a": {"n": 1}, "b": {"n": 3}, "c": {"n": 3}}) == ["b", "c", "a"]
    # A column of the user with the same name.
    assert in_order("image size", {"small": {"n": 1}, "large": {"n": 2}}) == ["large", "small"]


def test_a_source_is_the_first_folder_in_which_keys_differ():
    def image(key, label):
        return ImageRecord(key, key, label, None, None, 1, 4, 4, "L", "PNG", 1, key, 0, 0, ())

    def of_split(split, label, name):
        folder = f"{split}/{label}/{name}"
        names = {"tra": "train", "val": "validation", "tes": "test"}
        return image(folder, label)._replace(split=names[split[:3].casefold()])

    def of(*pairs):
        return image_sources([image(*pair) for pair in pairs])

    assert of(("bad/line 1/a.png", "bad"), ("good/line 2/b.png", "good"), ("good/c.png", "good")) == [
        "line 1",
        "line 2",
        None,
    ]
    assert of(("bad/a.png", "bad"), ("good/b.png", "good")) == [None, None]
    # A folder that all images share is skipped; the first one that differs is the source.
    assert of(("in/x/1/a.png", "bad"), ("in/x/2/b.png", "good"), ("in/y/1/c.png", "bad")) == ["x", "x", "y"]
    assert of(("in/x/a.png", "bad"), ("in/x/b.png", "good")) == [None, None]
    assert of(("in/a.png", "bad"), ("in/x/b.png", "good")) == [None, "x"]
    # Folders of given splits are none, whatever people call them.
    names = ("train", "Training", "val", "valid", "validation", "test", "Testing")
    assert image_sources([of_split(name, "bad", f"{n % 2}/a.png") for n, name in enumerate(names)]) == list("0101010")
    assert image_sources([of_split(name, "bad", "a.png") for name in names]) == [None] * len(names)

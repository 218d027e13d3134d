"""predictions.parquet: order, types, equal bytes, reading back."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twofold.core.errors import ArtifactError
from twofold.evaluation import predictions

COLUMNS = {
    "sha256": ["bb", "aa", "cc", "aa0"],
    "split": ["validation", "validation", "test", "test"],
    "label": ["good", "bad", "bad", "good"],
    "target": [0, 1, 1, 0],
    "probability": [0.1, 1 / 3, 0.9, 0.7],
    "predicted": [False, False, True, True],
    "group": [None, "g1", "g2", None],
}


def test_rows_are_ordered_by_split_then_sha256_and_come_back_exactly(tmp_path):
    table = predictions.build_predictions(COLUMNS, {"type": ["mono", None, "poly", "mono"]})
    predictions.write(tmp_path / "a.parquet", table)
    back = predictions.read(tmp_path / "a.parquet")
    assert list(zip(back.split, back.sha256, strict=True)) == [
        ("test", "aa0"),
        ("test", "cc"),
        ("validation", "aa"),
        ("validation", "bb"),
    ]
    assert back.probability.tolist() == [0.7, 0.9, 1 / 3, 0.1]
    assert back.predicted.tolist() == [1, 1, 0, 0]
    assert back.group.tolist() == [None, "g2", "g1", None]
    assert back.slices["type"].tolist() == ["mono", "poly", None, "mono"]
    assert back.target.dtype == np.int64
    assert back.of("validation").sha256.tolist() == ["aa", "bb"]
    assert len(back.of("validation")) == 2


def test_units_come_back_and_are_the_groups_where_there_are_none(tmp_path):
    units = ["u", None, "u2", "u2"]
    predictions.write(tmp_path / "a.parquet", predictions.build_predictions(COLUMNS | {"unit": units}, {}))
    assert predictions.read(tmp_path / "a.parquet").unit.tolist() == ["u2", "u2", None, "u"]
    earlier = pq.read_table(tmp_path / "a.parquet").drop_columns("unit")
    pq.write_table(earlier, tmp_path / "earlier.parquet")
    assert predictions.read(tmp_path / "earlier.parquet").unit.tolist() == [None, "g2", "g1", None]
    assert predictions.build_predictions(COLUMNS, {}).unit.tolist() == [None, "g2", "g1", None]


def test_types_on_disk_are_fixed_even_where_a_column_is_empty(tmp_path):
    columns = COLUMNS | {"group": [None] * 4}
    predictions.write(tmp_path / "a.parquet", predictions.build_predictions(columns, {"type": [None] * 4}))
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.field("group").type == schema.field("slice.type").type == pa.string()
    assert schema.field("probability").type == pa.float64()
    assert schema.metadata is None


def test_the_order_given_does_not_change_the_bytes(tmp_path):
    turned = {name: values[::-1] for name, values in COLUMNS.items()}
    predictions.write(tmp_path / "a.parquet", predictions.build_predictions(COLUMNS, {}))
    predictions.write(tmp_path / "b.parquet", predictions.build_predictions(turned, {}))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_files_that_are_no_predictions_are_refused(tmp_path):
    with pytest.raises(ArtifactError, match="run evaluate again"):
        predictions.read(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ArtifactError, match=r"cannot be read: .* restore it in MLflow"):
        predictions.read(tmp_path / "bad.parquet")
    predictions.write(tmp_path / "good.parquet", predictions.build_predictions(COLUMNS, {}))
    good = pq.read_table(tmp_path / "good.parquet")
    pq.write_table(good.drop_columns("split"), tmp_path / "short.parquet")
    with pytest.raises(ArtifactError, match="needs the column 'split'"):
        predictions.read(tmp_path / "short.parquet")
    words = good.set_column(4, "probability", pa.array(["0.7", "0.9", "0.3", "0.1"]))
    pq.write_table(words, tmp_path / "words.parquet")
    with pytest.raises(ArtifactError, match="needs the column 'probability' of type double"):
        predictions.read(tmp_path / "words.parquet")

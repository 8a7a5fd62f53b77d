"""Features as files: what is written is what is read back, by numpy alone or by pyarrow."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from tests.support.features import clouds

from vitreous.errors import ConfigError, StorageError
from vitreous.evaluation.probes.feature_file import write_features

FACTS = {"model": "runs/d", "layer": "block.1:mean"}


def parts():
    second = clouds(classes=5, each=2, seed=2)
    return {"train": clouds(each=3, seed=1), "validation": second}


def alone():
    found = clouds(each=2)
    labels = np.zeros(len(found), np.int64)
    return {"": replace(found, labels=labels, classes=("",), names=("a/\udcff.png", *found.names[1:]))}


def test_npz(tmp_path):
    write_features(tmp_path / "f.npz", parts(), FACTS)
    with np.load(tmp_path / "f.npz", allow_pickle=False) as read:
        assert sorted(read) == ["classes", "label", "layer", "model", "name", "part", "vector"]
        np.testing.assert_array_equal(read["vector"], np.concatenate([one.vectors for one in parts().values()]))
        labels = [one.classes[label] for one in parts().values() for label in one.labels]
        assert read["classes"][read["label"]].tolist() == labels
        assert read["part"].tolist() == ["train"] * 12 + ["validation"] * 10
        assert read["name"].tolist() == [name for one in parts().values() for name in one.names]
        assert str(read["layer"]) == "block.1:mean"
        assert read["vector"].dtype == np.float32


def test_npz_without_labels(tmp_path):
    write_features(tmp_path / "f.npz", alone(), {})
    with np.load(tmp_path / "f.npz", allow_pickle=False) as read:
        assert sorted(read) == ["name", "vector"]
        assert read["name"][0] == "a/\ufffd.png"


def test_parquet(tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("vitreous.evaluation.probes.feature_file.ROWS", 5)
    write_features(tmp_path / "f.parquet", parts(), FACTS)
    read = pq.read_table(tmp_path / "f.parquet")
    assert read.column_names == ["name", "label", "part", "vector"]
    assert {key.decode(): value.decode() for key, value in read.schema.metadata.items()}.items() >= FACTS.items()
    whole = [(name, one.classes[label], part, vector) for part, one in parts().items()
             for name, label, vector in zip(one.names, one.labels, one.vectors, strict=True)]  # fmt: skip
    for row, (name, label, part, vector) in zip(read.to_pylist(), whole, strict=True):
        assert (row["name"], row["label"], row["part"]) == (name, label, part)
        np.testing.assert_array_equal(np.float32(row["vector"]), vector)
    assert str(read.schema.field("vector").type).startswith("fixed_size_list<")


def test_parquet_without_labels(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    write_features(tmp_path / "f.parquet", alone(), {})
    read = pq.read_table(tmp_path / "f.parquet")
    assert read.column_names == ["name", "vector"]
    assert read["name"][0].as_py() == "a/\ufffd.png"


@pytest.mark.parametrize("name", ["f.csv", "f", "parquet"])
def test_other_endings(tmp_path, name):
    with pytest.raises(ConfigError, match=r"name a file that ends in \.parquet or \.npz"):
        write_features(tmp_path / name, parts(), {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_and_none_to_write_in(tmp_path):
    (tmp_path / "f.npz").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        write_features(tmp_path / "f.npz", parts(), {})
    with pytest.raises(StorageError):
        write_features(tmp_path / "nowhere" / "f.npz", parts(), {})


def test_without_pyarrow_there_is_npz(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'vitreous\[data\]', or name a file that ends in \.npz"):
        write_features(tmp_path / "f.parquet", parts(), {})
    write_features(tmp_path / "f.npz", parts(), {})

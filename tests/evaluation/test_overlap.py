"""Which measured images were trained on: by path, by content under other names, and of pixels."""

import io
import json
import shutil
import tarfile
from dataclasses import replace

import pyarrow
import pyarrow.parquet
import pytest
from tests.support.pictures import tree

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_source
from vitreous.data.sources.subset import draw_subset
from vitreous.evaluation.overlap import Overlap, compare


def test_the_folder_itself_and_copies_of_its_files(tmp_path):
    data = open_dataset(DataConfig(str(tree(tmp_path / "data", cat=10, dog=5)), holdout=0.4))
    assert compare(open_source(str(tmp_path / "data")), data) == Overlap(15, 9, 6)
    assert compare(open_source(str(tmp_path / "data"), ("dog", "cat", "bird")), data) == Overlap(15, 9, 6)
    assert compare(data.validation, data) is None
    (tmp_path / "other" / "cat").mkdir(parents=True)
    for number, name in enumerate([*data.train.names[:3], *data.validation.names[:2]]):
        shutil.copy(tmp_path / "data" / name, tmp_path / "other" / "cat" / f"copy{number}.png")
    tree(tmp_path / "other", dog=4, cat__new=1)
    fresh = open_source(str(tmp_path / "other"))
    expected = sum(
        (tmp_path / "other" / name).read_bytes() in {(tmp_path / "data" / one).read_bytes() for one in data.train.names}
        for name in fresh.names
    )
    assert compare(fresh, data) == Overlap(10, expected, compare(fresh, data).held_out)
    assert expected >= 3
    assert compare(draw_subset(open_source(str(tmp_path / "data")), 15), data) == Overlap(15, 9, 6)


def pack(folder, place, kind):
    """Write the images of a folder of class folders into a tar or a parquet file; return its path as text."""
    files = sorted(folder.rglob("*.png"))
    if kind == "parquet":
        rows = [{"image": {"bytes": file.read_bytes(), "path": file.name}, "label": file.parent.name} for file in files]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), place / "all.parquet")
        return str(place / "all.parquet")
    with tarfile.open(place / "all.tar", "w") as shard:
        for number, file in enumerate(files):
            for ending, data in ((".png", file.read_bytes()), (".cls", file.parent.name.encode())):
                member = tarfile.TarInfo(f"{number:06}{ending}")
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    return str(place / "all.tar")


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", ["tar", "parquet"])
def test_packed_images_are_the_files_of_which_they_are_made(tmp_path, kind, later):
    folder = tree(tmp_path / "data", cat=10, dog=5)
    (tmp_path / "packed").mkdir()
    packed = pack(folder, tmp_path / "packed", kind)
    config = DataConfig(holdout=0.4, scan="later" if later else "first")
    of_files, of_packed = (open_dataset(replace(config, path=path)) for path in (str(folder), packed))
    assert compare(open_source(packed), of_files) == compare(open_source(str(folder)), of_packed) == Overlap(15, 9, 6)
    assert compare(open_source(packed), of_packed) == Overlap(15, 9, 6)
    assert compare(of_packed.validation, of_packed) is None
    (tmp_path / "again").mkdir()
    assert compare(open_source(pack(folder, tmp_path / "again", kind)), of_packed) == Overlap(15, 9, 6)
    if kind == "tar":  # and of the scan's hashes those of images that can't be read any more are of none
        (tmp_path / "packed" / "all.tar").write_bytes(b"")
        assert compare(open_source(str(folder)), of_packed) == (None if later else Overlap(15, 9, 6))


def test_nothing_in_common_and_images_that_are_drawn(tmp_path):
    data = open_dataset(DataConfig("formula:atoms?classes=3&images=4&size=16"))
    assert compare(data.train, data) is None
    digits = open_dataset(DataConfig("digits"))
    pixels = {image.tobytes() for image in digits.train.pixels}
    again = sum(image.tobytes() in pixels for image in digits.validation.pixels)
    assert compare(digits.train, digits).trained == len(digits.train)
    assert (compare(digits.validation, digits) or Overlap(0, 0, 0)).trained == again


def test_evaluate_says_so_on_the_page_in_json_and_in_words(tmp_path, monkeypatch, capfd):
    from vitreous.cli.main import main

    monkeypatch.chdir(tmp_path)
    tree(tmp_path / "data", cat=8, dog=8)
    words = (
        "--model mu/4 --image 8 8 --duration 1st --batch 4 --micro-batch 0 --workers 0 --schedule.warmup 1st --out run"
    )
    assert main(["train", "data", *words.split()]) == 0
    capfd.readouterr()
    assert main(["evaluate", "run", "data", "--no-speed", "--out", "found", "--json", "found.json"]) == 0
    assert "note: 12 of these 16 images are among those that the model was trained on" in capfd.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["trained_on"] == {
        "measured": 16,
        "trained": 12,
        "held_out": 4,
    }
    assert "12 of these 16 images" in (tmp_path / "found" / "report.html").read_text()
    assert main(["evaluate", "run", "--no-speed", "--out", "held"]) == 0
    assert "trained on" not in capfd.readouterr().out


def test_an_image_that_was_trained_on_is_not_held_out_too(tmp_path):
    """As in the last run of a cross-validation, which measures training images."""
    data = open_dataset(DataConfig(str(tree(tmp_path / "data", cat=10, dog=5)), holdout=0.4))
    both = replace(data, validation=data.train)
    found = compare(data.train, both)
    assert found == Overlap(9, 9, 0)
    assert str(found).endswith("so the numbers flatter it")
    assert "; 6 are its held-out ones" in str(compare(open_source(str(tmp_path / "data")), data))

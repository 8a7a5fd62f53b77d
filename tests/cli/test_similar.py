"""`vitreous similar`: the nearest images by cosine, by the model that made the embeddings alone, from files that may be hostile."""

import csv
import io
import json
import os
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.support.pictures import encoded, picture, write

import vitreous
from vitreous.errors import CheckpointError, ConfigError, DataError, ImageError
from vitreous.evaluation.probes.feature_file import write_features
from vitreous.evaluation.probes.features import Features
from vitreous.evaluation.probes.stored_features import cosines, read_features

ENDINGS = pytest.mark.parametrize("ending", ["npz", "parquet"])
FACTS = {"model": "gone", "layer": "features", "precision": "fp32"}


@pytest.fixture
def images(here):
    """Write seven pictures, two of them the same, in folders of two classes."""
    for number, name in enumerate(["cat/1", "cat/2", "cat/3", "dog/1", "dog/2", "dog/4"]):
        write(here / "photos" / f"{name}.png", encoded(picture(number, 9, 12, 1)))
    write(here / "photos" / "dog" / "copy.png", (here / "photos" / "cat" / "2.png").read_bytes())
    return here / "photos"


def nearest(vectors, names, asked, left_out):
    """Return names and cosines in double precision, the nearest first."""
    wide = vectors.astype(np.float64)
    found = wide @ asked / np.linalg.norm(wide, axis=1) / np.linalg.norm(asked)
    order = [index for index in np.argsort(-found, kind="stable") if names[index] != left_out]
    return [(names[index], found[index]) for index in order]


@ENDINGS
@pytest.mark.parametrize("layer", ["features", "block.0:mean"])
def test_the_nearest_are_those_of_double_precision(vitreous, trained, images, ending, layer):
    vitreous("embed", trained, "--data", "photos", "--out", f"f.{ending}", "--layer", layer).worked("7 vectors")
    vitreous("embed", trained, "--data", "photos", "--out", "plain.npz", "--layer", layer).worked()
    with np.load("plain.npz") as plain:
        vectors, names = plain["vector"], plain["name"].tolist()
    expected = nearest(vectors, names, vectors[names.index("cat/2.png")].astype(np.float64), "cat/2.png")
    for asked in ("photos/cat/2.png", "./photos/cat/2.png", "cat/2.png", "2.png"):
        if asked == "2.png":
            vitreous("similar", asked, "--in", f"f.{ending}").refused("may be any of 2 images", "cat/2.png, dog/2.png")
            continue
        shown = vitreous("similar", asked, "--in", f"f.{ending}", "--top", "4", "--format", "jsonl").worked()
        found = [json.loads(line) for line in shown.splitlines()]
        assert [one["name"] for one in found] == [name for name, _ in expected[:4]]
        assert found[0] == {"name": "dog/copy.png", "cosine": pytest.approx(1, abs=2e-6), "label": "dog"}
        np.testing.assert_allclose([one["cosine"] for one in found], [cosine for _, cosine in expected[:4]], atol=2e-6)


def test_a_name_that_several_files_have_is_not_guessed(vitreous, trained, here):
    for number, split in enumerate(("train", "val")):
        for place in ("cat/0", "cat/1", "dog/2"):
            seed = 10 * number + int(place[-1])
            write(here / "data" / split / f"{place}.png", encoded(picture(seed, 9, 12, 1)))
    vitreous("embed", trained, "--data", "data", "--out", "f.npz").worked("6 vectors")
    vitreous("similar", "cat/0.png", "--in", "f.npz").refused(
        "may be any of 2 images", "train/cat/0.png", "val/cat/0.png", "give the path of the file"
    )
    write(here / "cat" / "0.png", encoded(picture(99, 9, 12, 1)))  # another file of that name
    write(here / "other.png", (here / "cat" / "0.png").read_bytes())
    shown = {
        file: vitreous("similar", file, "--in", "f.npz", "--format", "jsonl").worked()
        for file in ("cat/0.png", "other.png", "data/train/cat/0.png", "data/val/cat/0.png")
    }
    assert shown["cat/0.png"] == shown["other.png"]
    assert len(set(shown.values())) == 3


def test_formats_and_the_page(vitreous, trained, images, here):
    vitreous("embed", trained, "--data", "photos", "--out", "f.npz").worked()
    (images / "dog" / "4.png").unlink()
    done = vitreous("similar", "copy.png", "--in", "f.npz", "--format", "csv", "--out", "page")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert (len(rows), rows[0]["name"], rows[0]["label"], list(rows[0])) == (
        6,
        "cat/2.png",
        "cat",
        ["name", "cosine", "label"],
    )
    assert done.err == "vitreous: report: page/report.html\n"
    page, document = (
        (here / "page" / "report.html").read_text(),
        json.loads((here / "page" / "report.json").read_text()),
    )
    assert page.count("<img") == 6 and "can no longer be read" in page and "dog/4.png" in page
    assert document["similar"][0]["name"] == "cat/2.png" and document["images"] == 7
    table = vitreous("similar", "copy.png", "--in", "f.npz", "--top", "1").worked()
    assert table == "1.0000  cat/2.png  cat\n"
    vitreous("similar", "copy.png", "--in", "f.npz", "--out", "page").refused("page is not empty")


def test_names_with_a_carriage_return_stay_one_cell(vitreous, trained, here, monkeypatch):
    (here / "odd").mkdir()
    for name in ("a\rb.png", "c.png"):
        write(here / "odd" / name, encoded(picture(len(name), 9, 9, 1)))
    vitreous("embed", trained, "odd", "--out", "f.npz").worked()
    said = vitreous("similar", "odd/c.png", "--in", "f.npz", "--format", "csv").worked()
    rows = list(csv.reader(io.StringIO(said, newline="")))
    assert {row[0] for row in rows[1:]} <= {"odd/a\rb.png", "odd/c.png"} and {len(row) for row in rows} == {2}


def test_from_python(trained, images):
    model = vitreous.load(trained)
    found = vitreous.embed(model, images, cache=False)
    whole = picture(1, 9, 12, 1)
    for asked in (whole, Image.fromarray(whole[..., 0]), encoded(whole), "photos/cat/2.png", images / "cat" / "2.png"):
        result = vitreous.similar(asked, found, model, top=2)
        assert result.similar[0].cosine == pytest.approx(1, abs=2e-6)
        assert len(result.similar) == 2 and "<iframe" in result._repr_html_()
    assert list(result.to_pandas()["name"]) == [one.name for one in result.similar]
    assert result.similar[0].name == str(images / "dog" / "copy.png")
    assert vitreous.similar(np.stack([whole[..., 0]] * 3, -1), found, model).similar[0].cosine > 0.99
    with pytest.raises(ImageError, match="float64"):
        vitreous.similar(np.zeros((4, 4, 3)), found, model)
    with pytest.raises(ConfigError, match="top is 0"):
        vitreous.similar("a.png", found, top=0)
    memory = vitreous.embed(model.folder, images, cache=False)
    with pytest.raises(CheckpointError, match="made by a model from memory"):
        vitreous.similar(whole, memory)
    assert vitreous.similar(whole, memory, model.folder).similar[0].cosine == pytest.approx(1, abs=2e-6)


def test_the_model_that_made_them_is_taken_and_no_other(vitreous, trained, run, images, here):
    assert vitreous("embed", run, "photos", "--out", "f.npz", "--image", "16", "12").code == 0
    asked = here / "asked.png"
    write(asked, encoded(picture(1, 9, 12, 1)))
    done = vitreous("similar", "asked.png", "--in", "f.npz", "--top", "2")
    assert done.code == 0 and [line.split("  ")[0] for line in done.out.splitlines()] == ["1.0000", "1.0000"]
    assert vitreous("similar", "asked.png", "--in", "f.npz", "--model", trained, "--image", "16", "12").code == 0
    vitreous("similar", "asked.png", "--in", "f.npz", "--model", trained).refused(
        "preprocessing than", "f.npz was made by"
    )
    vitreous("similar", "asked.png", "--in", "f.npz", "--image", "16", "12").refused(
        "--image describes the weights of --model"
    )
    run.rename(here / "moved")
    vitreous("similar", "asked.png", "--in", "f.npz").refused("can't be loaded from", "name it with --model")
    vitreous("similar", "cat/2.png", "--in", "f.npz", "--top", "1").worked("dog/copy.png")
    assert vitreous("similar", "asked.png", "--in", "f.npz", "--model", "moved", "--image", "16", "12").code == 0


@ENDINGS
def test_files_of_before_name_their_images(vitreous, images, ending, here):
    vectors = np.random.default_rng(0).standard_normal((5, 8), dtype=np.float32)
    names = tuple(f"{number}.png" for number in range(5))
    write_features(here / f"f.{ending}", {"": Features(vectors, np.zeros(5, np.int64), names, ("",))}, FACTS)
    (expected, _), *_ = nearest(vectors, names, vectors[3].astype(np.float64), "3.png")
    assert vitreous("similar", "3.png", "--in", f"f.{ending}", "--top", "1").worked().split()[1] == expected
    vitreous("similar", "photos/cat/1.png", "--in", f"f.{ending}").refused("can't be loaded from gone")
    vitreous("similar", "nowhere.png", "--in", f"f.{ending}").refused("there is no file nowhere.png", "such as 0.png")


@ENDINGS
@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1e25])
def test_vectors_of_any_length(ending, scale, tmp_path):
    vectors = np.random.default_rng(0).standard_normal((9000, 8), dtype=np.float32) * np.float32(scale)
    vectors[17] = 0
    found = Features(vectors, np.zeros(len(vectors), np.int64), tuple(map(str, range(len(vectors)))), ("",))
    path = tmp_path / f"f.{ending}"
    write_features(path, {"": found}, FACTS)
    stored, wide = read_features(path), vectors.astype(np.float64)
    np.testing.assert_array_equal(stored.vector(5000), vectors[5000])
    expected = wide @ wide[3] / np.maximum(np.linalg.norm(wide, axis=1) * np.linalg.norm(wide[3]), 1e-300)
    np.testing.assert_allclose(cosines(stored, vectors[3]), expected, atol=1e-6)


def npz(path, **changes):
    arrays = {"name": np.array(["a", "b"]), "vector": np.ones((2, 3), np.float32)}
    arrays |= {name: np.array(value) for name, value in FACTS.items()} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def parquet(path, facts=FACTS, **changes):
    columns = {"name": pa.array(["a", "b"]), "vector": pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32(), 2))} | changes
    table = pa.table({name: value for name, value in columns.items() if value is not None})
    pq.write_table(table.replace_schema_metadata(facts), path)


def empty_parts(path):
    parquet(path, name=pa.array([], pa.string()), vector=pa.array([], pa.list_(pa.float32(), 2)))


def claiming(path):
    """Write an npz whose vectors claim more than there is."""
    npz(path)
    header = np.lib.format.header_data_from_array_1_0(np.ones((2, 3), np.float32)) | {"shape": (2**40, 3)}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("vector.npy", file.getvalue())


def compressed(path):
    np.savez_compressed(path, name=np.array(["a", "b"]), vector=np.ones((2, 3), np.float32), **FACTS)


HOSTILE = {
    "text.npz": (lambda path: path.write_text("no archive"), "not a zip file"),
    "empty.npz": (lambda path: path.write_bytes(b""), "is not a file of vectors"),
    "pickle.npz": (lambda path: npz(path, name=np.array([{}, {}], object)), "is of type object, which is no text"),
    "floats.npz": (lambda path: npz(path, name=np.zeros(2)), "is of type float64, which is no text"),
    "lengths.npz": (lambda path: npz(path, name=np.array(["a"])), "columns have different lengths: 1, 2"),
    "wide.npz": (lambda path: npz(path, vector=np.ones((2, 3))), "not whole rows of float32"),
    "flat.npz": (lambda path: npz(path, vector=np.ones(2, np.float32)), "not whole rows of float32"),
    "labels.npz": (lambda path: npz(path, label=np.array([0, 7]), classes=np.array(["x"])), "not among its classes"),
    "negative.npz": (lambda path: npz(path, label=np.array([0, -1]), classes=np.array(["x"])), "not among its classes"),
    "unnamed.npz": (lambda path: npz(path, name=None), "'name'"),
    "model.npz": (lambda path: npz(path, model=None), "doesn't say its model"),
    "options.npz": (lambda path: npz(path, load_options=np.array("[1")), "is not a file of vectors"),
    "deep.npz": (lambda path: npz(path, roots=np.array("[" * 100_000)), "is not a file of vectors"),
    "roots.npz": (lambda path: npz(path, roots=np.array('{"": 3}')), "roots are not folders"),
    "claims.npz": (claiming, "claims the shape 1099511627776x3"),
    "squeezed.npz": (compressed, "its vectors are compressed"),
    "nan.npz": (lambda path: npz(path, vector=np.full((2, 3), np.nan, np.float32)), "are not finite"),
    "text.parquet": (lambda path: path.write_text("no table"), "is not a file of vectors"),
    "lists.parquet": (lambda path: parquet(path, vector=pa.array([[1.0], [2.0, 3.0]])), "is of type list"),
    "nulls.parquet": (
        lambda path: parquet(path, vector=pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2))),
        "rows without vectors",
    ),
    "numbers.parquet": (lambda path: parquet(path, name=pa.array([1, 2])), "is of type int64, but must be text"),
    "noname.parquet": (lambda path: parquet(path, name=pa.array(["a", None])), "lacks some values"),
    "unnamed.parquet": (lambda path: parquet(path, name=None), "name"),
    "novector.parquet": (lambda path: parquet(path, vector=None), "vector"),
    "facts.parquet": (lambda path: parquet(path, facts={}), "doesn't say its model, layer, precision"),
    "none.parquet": (empty_parts, "holds no images"),
    "folder.npz": (lambda path: path.mkdir(), "is a folder"),
    "pipe.npz": (os.mkfifo, "is a named pipe"),
    "gone.npz": (lambda path: None, "no such file or folder"),
    "vectors.csv": (lambda path: path.write_text("a"), "ends in .csv"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_embeddings_are_refused_in_one_line(vitreous, name, here):
    make, words = HOSTILE[name]
    make(here / name)
    assert len(vitreous("similar", "a", "--in", name).refused(words)) < 400


def test_a_parquet_file_can_not_claim_the_memory(vitreous, here):
    """Four megabytes of vectors that are all the same, twenty times over: few bytes as a dictionary."""
    flat = pa.array(np.ones(1_000_000, np.float32))
    vectors = pa.FixedSizeListArray.from_arrays(flat, 1000)
    table = pa.table({"name": pa.array(["a"] * 1000), "vector": vectors}).replace_schema_metadata(FACTS)
    with pq.ParquetWriter(here / "f.parquet", table.schema) as writer:
        for _ in range(20):
            writer.write_table(table)
    vitreous("similar", "a", "--in", "f.parquet").refused("claims 80.0 MB of tensors in a file of")


def test_a_cut_file_is_refused(vitreous, here):
    for number, ending in enumerate(("npz", "parquet")):
        vectors = np.random.default_rng(number).standard_normal((50, 8), dtype=np.float32)
        found = Features(vectors, np.zeros(50, np.int64), tuple(map(str, range(50))), ("",))
        write_features(here / f"f.{ending}", {"": found}, FACTS)
        whole = (here / f"f.{ending}").read_bytes()
        for share in (0.3, 0.7, 0.99):
            (here / f"cut.{ending}").write_bytes(whole[: int(share * len(whole))])
            vitreous("similar", "3", "--in", f"cut.{ending}").refused(f"cut.{ending}")


def test_names_of_an_embedding_can_not_upset_a_terminal(vitreous, here):
    npz(here / "f.npz", name=np.array(["a", "\x1b[31mred"]))
    assert "\x1b" not in vitreous("similar", "a", "--in", "f.npz").worked()
    assert "\x1b" not in vitreous("similar", "a", "--in", "f.npz", "--format", "jsonl").worked()
    assert ",\x1b[31mred" in vitreous("similar", "a", "--in", "f.npz", "--format", "csv").worked().replace("\n", ",")
    npz(here / "one.npz", name=np.array(["a"]), vector=np.ones((1, 3), np.float32))
    assert vitreous("similar", "a", "--in", "one.npz", "--format", "jsonl").worked() == ""
    with pytest.raises(DataError, match="there is no file"):
        from vitreous.api.search import similar

        similar("b", here / "f.npz")

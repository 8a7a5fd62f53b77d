"""`--on ray`: one file a part, each image once, whatever dies; the same labels and vectors as on one machine."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.forked import run, vitreous

from vitreous.cluster import Actors, FileWorker, JobFolder, divide_cluster, locate_part
from vitreous.errors import ConfigError, ImageError, RunLocked
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.weights.model_folder import ModelFolder, save_model

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose labels vary from image to image."""
    config = build_vit_config("mu/8", image=(32, 32), channels=3, classes=10, depth=2)
    built = create(config, 0)
    torch.nn.init.normal_(built.head.weight, std=4.0, generator=torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("model") / "model"
    save_model(path, ModelFolder(built, PreprocessConfig(size=(32, 32)), DecodeConfig(), tuple("abcdefghij")))
    return path


def draw(folder: Path, count: int) -> Path:
    """Write images of random blocks of colour; one in a thousand is broken."""
    chance = np.random.default_rng(0)
    for number in range(count):
        place = folder / f"{number // 1000:02}"
        place.mkdir(parents=True, exist_ok=True)
        blocks = chance.integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Image.fromarray(blocks).save(place / f"{number:06}.png", compress_level=1)
        if number % 1000 == 500:
            (place / f"{number:06}.png").write_bytes(b"no image")
    return folder


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitreous.runtime.packages.is_installed", lambda name: name != "ray")


@pytest.fixture
def seeming_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker asks Ray for, without Ray."""
    ray, data = ModuleType("ray"), ModuleType("ray.data")
    ray.data = data
    ray.get_runtime_context = lambda: SimpleNamespace(was_current_actor_reconstructed=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.data", data)
    monkeypatch.setattr("vitreous.runtime.packages.is_installed", lambda name: True)


def refuse(*arguments: object) -> str:
    found = run(vitreous(*arguments))
    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    return line


def test_without_ray_one_line_says_what_to_install(model: Path, tmp_path: Path, without_ray: None) -> None:
    for command in ("predict", "embed"):
        said = refuse(command, model, tmp_path, "--on", "ray", "--out", tmp_path / "found")
        assert said == "vitreous: error: --on ray needs ray, not installed: pip install 'vitreous[ray]'"
    assert not (tmp_path / "found").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--on ray writes a folder of parquet files; name it with --out FOLDER"),
        (["--out", "found", "--format", "csv"], "--on ray writes parquet, not csv"),
        (["--out", "found", "--sort-into", "sorted"], "--sort-into works on one machine only"),
        (["--out", "found", "--unsure-first"], "--unsure-first works on one machine only"),
        (["--out", "found", "--actors", "-1"], "--actors is -1; it must be at least 1"),
    ],
)
def test_what_a_cluster_can_not_do_is_refused(
    options: list[str], said: str, model: Path, tmp_path: Path, seeming_ray: None
) -> None:
    assert said in refuse("predict", model, tmp_path, "--on", "ray", *options)


def test_actors_without_ray_are_refused(model: Path, tmp_path: Path) -> None:
    assert "--actors is for --on ray" in refuse("predict", model, tmp_path, "--actors", "2")
    assert "--actors is for --on ray" in refuse("embed", model, tmp_path, "--actors", "2")


def make_lines(images: list[str], file: io.BufferedIOBase) -> None:
    import pyarrow as pa

    if "broken" in images:
        raise ImageError("the server\nis away")
    schema = pa.schema([("name", pa.string()), ("error", pa.string())])
    errors = [None if one != "odd" else "no image" for one in images]
    parquet.write_table(pa.table({"name": images, "error": errors}, schema=schema), file)


def test_a_part_that_fails_is_tried_again_and_leaves_nothing(
    tmp_path: Path, seeming_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitreous.cluster.PAUSE", 0.001)
    failures = iter([OSError("once"), None])

    def make(images: list[str], file: io.BufferedIOBase) -> None:
        if failure := next(failures, None):
            file.write(b"half")
            raise failure
        make_lines(images, file)

    worker = FileWorker(lambda: make, str(tmp_path), str(Path.cwd()), 3)
    found = worker({"part": 4, "images": pickle.dumps(["a", "odd"])})
    assert (found["tries"], found["error"], found["images"]) == (2, "", 2)
    worker = FileWorker(lambda: make_lines, str(tmp_path), str(Path.cwd()), 3)
    found = worker({"part": 5, "images": pickle.dumps(["a", "broken"])})
    assert (found["tries"], found["error"]) == (3, "the server is away")
    assert [one.name for one in tmp_path.iterdir()] == ["part-000004.parquet"]
    with JobFolder(tmp_path / "job", {"images": {"count": 3}}, 2) as folder:
        assert folder.list_missing() == [0, 1]
        worker = FileWorker(lambda: make_lines, str(folder.folder), str(Path.cwd()), 1)
        worker({"part": 1, "images": pickle.dumps(["a", "odd", "b"])})
        assert folder.list_missing() == [0]
        assert folder.count_rows() == (3, 1)


def test_a_folder_goes_on_with_its_own_job_alone(tmp_path: Path) -> None:
    out = tmp_path / "found"
    facts = {"model": "m", "batch": 32, "images": {"count": 9, "sha256": "a"}}
    with JobFolder(out, facts, 2):
        locate_part(out, 0).write_bytes(b"")
        with pytest.raises(RunLocked):
            JobFolder(out, facts, 2)
    with JobFolder(out, facts, 2) as folder:
        assert folder.list_missing() == [1]
    with pytest.raises(ConfigError, match="begun with batch 32, now it is 64"):
        JobFolder(out, {**facts, "batch": 64}, 2)
    with pytest.raises(ConfigError, match="begun with 9 images, now there are 8"):
        JobFolder(out, {**facts, "images": {"count": 8}}, 2)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not empty and doesn't hold a job"):
        JobFolder(tmp_path / "other", facts, 2)
    with pytest.raises(ConfigError, match="is a file; with --on ray"):
        JobFolder(tmp_path / "other" / "letter.txt", facts, 2)


@pytest.mark.parametrize(
    ("nodes", "actors", "found"),
    [
        ([{"CPU": 16.0}], Actors(), (4, 4, 0)),
        ([{"CPU": 2.0}], Actors(2), (2, 1, 0)),
        ([{"CPU": 32.0, "GPU": 4.0}], Actors(), (4, 8, 1)),
        ([{"CPU": 32.0, "GPU": 4.0}], Actors(device="cpu"), (8, 4, 0)),
        ([{"CPU": 64.0}], Actors(1), (1, 64, 0)),
        ([{"CPU": 2.0}, {"CPU": 2.0}], Actors(), (2, 2, 0)),
        ([{"CPU": 2.0}, {"CPU": 2.0}], Actors(1), (1, 2, 0)),
        ([{"CPU": 2.0}, {"CPU": 2.0}], Actors(3), (3, 1, 0)),
        ([{"CPU": 16.0}] * 4, Actors(6), (6, 8, 0)),
        ([{"CPU": 64.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 4.0}], Actors(), (8, 2, 1)),
        ([{"CPU": 64.0, "GPU": 4.0}, {"CPU": 8.0}, {"memory": 1e9}], Actors(), (4, 16, 1)),
    ],
)
def test_each_actor_has_room_on_one_machine(nodes, actors, found) -> None:
    assert divide_cluster(nodes, actors) == found


@pytest.mark.parametrize(
    ("nodes", "actors", "words"),
    [
        ([{"CPU": 2.0}], Actors(3), "--actors 3, but the machines of the cluster have 2 cores; give at most 2"),
        ([{"CPU": 2.0}, {"CPU": 1.0}], Actors(4), "have 3 cores; give at most 3"),
        ([{"CPU": 2.0}], Actors(device="cuda"), "the cluster has no GPU"),
        ([{"GPU": 2.0}, {"CPU": 8.0}], Actors(), "have 0 GPUs with a core; add machines"),
        ([], Actors(), "have 0 cores; add machines"),
    ],
)
def test_actors_without_room_are_refused(nodes, actors, words) -> None:
    with pytest.raises(ConfigError, match=words):
        divide_cluster(nodes, actors)


def test_vectors_of_a_part_are_those_of_embed(model: Path, tmp_path: Path) -> None:
    """What can't be read has its error, and its place."""
    import vitreous as package
    from vitreous.evaluation.probes.cluster_features import write_vectors

    images = sorted(draw(tmp_path / "images", 12).rglob("*.png"))
    images[3].write_bytes(b"no image")
    predictor = package.load(model, batch=5)
    with (tmp_path / "part.parquet").open("wb") as file:
        write_vectors(predictor, "block.0", "fp32", list(map(str, images)), file)
    table = parquet.read_table(tmp_path / "part.parquet")
    good = images[:3] + images[4:]
    expected = package.embed(predictor, good, layer="block.0", cache=False)
    assert table["name"].to_pylist() == list(map(str, images))
    assert [one for one in table["vector"].to_pylist() if one is None] == [None]
    found = np.array([one for one in table["vector"].to_pylist() if one is not None], np.float32)
    np.testing.assert_allclose(found, expected.vectors, rtol=1e-5, atol=1e-6)
    assert "is not an image of a known format" in table["error"][3].as_py()
    for path in images:
        path.write_bytes(b"")
    with (tmp_path / "part.parquet").open("wb") as file:
        write_vectors(predictor, "block.0", "fp32", list(map(str, images)), file)
    assert parquet.read_table(tmp_path / "part.parquet").schema.field("vector") == table.schema.field("vector")


COUNT = int(os.environ.get("VITREOUS_RAY_IMAGES", "20000"))


def find_actors(driver: int) -> list[int]:
    """Return the actors among a process's descendants."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            names[int(folder.name)] = (folder / "cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            continue
        parents[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])

    def descends(pid: int) -> bool:
        while pid > 1:
            if pid == driver:
                return True
            pid = parents.get(pid, 0)
        return False

    return sorted(pid for pid, name in names.items() if b"MapWorker" in name and descends(pid))


@pytest.mark.slow
def test_an_actor_that_is_killed_costs_no_image(model: Path, tmp_path: Path) -> None:
    """The command is killed too, later, and goes on; labels and vectors are those of one machine."""
    pytest.importorskip("ray")
    images = draw(tmp_path / "images", COUNT)
    plain, out, vectors = tmp_path / "plain.parquet", tmp_path / "found", tmp_path / "vectors"
    command = [sys.executable, "-m", "vitreous"]
    predict = [*command, "predict", str(model), str(images), "--top", "3"]
    assert subprocess.run([*predict, "--out", str(plain)], capture_output=True).returncode == 1  # some are broken
    on_ray = [*predict, "--on", "ray", "--actors", "2", "--out", str(out)]

    def start_until(parts: int) -> subprocess.Popen:
        process = subprocess.Popen(on_ray, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 180
        while len(list(out.glob("part-*.parquet"))) < parts:
            assert process.poll() is None and time.monotonic() < end, process.communicate()
            time.sleep(0.02)
        return process

    first = start_until(3)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 128 + signal.SIGTERM
    before = len(list(out.glob("part-*.parquet")))
    assert 3 <= before < COUNT // 256
    second = start_until(before + 5)
    actors = find_actors(second.pid)
    os.kill(actors[0], signal.SIGKILL)
    said, errors = second.communicate(400)
    print(said, errors)
    assert second.returncode == 1
    assert f"{COUNT:,} images in {-(-COUNT // 256)} files, " in said
    assert "1 actor started again" in said
    assert f"{COUNT // 1000:,} of {COUNT:,} images could not be read" in errors
    expected, found = parquet.read_table(plain), parquet.read_table(out)
    assert found.column("name").to_pylist() == expected.column("name").to_pylist()
    assert found.column("label").to_pylist() == expected.column("label").to_pylist()
    assert len(set(found.column("label").to_pylist())) > 4
    again = subprocess.run(on_ray, capture_output=True, text=True)
    assert f"{-(-COUNT // 256)} of them from before" in again.stdout
    few = [*command, "embed", str(model), str(images / "00"), "--on", "ray", "--out", str(vectors)]
    done = subprocess.run(few, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    table = parquet.read_table(vectors)
    assert table.num_rows == min(COUNT, 1000) and table["vector"].null_count == 1
    assert json.loads((out / "_job.json").read_bytes())["images"]["count"] == COUNT

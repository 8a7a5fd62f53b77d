"""Shards and parquet files at URLs: from a server that times out, fails, sends half a file or wrong bytes."""

import json
import shutil
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from tests.support.pictures import encoded, tree, write

import vitreous
from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.sources import remote_packs
from vitreous.data.sources.digits import load_digits
from vitreous.errors import ConfigError, DataError, DownloadFailed
from vitreous.storage import remote
from vitreous.storage.remote import find_url

pytest.importorskip("aiohttp")
LATER = {"holdout": 0.25, "scan": "later"}


class Server(ThreadingHTTPServer):
    """Sends the files of a folder, and misbehaves as told: a list of faults for each file's name, one for each request."""

    daemon_threads = True

    def __init__(self, folder, ranges=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.ranges, self.faults, self.asked = folder, ranges, {}, Counter()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.send(body=False)

    def do_GET(self):
        self.send(body=True)

    def send(self, body):
        file = self.server.folder / self.path.lstrip("/")
        self.server.asked[file.name] += body
        faults = self.server.faults.get(file.name, [])
        fault = faults.pop(0) if faults and body else None
        if fault == "time out":
            time.sleep(1.5)
            return self.close()
        if isinstance(fault, int):
            return self.answer(fault, b"no")
        if not file.is_file():
            return self.answer(404, b"nothing")
        data = file.read_bytes()
        if fault == "wrong bytes":
            data = bytes(255 - one for one in data)
        part, span = data, self.headers.get("Range")
        if span and self.server.ranges:
            first, last = (int(end) if end else len(data) - 1 for end in span.removeprefix("bytes=").split("-"))
            part = data[first : last + 1]
        status = 206 if len(part) < len(data) else 200
        return self.answer(status, part if body else b"", len(part), cut=fault == "half")

    def answer(self, status, part, length=None, cut=False):
        self.send_response(status)
        self.send_header("Content-Length", str(len(part) if length is None else length))
        self.send_header("ETag", '"fixed"')
        self.end_headers()
        self.wfile.write(part[: len(part) // 2] if cut else part)
        if cut:
            self.close()

    def close(self):
        self.close_connection = True


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Return folders of shards and of a parquet file, with the same 40 images."""
    root = tmp_path_factory.mktemp("packed")
    digits = load_digits(0.2, 0)[0]
    for label in (0, 1):
        for number, index in enumerate(np.flatnonzero(digits.labels == label)[:20]):
            write(root / "photos" / str(label) / f"{number}.png", encoded(digits.pixels[index]))
    vitreous.shard(root / "photos", root / "shards", size=1500)
    files = sorted((root / "photos").rglob("*.png"))
    rows = {"image": [{"bytes": file.read_bytes()} for file in files], "label": [file.parent.name for file in files]}
    (root / "tables").mkdir()
    pyarrow.parquet.write_table(pyarrow.table(rows), root / "tables" / "train.parquet")
    return root


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Wait hardly at all, and keep files in a cache of this test's own."""
    monkeypatch.setenv("VITREOUS_CACHE", str(tmp_path / "cache"))
    for name, value in (("FIRST_WAIT", 0.01), ("LONGEST_WAIT", 0.02), ("TIMEOUT", 0.3)):
        monkeypatch.setattr(remote, name, value)
    forget()
    yield
    forget()


def forget():
    """Forget what this process has asked for."""
    remote_packs.list_files.cache_clear()
    remote_packs.read_index.cache_clear()


@pytest.fixture
def serve(quick):
    """Return a function that starts a server of a folder."""
    servers = []

    def start(folder, **how):
        servers.append(Server(folder, **how))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def read_all(source):
    """Return the bytes of all images, by name."""
    return {name.partition("/")[2]: source.read(index) for index, name in enumerate(source.names)}


def contents(path):
    """Return all images of a data set, by name, and their labels."""
    found = open_dataset(DataConfig(str(path), **LATER))
    images = read_all(found.train) | read_all(found.validation)
    return images, found


def test_shards_at_a_url_are_those_on_the_disk(packed, serve):
    server = serve(packed)
    images, found = contents(f"{server.url}/shards")
    here, local = contents(packed / "shards")
    assert images == here
    assert len(images) == 40
    assert (found.train.names, found.train.labels.tolist()) == (local.train.names, local.train.labels.tolist())
    shards = [name for name in server.asked if name.endswith(".tar")]
    assert len(shards) > 2
    assert all(server.asked[name] == 1 for name in shards), "each is fetched once, and then in the cache"
    forget()
    assert contents(f"{server.url}/shards")[0] == images
    assert all(server.asked[name] == 1 for name in shards)


def test_classes_named_by_digits_are_not_taken_for_numbers(serve, tmp_path):
    vitreous.shard(tree(tmp_path / "photos", **{"1": 4, "2": 4, "3": 4}), tmp_path / "shards")
    train = open_dataset(DataConfig(f"{serve(tmp_path).url}/shards", **LATER)).train
    folders = [name.split("/")[1] for name in train.names]
    assert folders == [train.classes[label] for label in train.labels] and set(folders) == {"1", "2", "3"}


@pytest.mark.parametrize("fault", ["time out", 500, 503, 429, "half", "wrong bytes"])
def test_every_fault_is_tried_again_and_nothing_is_lost(packed, serve, fault):
    server = serve(packed)
    names = [file.name for file in (packed / "shards").iterdir() if file.suffix == ".tar"]
    server.faults = {name: [fault, fault] for name in names}
    if fault != "wrong bytes":
        server.faults["shards.json"] = [fault]
    assert contents(f"{server.url}/shards")[0] == contents(packed / "shards")[0]
    assert all(server.asked[name] == 3 for name in names)


@pytest.mark.parametrize("fault", ["time out", 500, "half", "wrong bytes"])
def test_tries_end_in_one_line(packed, serve, fault, tmp_path):
    server = serve(packed)
    _, found = contents(packed / "shards")
    remote_set = open_dataset(DataConfig(f"{server.url}/shards", **LATER))
    shutil.rmtree(tmp_path / "cache" / "files")
    server.asked.clear()
    server.faults = {name: [fault] * 1000 for name in (file.name for file in (packed / "shards").iterdir())}
    with pytest.raises(DownloadFailed) as raised:
        read_all(remote_set.train)
    assert "could not be read in 5 attempts" in str(raised.value)
    assert "continues" in str(raised.value)
    assert "\n" not in str(raised.value)
    name = str(raised.value).split()[0].rpartition("/")[2]
    assert server.asked[name] == 5
    assert all(one.name.endswith(".lock") for one in (tmp_path / "cache" / "files").iterdir()), "nothing half is left"
    server.faults = {}
    assert read_all(remote_set.train) == read_all(found.train), "once it can be read, all is there"


def test_a_server_that_is_not_there_is_a_mistake_of_the_command(packed, serve):
    server = serve(packed)
    with pytest.raises(DataError, match=r"http://127.0.0.1:\d+/nowhere holds no .tar or .parquet files"):
        open_dataset(DataConfig(f"{server.url}/nowhere"))
    server.faults = {"shards.json": [403]}
    server.faults["shards"] = [403]
    with pytest.raises(DataError, match=r"403|nothing at"):
        open_dataset(DataConfig(f"{server.url}/shards"))
    gone = serve(packed)  # another one: a connection that is open lives on
    gone.shutdown()
    gone.server_close()
    with pytest.raises(DataError, match="could not be read in 5 attempts"):
        open_dataset(DataConfig(f"{gone.url}/shards"))


def test_without_room_in_the_cache_images_are_read_one_by_one(packed, serve, monkeypatch, tmp_path):
    server = serve(packed)
    monkeypatch.setenv("VITREOUS_CACHE_GIB", "0.00000001")
    assert contents(f"{server.url}/shards")[0] == contents(packed / "shards")[0]
    assert sum(count for name, count in server.asked.items() if name.endswith(".tar")) == 80, "looked at, and read"
    assert not (tmp_path / "cache" / "files").exists()
    with pytest.raises(DataError, match="more than the cache may hold"):
        open_dataset(DataConfig(f"{server.url}/tables/train.parquet", **LATER))


def test_a_server_that_sends_no_parts_sends_the_whole(packed, serve):
    server = serve(packed, ranges=False)
    assert contents(f"{server.url}/shards")[0] == contents(packed / "shards")[0]


def test_one_shard_without_an_index_and_one_parquet_file(packed, serve, tmp_path):
    (tmp_path / "alone").mkdir()
    shutil.copy(packed / "shards" / "train-000000.tar", tmp_path / "alone")
    server = serve(tmp_path)
    found = open_dataset(DataConfig(f"{server.url}/alone/train-000000.tar", **LATER))
    local = open_dataset(DataConfig(str(tmp_path / "alone" / "train-000000.tar"), **LATER))
    assert read_all(found.train) == read_all(local.train)
    server = serve(packed)
    server.faults = {"train.parquet": ["half", 500]}
    images, _ = contents(f"{server.url}/tables/train.parquet")
    assert images == contents(packed / "tables" / "train.parquet")[0]
    assert len(images) == 40


def test_a_damaged_plan_is_refused(packed, serve, tmp_path):
    shutil.copytree(packed / "shards", tmp_path / "shards")
    server = serve(tmp_path)
    plan = json.loads((tmp_path / "shards" / "shards.json").read_text())
    for document, words in (
        ({**plan, "complete": False}, "wasn't written to its end"),
        ({**plan, "shardlist": [{"url": "../x.tar", "filesize": 3}]}, "must be a file beside it"),
        ({**plan, "shardlist": 3}, "is damaged"),
        ({**plan, "classes": [1, 2]}, "has classes that are no list of names"),
        ({**plan, "classes": "cat"}, "has classes that are no list of names"),
        ([], "is no list of shards"),
        ("[" * 99_999, "is damaged"),
    ):
        forget()
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "shards" / "shards.json").write_text(text)
        with pytest.raises(DataError, match=words):
            open_dataset(DataConfig(f"{server.url}/shards", **LATER))


def test_training_from_a_url_survives_faults(packed, serve, tmp_path):
    server = serve(packed)
    settings = {"data": LATER, "duration": "4st", "batch": 8, "workers": 1, "device": "cpu", "precision": "fp32"}
    how = {"model": "mu/4", "image": (8, 8), "recipe": "small-vit", "settings": settings}
    here = vitreous.train(packed / "shards", out=tmp_path / "here", **how)
    server.faults = {file.name: [500, "half"] for file in (packed / "shards").iterdir()}
    there = vitreous.train(f"{server.url}/shards", out=tmp_path / "there", **how)
    weights = [(one.model / "model.safetensors").read_bytes() for one in (here, there)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 1])
@pytest.mark.slow
def test_training_ends_with_a_checkpoint_and_goes_on(packed, serve, quick, tmp_path, monkeypatch, workers):
    server = serve(packed)
    monkeypatch.setenv("VITREOUS_CACHE_GIB", "0.00000001")
    settings = {"data": LATER, "duration": "30st", "batch": 4, "workers": workers, "device": "cpu", "precision": "fp32"}
    how = {"model": "mu/4", "image": (8, 8), "recipe": "small-vit", "settings": settings}
    whole = vitreous.train(f"{server.url}/shards", out=tmp_path / "whole", **how)

    class Outage(vitreous.Callback):
        def on_step(self, step, numbers, model):
            if step == 3:
                server.faults = {file.name: [500] * 10_000 for file in (packed / "shards").iterdir()}

    with pytest.raises(DownloadFailed, match="could not be read in 5 attempts"):
        vitreous.train(f"{server.url}/shards", out=tmp_path / "cut", callbacks=[Outage()], **how)
    assert list((tmp_path / "cut" / "checkpoints").iterdir()), "the last finished step is saved"
    server.faults = {}
    again = vitreous.resume(tmp_path / "cut")
    weights = [(one.model / "model.safetensors").read_bytes() for one in (whole, again)]
    assert weights[0] == weights[1]


def test_a_file_system_without_its_package_says_which(quick):
    with pytest.raises(
        ConfigError, match=r"s3://bucket/shards\S* needs a package that isn't installed .*pip install s3fs"
    ):
        open_dataset(DataConfig("s3://bucket/shards"))


def test_an_object_store_is_not_tried_again_within_an_attempt(quick, monkeypatch):
    import fsspec
    from fsspec.implementations.memory import MemoryFileSystem
    from fsspec.registry import _registry

    class Store(MemoryFileSystem):
        protocol, cachable, retries, asked = "s3", False, 5, 0

        def cat_file(self, path, **part):
            Store.asked += 1
            assert self.retries == 1
            assert self.storage_options["config_kwargs"] == {
                "connect_timeout": 0.3, "read_timeout": 7, "retries": {"max_attempts": 0}, "signature_version": "unsigned",
            }  # fmt: skip
            raise TimeoutError("no answer")

    monkeypatch.setitem(_registry, "s3", Store)
    monkeypatch.setitem(
        fsspec.config.conf, "s3", {"config_kwargs": {"signature_version": "unsigned", "read_timeout": 7}}
    )
    with pytest.raises(DownloadFailed, match="in 5 attempts"):
        remote.fetch_part("s3://bucket/train.tar", 0, 10)
    assert Store.asked == 5


def test_a_url_is_inspected(packed, serve):
    server = serve(packed)
    found = vitreous.inspect(f"{server.url}/shards")
    assert (found.kind, found.facts.train + found.facts.validation) == ("data", 40)
    with pytest.raises(DataError, match=r"holds no \.tar or \.parquet files"):
        vitreous.inspect(f"{server.url}/nowhere")


def test_other_file_systems_of_fsspec_work_alike(packed, quick):
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in (packed / "shards").iterdir():
        memory.pipe(f"/set/{file.name}", file.read_bytes())
    try:
        assert contents("memory://set")[0] == contents(packed / "shards")[0]
        memory.rm("/set/shards.json")
        forget()
        assert contents("memory://set")[0] == contents(packed / "shards")[0], "the folder is listed"
    finally:
        memory.rm("/set", recursive=True)


def test_what_is_a_url(tmp_path, monkeypatch):
    assert find_url(Path("https://a.org/x")) == "https://a.org/x"
    assert find_url("S3://b/x") == "s3://b/x"
    for text in (
        "photos",
        "digits",
        "formula:atoms",
        "file:///x",
        "hf://a/b",
        "https://huggingface.co/a/b",
        "c:/x",
        "object:3",
    ):
        assert find_url(text) is None
    (tmp_path / "s3:" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert find_url("s3://b") is None

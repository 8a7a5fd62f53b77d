"""A stream of images to predictions: in order, bounded, decoding and computing and the caller at the same time."""

import os
import threading
from pathlib import Path

import pytest
from PIL import Image
from tests.test_predictor import CLASSES, folder_of, pixels

from vitreous import predictor as predictor_module
from vitreous.predictor import Predictor
from vitreous.runtime import pipeline


@pytest.fixture(scope="module")
def predictor():
    return Predictor(folder_of(), device="cpu", batch=4)


def test_the_stream_is_lazy_and_bounded(predictor):
    predictor([pixels(0)] * 16)  # its engine keeps threads of its own from then on
    taken, before = 0, set(threading.enumerate())  # a server of other tests has threads of the same names

    def images():
        nonlocal taken
        while True:
            taken += 1
            yield pixels(taken % 5)

    stream = predictor.predict_many(images())
    for expected in range(1, 30):
        assert next(stream).name == f"image {expected}"
        assert taken <= expected + 4 * predictor.batch
    stream.close()
    assert not [
        thread for thread in set(threading.enumerate()) - before if thread.name.startswith(("decode", "compute"))
    ]


def test_images_in_flight_are_bounded(predictor, monkeypatch):
    """Whole images: one for each thread that decodes. The model's pixels: four batches, one of them the caller's."""
    lock, counts = threading.Lock(), {"whole": 0, "ready": 0}
    most = dict(counts)

    def count(kind, change):
        with lock:
            counts[kind] += change
            most[kind] = max(most[kind], counts[kind])

    def noted(*arguments, decode=predictor_module.prepare):
        count("whole", 1)
        try:
            return decode(*arguments)
        finally:
            count("whole", -1)
            count("ready", 1)

    monkeypatch.setattr(predictor_module, "prepare", noted)
    monkeypatch.setattr(pipeline, "count_cores", lambda: 64)
    for one in predictor.predict_many(pixels(number % 5) for number in range(100)):
        assert one.label in CLASSES
        count("ready", -1)
    assert counts == {"whole": 0, "ready": 0}
    assert most["whole"] <= pipeline.DECODERS
    assert most["ready"] <= 4 * predictor.batch


def test_the_caller_and_the_model_work_at_the_same_time(predictor, monkeypatch):
    """The next batch is computed while the caller has the one before."""
    computed = threading.Semaphore(0)
    classify = Predictor._classify

    def noted(self, group):
        yield from classify(self, group)
        computed.release()

    monkeypatch.setattr(Predictor, "_classify", noted)
    stream = predictor.predict_many(pixels(number % 5) for number in range(3 * predictor.batch))
    assert next(stream).label in CLASSES
    assert all(computed.acquire(timeout=20) for _ in range(2))
    assert len(list(stream)) == 3 * predictor.batch - 1


def test_behind_skipped_images_nothing_differs(predictor):
    images = [pixels(number) for number in range(11)]
    whole = list(predictor.predict_many(images))
    for skip in (4, 8, 11, 12):
        assert list(predictor.predict_many(images, skip=skip)) == whole[skip:]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """100,000 photographs take as much as 2,000; here 10,000 small ones, within a few megabytes for the allocator."""
    path = tmp_path / "photograph.jpg"
    Image.fromarray(pixels(0, (375, 500, 3))).save(path, quality=90)
    held = {}
    for count, one in enumerate(Predictor(folder_of(), device="cpu").predict_many([path] * 10_000), start=1):
        assert one.error is None
        if count in (2_000, 10_000):
            held[count] = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert held[10_000] - held[2_000] < 8e6


def test_an_error_of_the_source_comes_through(predictor):
    def images():
        yield pixels()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(predictor.predict_many(images()))

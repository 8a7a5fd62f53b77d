"""Images from formulas: pure functions of class and instance, the same in any process; classes apart, instances alike."""

import multiprocessing
import pickle
import re
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitreous.data.config import DataConfig
from vitreous.data.dataset import name_dataset, open_dataset
from vitreous.data.labelled_images import open_source
from vitreous.data.sources import in_memory
from vitreous.data.sources.base import Source
from vitreous.data.sources.in_memory import LIMIT, Remembered, remember
from vitreous.data.stream.loader import Examples, TrainStream, load_evaluation_batches, load_train_batches
from vitreous.data.synthetic.formula import (
    KINDS,
    UNVARIED,
    Formula,
    FormulaSource,
    is_formula,
    parse_formula,
    split_formula,
)
from vitreous.errors import DataError, UnknownName, UserError
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig

LIMITS = DecodeConfig()
SEEN = PreprocessConfig(size=(16, 16), crop=1.0)
MANY = sorted(set(KINDS) - {"fractals-one"})

kinds = st.sampled_from(MANY)
labels = st.integers(0, 10**7 - 1)
instances = st.integers(0, 10**7 - 1)
sizes = st.integers(8, 40)


def train_of(spec, **settings):
    return open_dataset(DataConfig(f"formula:{spec}", **settings)).train


def images(source, count=None):
    return np.stack([source.read(index) for index in range(count or len(source))])


def read_all(source):
    return [source.read(index).tobytes() for index in range(len(source))]


@given(kinds, st.integers(0, 2**63 - 1), labels, instances, sizes, st.sampled_from([1, 3]))
def test_an_image_is_a_pure_function(kind, seed, label, instance, size, channels):
    draw = KINDS[kind]
    first = draw(seed, label, instance, size, channels)
    draw(seed, label + 1, instance, 16, channels)
    assert np.array_equal(first, draw(seed, label, instance, size, channels))
    assert first.shape == (size, size, channels)
    assert first.dtype == np.uint8


@given(kinds, labels, instances, st.sampled_from([8, 32, 57, 224]))
def test_images_are_filled_and_have_a_margin_of_black(kind, label, instance, size):
    drawn = KINDS[kind](0, label, instance, size, 3)
    share = (drawn.max(axis=2) > 0).mean()
    assert 0.04 < share < 0.95
    assert drawn.max() >= 96


@given(kinds, labels, instances)
def test_class_instance_and_seed_each_change_the_image(kind, label, instance):
    draw = KINDS[kind]
    one = draw(3, label, instance, 32, 1)
    for other in (
        draw(4, label, instance, 32, 1),
        draw(3, label + 1, instance, 32, 1),
        draw(3, label, instance + 1, 32, 1),
    ):
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_classes_are_the_first_of_more(kind):
    few, more = (FormulaSource(Formula(kind, classes, 1, size=16), 1) for classes in (3, 500))
    assert np.array_equal(images(few), images(more, 3))
    assert few.classes == more.classes[:3]


@pytest.mark.parametrize("kind", [MANY[0], *(pytest.param(kind, marks=pytest.mark.slow) for kind in MANY[1:])])
def test_workers_change_no_pixel(kind):
    source = train_of(f"{kind}?classes=4&images=6&size=16")
    augment = AugmentConfig(crop="pad", crop_pad=2, mixup=0.4)
    stream = TrainStream(source, 5, augment, SEEN, LIMITS)
    straight = torch.stack([torch.from_numpy(stream.example(at).pixels.transpose(2, 0, 1)) for at in range(30)])
    for workers in (0, 1, 2):
        batches = list(load_train_batches(stream, 0, 7, 30, workers))
        assert torch.equal(torch.cat([batch.pixels for batch in batches]), straight)
        found = torch.cat(
            [batch.pixels for batch in load_evaluation_batches(Examples(source, SEEN, LIMITS), 5, workers)]
        )
        assert np.array_equal(found.numpy().transpose(0, 2, 3, 1), images(source))


@pytest.mark.slow
def test_the_same_pixels_in_a_process_that_knows_nothing():
    sources = [FormulaSource(Formula(kind, 5, 2, size=24), 2) for kind in MANY]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(read_all, sources) == [read_all(source) for source in sources]


def test_a_pickle_is_small_and_comes_back_the_same():
    source = train_of("fractals?classes=1000&images=1000")
    assert len(source.labels) == len(source.names) == 800_000
    packed = pickle.dumps(source)
    assert len(packed) < 1000
    assert pickle.loads(packed).fingerprint == source.fingerprint


def test_a_million_images_take_their_labels_and_little_more():
    tracemalloc.start()
    source = train_of("atoms?classes=1000&images=1250")
    assert (source.labels[::1000] == np.arange(1000)).all()
    assert source.names[999_999].startswith("atoms-00999/")
    assert source.read(123_456).shape == (32, 32, 3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2 * len(source)


def test_a_million_classes():
    train, held = split_formula(parse_formula("formula:contours?classes=1000000&images=5"), 0.2, 0)
    assert (len(train), len(held)) == (4_000_000, 1_000_000)
    assert train.names[3_999_999].startswith("contours-999999/")
    assert train.read(3_999_999).shape == (32, 32, 3)
    assert len(pickle.dumps(train)) < 1000


@given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(0, 99), st.integers(2, 5))
def test_the_split_is_by_instance_and_holds_out_the_share(images, holdout, seed, classes):
    train, held = split_formula(Formula("contours", classes, images, size=8), holdout, seed)
    seen, unseen = ([source.place(index) for index in range(len(source))] for source in (train, held))
    assert sorted(seen + unseen) == [(label, instance) for label in range(classes) for instance in range(images)]
    assert len(held) == classes * min(max(1, int(np.ceil(images * holdout - 1e-9))), images - 1)
    assert [label for label, _ in seen] == train.labels.tolist()


def test_the_split_has_a_seed_of_its_own():
    one, same, other = (train_of("atoms?classes=2&images=50", split_seed=seed) for seed in (0, 0, 1))
    assert list(one.names) == list(same.names) != list(other.names)


@given(st.one_of(st.slices(12), st.integers(-12, 11), st.integers(0, 11).map(np.int64)))
def test_names_are_taken_as_from_a_tuple(place):
    names = train_of("contours?classes=3&images=5&size=8").names
    assert names[place] == tuple(names)[place]


def test_one_image_a_class_is_measured_on_another():
    data = open_dataset(DataConfig("formula:fractals-one?classes=7&size=24"))
    assert data.facts.train == data.facts.validation == 7
    assert {data.train.place(index)[1] for index in range(7)} == {UNVARIED}
    assert data.train.names[2] == "fractals-00002/one"
    assert data.validation.names[2] == "fractals-00002/000001"
    assert "another instance" in str(data.report)
    whole = FormulaSource(Formula("fractals", 7, 2, size=24), 2)
    assert np.array_equal(data.validation.read(3), whole.read(7))


@pytest.mark.parametrize("kind", MANY)
def test_neighbours_tell_classes_apart(kind):
    """1-nearest neighbour on 16 x 16 grey pixels, 5 classes: far above the fifth that chance gives."""
    data = open_dataset(DataConfig(f"formula:{kind}?classes=5&images=60&size=16&colours=grey"))
    train, test = (
        (images(part) > 0).reshape(len(part), -1).astype(np.float32) for part in (data.train, data.validation)
    )
    distances = (train**2).sum(1) - 2 * test @ train.T
    right = data.train.labels[distances.argmin(1)] == data.validation.labels
    assert right.mean() > 0.6


def test_drawn_images_are_kept_in_memory_when_they_fit():
    source = train_of("contours?classes=3&images=5&size=16")
    kept = remember(source, LIMITS, SEEN)
    assert isinstance(kept, Remembered)
    first = [kept.read(index) for index in range(len(source))]
    assert np.array_equal(np.stack(first), images(source))
    assert np.array_equal(np.stack([kept.read(index) for index in range(len(source))]), images(source))
    again = remember(train_of("contours?classes=3&images=5&size=16"), LIMITS, SEEN)
    assert isinstance(again, Remembered)
    assert again.store is kept.store
    assert kept.fingerprint == source.fingerprint
    assert kept.names[3] == source.names[3]
    large = train_of("contours?classes=1000&images=1000&size=224")
    assert len(large) * 224 * 224 * 3 > LIMIT
    assert remember(large, LIMITS, SEEN) is large


def test_what_was_used_longest_ago_makes_room(monkeypatch):
    monkeypatch.setattr(in_memory, "DRAWN", {})
    monkeypatch.setattr(in_memory, "LIMIT", 3 * 16 * 16 * 3 * 24)
    sources = [train_of(f"atoms?classes=3&images=10&size=16&seed={seed}") for seed in range(4)]
    stores = [remember(source, LIMITS, SEEN).store for source in sources[:3]]
    assert remember(sources[0], LIMITS, SEEN).store is stores[0]
    remember(sources[3], LIMITS, SEEN)
    assert list(in_memory.DRAWN) == [sources[place].fingerprint for place in (2, 0, 3)]


def test_facts_and_report_without_drawing(monkeypatch):
    monkeypatch.setitem(KINDS, "atoms", None)
    data = open_dataset(DataConfig("formula:atoms?classes=12&images=10&size=48&colours=grey&seed=9"))
    assert isinstance(data.train, Source)
    assert (data.facts.train, data.facts.validation, data.facts.channels) == (96, 24, 1)
    assert data.facts.size == (48, 48)
    assert data.facts.counts == (8,) * 12
    assert "48x48 (all of them)" in str(data.report)
    assert data.train.fingerprint != data.validation.fingerprint


@pytest.mark.parametrize("change", ["classes=9", "images=11", "size=33", "seed=1", "colours=grey"])
def test_every_setting_changes_the_fingerprint(change):
    usual = "classes=8&images=10&size=32&seed=0&colours=rgb"
    name = change.split("=")[0]
    other = re.sub(rf"\b{name}=\w+", change, usual)
    assert train_of(f"atoms?{usual}").fingerprint != train_of(f"atoms?{other}").fingerprint
    assert train_of(f"atoms?{usual}").fingerprint == train_of("atoms?images=10&classes=8").fingerprint


def test_a_models_classes_number_the_labels():
    names = parse_formula("formula:atoms?classes=4").names
    found = open_source("formula:atoms?classes=3&images=5", names[::-1])
    assert found.labels.tolist() == [3, 2, 1]
    assert found.read(1).shape == (32, 32, 3)
    assert found.names[0].startswith("atoms-00000/")
    assert open_source("formula:atoms?classes=3&images=5").labels.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="not trained on: 'atoms-00002'"):
        open_source("formula:atoms?classes=3&images=5", names[:2])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("fractal", "did you mean 'fractals'"),
        ("", "unknown kind of formula ''"),
        ("atoms?clases=5", "did you mean 'classes'"),
        ("atoms?classes=1", "from 2 to 10,000,000"),
        ("atoms?classes=10000001", "from 2 to 10,000,000"),
        ("atoms?images=0", "from 1 to"),
        ("atoms?size=7", "from 8 to 1,024"),
        ("atoms?size=1025", "from 8 to 1,024"),
        ("atoms?seed=-1", "from 0 to"),
        ("atoms?classes=1e3", "whole number"),
        ("atoms?classes=٣", "whole number"),
        ("atoms?classes", "whole number"),
        ("atoms?classes=99999999999999999999999", "whole number"),
        ("atoms?classes=5&classes=6", "given twice"),
        ("atoms?colours=gray", "did you mean 'grey'"),
        ("atoms?classes=100000&images=10000", "one source may have at most 100,000,000"),
        ("fractals-one?images=5", "one image a class"),
    ],
)
def test_bad_specs_get_one_clear_line(spec, words):
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        parse_formula(f"formula:{spec}")
    assert "\n" not in str(caught.value)


words = st.sampled_from(["atoms", "?", "&", "=", "classes", "images", "size", "colours", "grey", "12", "_", "-", "%3D"])


@given(st.lists(words | st.text(max_size=3), max_size=9))
def test_any_text_is_read_or_refused(parts):
    try:
        formula = parse_formula(f"formula:{''.join(parts)}")
    except UserError:
        return
    assert parse_formula(str(formula)) == formula


def test_what_goes_wrong_around_it():
    with pytest.raises(DataError, match="holds out its own validation"):
        open_dataset(DataConfig("formula:atoms", validation="photos"))
    with pytest.raises(DataError, match="above 0 and below 1"):
        open_dataset(DataConfig("formula:atoms", holdout=1.0))
    with pytest.raises(UnknownName):
        open_source("formula:atomz")
    with pytest.raises(IndexError, match="example 4 of 4"):
        train_of("atoms?classes=2&images=3").read(4)


def test_names_for_folders():
    assert is_formula("formula:atoms")
    assert not is_formula("photos")
    assert name_dataset("formula:contours?classes=3&size=8") == "formula-contours"
    assert name_dataset("digits") == "digits"
    assert name_dataset("some/photos/") == "photos"

"""Near-duplicates: the same picture encoded anew, resized or cropped is found, another is not."""

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitreous.evaluation.review import duplicates
from vitreous.evaluation.review.checks import BLURRED, DUPLICATE, FLAT, SMALL, find_duplicates, find_unusable
from vitreous.evaluation.review.duplicates import (
    CANDIDATE_BITS,
    SIDE,
    find_near_duplicates,
    pair_hashes,
    perceptual_hash,
)
from vitreous.evaluation.review.pictures import Look
from vitreous.shapes import Size


def scene(seed):
    """Return a picture of shapes: low frequencies, as photographs have them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((180, 140), Image.Resampling.BICUBIC), np.float32)
    return Image.fromarray(np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8))


def grey(image):
    return np.asarray(image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))


def again(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


CHANGES = {
    "encoded": lambda image: again(image, 30),
    "resized": lambda image: image.resize((70, 60), Image.Resampling.BILINEAR),
    "cropped": lambda image: image.crop((6, 3, 174, 138)),
    "cropped at a side": lambda image: image.crop((0, 0, 168, 136)),
    "all of it": lambda image: again(image.crop((4, 4, 176, 136)).resize((120, 90)), 50),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_same_picture_is_found_among_others(change):
    scenes = [scene(seed) for seed in range(40)]
    pictures = [*map(grey, scenes), *(grey(change(scenes[number])) for number in range(5))]
    found = find_near_duplicates(pictures)
    assert {pair[1:] for pair in found} == {(number, 40 + number) for number in range(5)}
    assert [score for score, _, _ in found] == sorted((score for score, _, _ in found), reverse=True)


@pytest.mark.slow
def test_ten_planted_among_five_hundred_are_the_first_ten():
    scenes = [scene(seed) for seed in range(490)]
    rng = np.random.default_rng(0)
    chosen, changes = rng.choice(490, 10, replace=False), list(CHANGES.values())
    pictures = [*map(grey, scenes), *(grey(changes[n % 5](scenes[one])) for n, one in enumerate(chosen))]
    found = [pair[1:] for pair in find_near_duplicates(pictures)[:20]]
    assert sum((int(one), 490 + n) in found for n, one in enumerate(chosen)) >= 9


def test_pictures_that_show_nothing_are_like_no_other():
    plain = [np.full((SIDE, SIDE), value, np.uint8) for value in (0, 0, 128, 129)]
    assert find_near_duplicates(plain) == []
    assert perceptual_hash(plain[0]).dtype == np.uint64


@given(st.lists(st.integers(0, 2**64 - 1) | st.sampled_from([1, 3, 7]), max_size=20), st.integers(1, 60))
def test_the_nearest_hashes_are_paired(numbers, most):
    pairs = [(row, col) for row in range(len(numbers)) for col in range(row + 1, len(numbers))]
    apart = sorted(((numbers[row] ^ numbers[col]).bit_count(), row, col) for row, col in pairs)
    expected = [pair for bits, *pair in apart if bits <= CANDIDATE_BITS][:most]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "CHUNK", 7)
        assert list(map(list, pair_hashes(np.array(numbers, np.uint64), most))) == expected


def test_many_alike_take_little_memory():
    tracemalloc.start()
    assert len(pair_hashes(np.full(1500, 7, np.uint64), 3000)) == 3000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50 * 2**20, "all million pairs as tuples are twice as much"


def test_few_windows_are_held_at_a_time(monkeypatch):
    pictures = [grey(scene(seed % 4)) for seed in range(12)]
    whole = find_near_duplicates(pictures, [(0, 5)])
    monkeypatch.setattr(duplicates, "TILE", 2)
    assert find_near_duplicates(pictures, [(0, 5)]) == whole and len(whole) == 12


def look(image=None, digest=b"", size=(140, 180), contrast=50.0, sharpness=400.0):
    picture = np.zeros((SIDE, SIDE), np.uint8) if image is None else grey(image)
    return Look(digest, Size(*size), picture, contrast, sharpness)


def test_duplicates_across_splits_come_first_and_the_training_image_goes():
    scenes = [scene(seed) for seed in range(3)]
    images = [scenes[0], scenes[0], scenes[1], CHANGES["encoded"](scenes[1]), scenes[2]]
    looks = [look(image, bytes([number])) for number, image in enumerate(images)]
    found = find_duplicates(looks, ["train", "train", "train", "validation", "validation"], [])
    assert [(one.kind, one.index, one.other) for one in found] == [(DUPLICATE, 2, 3), (DUPLICATE, 1, 0)]


@pytest.mark.parametrize(
    ("splits", "gone"),
    [(("test", "train"), 1), (("validation", "test"), 0), (("validation", "train"), 1), (("test", "validation"), 1)],
)
def test_an_image_of_the_test_split_stays_where_another_is_like_it(splits, gone):
    (found,) = find_duplicates([look(digest=b"a"), look(digest=b"a")], splits, [])
    assert (found.index, found.leave_out) == (gone, True)


def test_the_same_bytes_are_duplicates_whatever_they_show():
    looks = [look(digest=b"a"), look(digest=b"b"), look(digest=b"a")]
    assert [(one.index, one.other, one.score) for one in find_duplicates(looks, [""] * 3, [])] == [(2, 0, 1.0)]


def test_what_is_small_blurred_or_of_one_colour():
    looks = [look() for _ in range(9)]
    looks += [look(size=(30, 400)), look(sharpness=3.0), look(contrast=1.0, sharpness=0.0)]
    found = [(one.kind, one.index, one.leave_out) for one in find_unusable(looks)]
    assert found == [(SMALL, 9, False), (BLURRED, 10, False), (FLAT, 11, True)]


@pytest.mark.parametrize("splits", [[""] * 10, ["train"] * 4 + ["validation"] * 6])
def test_of_a_chain_every_other_image_stays(monkeypatch, splits):
    """Frames of a video each resemble the next: an image is left out only for one that stays."""
    looks = [look(digest=bytes([number])) for number in range(10)]
    monkeypatch.setattr(
        "vitreous.evaluation.review.checks.find_near_duplicates",
        lambda greys, candidates: [(0.97, number, number + 1) for number in range(9)],
    )
    found = find_duplicates(looks, splits, [])
    assert len(found) == 9
    gone = {one.index for one in found if one.leave_out}
    assert all(one.other not in gone for one in found if one.leave_out)
    assert all({one.index, one.other} & gone for one in found)
    assert len(gone) <= 6
    assert all(one.index in gone for one in found if splits[one.index] != splits[one.other])

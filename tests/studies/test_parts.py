"""What studies are built from: halves of the classes, resized positions, numbers taken inside a model."""

import numpy as np
import pytest
import torch

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.data.labelled_images import open_source
from vitreous.errors import ConfigError
from vitreous.images.config import DecodeConfig
from vitreous.images.decode import decode
from vitreous.metrics.seeds import settle_verdicts
from vitreous.model.config import ViTConfig
from vitreous.model.factory import create
from vitreous.studies import inside, resolution, self_training
from vitreous.studies.engine.class_split import split_classes, write_split
from vitreous.studies.engine.data_subset import open_setting
from vitreous.studies.engine.few_shot_measure import take_each_class
from vitreous.studies.engine.study import CellResult, CellResults, Setting


@pytest.fixture
def digits(tmp_path):
    return open_setting("smoke", "digits", tmp_path)


def test_halves_are_what_they_say(digits):
    source, target = split_classes(digits, labelled=20)
    write_split(digits, labelled=20)
    for part, classes in ((source, "02468"), (target, "13579")):
        found = open_dataset(part.data)
        assert found.facts.classes == part.facts.classes == tuple(classes)
        assert (found.facts.train, found.facts.counts) == (part.facts.train, part.facts.counts)
        assert found.facts.size == part.facts.size
    assert target.facts.counts == (20,) * 5
    whole = open_dataset(digits.data)
    one = open_dataset(source.data).train
    pixels = whole.train.read(int(np.flatnonzero(whole.train.labels == 0)[0]))
    assert any(np.array_equal(decode(one.read(index), DecodeConfig(), "L"), pixels) for index in range(len(one)))


def test_halves_of_few_classes_are_refused(digits, tmp_path):
    from dataclasses import replace

    few = replace(digits, facts=replace(digits.facts, classes=("a", "b", "c"), counts=(1, 1, 1)))
    with pytest.raises(ConfigError, match="needs four or more, but the data has 3"):
        split_classes(few)


def test_images_from_formulas_are_written_and_none_over_another(tmp_path):
    formulas = open_setting("smoke", "formula:contours?classes=4&images=5&size=8", tmp_path)
    source, _ = split_classes(formulas, labelled=2)
    write_split(formulas, labelled=2)
    whole, part = open_dataset(formulas.data).train, open_dataset(source.data).train
    expected = [whole.read(index) for index in range(len(whole)) if whole.labels[index] % 2 == 0]
    assert sorted(decode(part.read(index), DecodeConfig()).tobytes() for index in range(len(part))) == sorted(
        pixels.tobytes() for pixels in expected
    )


def test_some_images_of_every_class_lose_their_labels(tmp_path):
    few = open_setting("laptop", "formula:contours?classes=3&images=10&size=8", tmp_path)
    self_training.write_lists(few)
    parts = [
        open_source(str(tmp_path / name), split="train") for name in (self_training.LABELLED, self_training.UNLABELLED)
    ]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[4] * 3, [4] * 3]
    assert self_training.choose_facts(few).counts == (4, 4, 4)


def test_a_part_of_each_class_reads_the_same_images(digits):
    train = open_dataset(digits.data).train
    part = take_each_class(train, 3)
    assert np.bincount(part.labels).tolist() == [3] * 10
    for index in range(len(part)):
        place = train.names.index(part.names[index])
        assert train.labels[place] == part.labels[index]
        assert np.array_equal(train.read(place), part.read(index))
    assert part.fingerprint != take_each_class(train, 4).fingerprint


def vit(side, **fields):
    shape = {
        "image": (side, side),
        "patch": (2, 2),
        "channels": 1,
        "width": 8,
        "depth": 1,
        "heads": 2,
        "mlp_width": 8,
        "classes": 3,
    }
    return create(ViTConfig(**shape, **fields), seed=5)


def test_positions_along_the_sequence_and_anew():
    old = vit(4)
    new = old.resize((8, 8))
    resolution.replace_positions(old, new, resolution.interpolate_sequence, torch.Generator())
    before, after = old.positions.embedding.detach(), new.positions.embedding.detach()
    assert torch.equal(after[0], before[0]), "[class] keeps its own"
    places = (np.arange(16) + 0.5) / 4 - 0.5
    expected = [np.interp(places, np.arange(4), before[1:, column].numpy()) for column in range(8)]
    np.testing.assert_allclose(after[1:].numpy().T, expected, atol=1e-6)
    resolution.replace_positions(old, new, resolution.draw_positions, torch.Generator().manual_seed(1))
    assert after[1:].std().item() == pytest.approx(0.02, rel=0.3)


def test_similar_places_are_measured_as_they_are():
    rows, cols = 5, 4
    r, c = np.mgrid[:rows, :cols].reshape(2, -1)
    down, across = np.abs(r[:, None] - r), np.abs(c[:, None] - c)
    by_distance = -np.hypot(down, across).reshape(rows, cols, rows, cols)
    found = inside.measure_similarity(by_distance)
    assert found["near"] == pytest.approx(-1)
    assert found["cross"] == pytest.approx(0, abs=1e-12), "distance alone is no cross"
    crosses = ((down == 0) | (across == 0)).astype(float).reshape(rows, cols, rows, cols)
    assert inside.measure_similarity(crosses)["cross"] == pytest.approx(1)


@pytest.mark.parametrize(("narrowest", "seen"), [(-0.3, ("seen", "seen")), (0.45, ("can't be told", "not seen"))])
def test_a_far_head_counts_only_beside_near_ones(tmp_path, narrowest, seen):
    facts = open_dataset(DataConfig("digits")).facts
    numbers = {"top1": 0.5, "deeper": 0.1, "global": 0.08, "local": narrowest, "smooth": 0.1, "even": 2.0}
    numbers |= {"similarity": np.random.default_rng(0).random((4, 4, 4, 4)).tolist(), "distance": [[1.0, 2.0]]}
    numbers |= {"filters": np.ones((2, 1, 2, 2)).tolist(), "shares": [0.6, 0.4]}
    done = [
        CellResult(
            f"trained-{seed}",
            inside.GROUP,
            seed,
            numbers | {"local": narrowest + 0.01 * seed, "global": 0.08 + 0.001 * seed},
        )
        for seed in range(3)
    ]
    setting = Setting("laptop", DataConfig("digits"), facts, tmp_path)
    told = {one.claim: one.seen for one in settle_verdicts(inside.conclude(setting, CellResults(done, 3)).verdicts)}
    assert (told[inside.CLAIMS["global"][0]], told[inside.CLAIMS["local"][0]]) == seen


def test_smoothness_is_one_for_flat_and_minus_one_for_chequered_filters():
    flat, chequered = np.ones((1, 3, 4, 4)), (np.indices((4, 4)).sum(0) % 2 * 2.0 - 1)[None, None]
    assert inside.measure_smoothness(flat) == pytest.approx(1)
    assert inside.measure_smoothness(chequered) == pytest.approx(-1)
    assert inside.measure_smoothness(np.ones((1, 1, 1, 1))) == 0

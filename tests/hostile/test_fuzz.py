"""The fuzzing harness finds what is planted, and makes every case again from its number."""

import mmap
import random

import pytest
from tests.fuzz import __main__ as fuzz
from tests.fuzz import worker
from tests.fuzz.cases import contents, kinds, make_case
from tests.fuzz.mutate import LARGEST, MUTATIONS, mutate
from tests.support import planted


@pytest.mark.parametrize(
    ("what", "verdict"),
    [("crash", "crashed"), ("hang", "slow"), ("escape", "escaped"), ("memory", "memory"), ("refuse", "refused")],
)
def test_what_is_planted_is_found(tmp_path, monkeypatch, what, verdict):
    monkeypatch.setenv("PLANTED", what)
    monkeypatch.setattr(fuzz, "PATIENCE", 1.0)
    answers = list(fuzz.attempt_all("tests.support.planted", planted.seeds(tmp_path), 3, [5], 1))
    assert [(answer.number, answer.verdict) for answer in answers] == [(5, verdict)]


def test_memory_that_was_given_back_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "MEMORY", 2**26)

    def touch(count):
        with mmap.mmap(-1, count) as pages:  # always new ones, which a heap that keeps freed blocks would not take
            pages.write(bytes(count))

    assert worker.attempt(lambda path: touch(2**27), tmp_path).verdict == "memory"
    assert worker.attempt(lambda path: touch(2**20), tmp_path).verdict == "passed"


def test_a_case_is_a_function_of_seed_kind_and_number(tmp_path):
    model = tmp_path / "samples" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_bytes(b'{"size": [1, 2]}')
    (model / "weights").write_bytes(bytes(range(256)))
    made = []
    for seed, number, name in ((0, 7, "a"), (0, 7, "b"), (0, 8, "c"), (1, 7, "d")):
        (tmp_path / name).mkdir()
        path = make_case(planted, [model], seed, number, tmp_path / name)
        made.append([inner.read_bytes() for inner in contents(path)])
    assert made[0] == made[1]
    assert made[0] != made[2]
    assert made[0] != made[3]
    assert made[0][0] == b'{"size": [1, 2]}' or made[0][1] == bytes(range(256))  # one file of the folder is changed


def test_mutations_stay_bounded_and_take_any_bytes():
    for number in range(300):
        chance = random.Random(number)
        data = chance.randbytes(chance.choice((0, 1, 30, 5000)))
        assert len(mutate(data, chance, chance.randbytes(chance.choice((0, 1, 3000))))) <= LARGEST
    assert len(MUTATIONS) > 5


def test_images_are_a_kind_and_the_harness_is_none():
    assert "images" in kinds()
    assert "worker" not in kinds()

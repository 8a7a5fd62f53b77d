"""Passes through a model: shared, bounded, in order, and without those who have left."""

import asyncio

import numpy as np
import pytest

from vitreous.serving.batcher import Batcher


def pixels(number):
    return np.full((2, 2, 3), number, np.uint8)


def run(work, most=4, wait=0.05, computes=None, accepted=100):
    """Run a coroutine with a batcher whose rows are the images' means; return what it returns and the passes' sizes."""
    passes = []

    async def main():
        mean = lambda stack: stack.mean(axis=(1, 2, 3))[:, None]  # noqa: E731
        batcher = Batcher(
            computes or {"mean": mean, "more": lambda stack: mean(stack) + 0.5},
            most,
            wait,
            lambda n, _: passes.append(n),
            lambda: accepted,
        )
        batcher.start()
        try:
            return await work(batcher)
        finally:
            await batcher.close()

    return asyncio.run(main()), passes


async def ask_all(batcher, kinds):
    answers = await asyncio.gather(*(batcher.ask(kind, pixels(number)) for number, kind in enumerate(kinds)))
    return [float(one.row[0]) for one in answers]


def test_images_share_passes_of_the_most_that_are_allowed():
    found, passes = run(lambda batcher: ask_all(batcher, ["mean"] * 10))
    assert found == list(range(10)) and passes == [4, 4, 2]


def test_a_pass_is_of_one_kind():
    found, passes = run(lambda batcher: ask_all(batcher, ["mean", "more", "mean", "more"]))
    assert found == [0, 1.5, 2, 3.5] and passes == [2, 2]


def test_an_image_waits_no_longer_than_its_deadline():
    async def work(batcher):
        answer = await batcher.ask("mean", pixels(7))
        return answer.queued

    queued, passes = run(work, wait=0.05)
    assert passes == [1] and queued >= 0.045


def test_nobody_waits_where_no_other_image_is_on_its_way():
    async def work(batcher):
        answers = await asyncio.gather(*(batcher.ask("mean", pixels(number)) for number in range(3)))
        return max(one.queued for one in answers)

    queued, passes = run(work, wait=5, accepted=3)
    assert passes == [3] and queued < 1


def test_who_leaves_takes_his_image_out_of_the_queue():
    async def work(batcher):
        leaving = [asyncio.create_task(batcher.ask("mean", pixels(0))) for _ in range(3)]
        await asyncio.sleep(0)
        assert len(batcher.waiting) == 3
        for one in leaving:
            one.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        assert not batcher.waiting
        return await ask_all(batcher, ["mean"])

    assert run(work) == ([0], [1])


def test_an_error_goes_to_those_who_shared_the_pass_and_ends_nothing():
    def compute(stack):
        if stack.max() == 1:
            raise MemoryError("too little")
        return stack.mean(axis=(1, 2, 3))[:, None]

    async def work(batcher):
        with pytest.raises(MemoryError):
            await ask_all(batcher, ["mean", "mean"])
        return (await batcher.ask("mean", pixels(3))).row.tolist()

    assert run(work, computes={"mean": compute})[0] == [3]

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.errors import ConfigError
from vitreous.training.config import ScheduleConfig
from vitreous.training.duration import Scale
from vitreous.training.schedule import Schedule


def schedule(kind: str, warmup: str = "10st", cooldown: str = "0st", total: int = 110, **more: object) -> Schedule:
    config = ScheduleConfig(kind=kind, warmup=warmup, cooldown=cooldown, **more)  # type: ignore[arg-type]
    return Schedule.plan(config, Scale(1_000, 10, total))


def test_warm_up_is_linear_and_reaches_the_peak() -> None:
    plan = schedule("cosine")
    assert [plan.share(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])


def test_cosine_is_the_closed_form() -> None:
    plan = schedule("cosine")
    assert plan.share(60) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))
    assert plan.share(10) == 1.0


def test_linear_and_final() -> None:
    plan = schedule("linear", final=0.1)
    assert plan.share(60) == pytest.approx(0.1 + 0.9 * 0.5)


def test_rsqrt_ends_in_a_linear_cool_down() -> None:
    plan = schedule("rsqrt", cooldown="20st", timescale=100)
    assert plan.share(50) == pytest.approx(math.sqrt(100 / 140))
    assert plan.share(100) == pytest.approx(math.sqrt(100 / 190) * 10 / 20)


def test_constant_holds_until_the_cool_down() -> None:
    plan = schedule("constant", cooldown="10%", total=110)
    assert plan.share(98) == 1.0
    assert plan.share(109) == pytest.approx(1 / 11)


@given(st.sampled_from(["cosine", "linear", "rsqrt", "constant", "steps"]), st.integers(0, 50), st.integers(0, 50))
def test_every_share_lies_between_0_and_1(kind: str, warmup: int, cooldown: int) -> None:
    plan = schedule(kind, f"{warmup}st", f"{cooldown}st")
    assert all(0 <= plan.share(step) <= 1 for step in range(plan.total))


def test_steps_drop_at_durations_and_shares() -> None:
    plan = schedule("steps", milestones=("30%", "66st", "9ep"), milestone_factor=0.5, total=1000)
    assert plan.milestones == (300, 66, 900)
    assert [plan.share(step) for step in (9, 65, 66, 299, 300, 899, 900, 999)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
        0.25,
        0.125,
        0.125,
    ]


def test_a_warm_up_longer_than_the_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="longer than the run"):
        schedule("cosine", warmup="200st")


@pytest.mark.parametrize("kind", ["cosine", "linear", "rsqrt", "constant", "steps"])
def test_the_first_step_of_a_warm_up_moves_and_its_last_is_the_peak(kind: str) -> None:
    plan = schedule(kind, warmup="8st")
    assert [plan.share(step) for step in (0, 7, 8)] == pytest.approx([1 / 8, 1, 1])
    assert schedule(kind, warmup="0st").share(0) == 1

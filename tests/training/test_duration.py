import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitreous.errors import ConfigError
from vitreous.training.duration import Duration, Scale

SCALE = Scale(examples=50_000, batch=500, total=2_000, steps_per_minute=120.0)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("90ep", 9_000),
        ("2500st", 2_500),
        ("10kst", 10_000),
        ("1.28Mex", 2_560),
        ("15min", 1_800),
        ("5%", 100),
        ("0.5 ep", 50),
        ("500st,10%", 200),
        ("100st,10%", 100),
        ("5ep, 30st, 50%", 30),
    ],
)
def test_each_unit_converts_to_steps(text: str, steps: int) -> None:
    assert Duration.parse(text).steps(SCALE) == steps


@pytest.mark.parametrize(
    "text", ["", "90", "ep", "-3ep", "3 epochs", "1e3st", "nanst", "5st,", ",5st", "5st,,5%", "5st" + ",5st" * 2000]
)
def test_anything_else_is_one_clear_line(text: str) -> None:
    with pytest.raises(ConfigError, match="can't read the duration"):
        Duration.parse(text)


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="share of the run"):
        Duration.parse("5%").steps(Scale(10, 2))


@given(st.integers(1, 10**6), st.integers(1, 10**4))
def test_epochs_and_examples_agree(examples: int, batch: int) -> None:
    scale = Scale(examples, batch)
    assert Duration.parse("3ep").steps(scale) == Duration(3.0 * examples, "ex").steps(scale)


@pytest.mark.parametrize("amount", ["9" * 400, "1" + "0" * 30, "2000000000G"])
def test_a_duration_longer_than_any_run_is_refused(amount):
    with pytest.raises(ConfigError, match=r"longer than any run; use at most 1,000,000,000,000,000"):
        Duration.parse(f"{amount}ep")

"""The checks of the test run are there: what has another type or shape than is annotated is caught wherever it passes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import beartype
import jaxtyping
import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from tests.support.shape_checks import jaxtyped
from torch import Tensor

from vitreous.metrics import classification

if TYPE_CHECKING:
    from nowhere import Unknown

checked = jaxtyped(typechecker=beartype.beartype, everything=True)


@checked
def halves(whole: Float[Tensor, "batch token"], half: Float[Tensor, "batch half"]) -> Float[Tensor, "batch half"]:
    return half[: len(whole)].clone()


@checked
def anything(thing: "Unknown", number: "int" = 0, *, more: "str" = "") -> "Later":
    return thing


@checked
@dataclass(frozen=True)
class Later:
    rows: Float[Tensor, "row 2"]
    count: int = 0

    @property
    @checked
    def doubled(self) -> str:
        return self.count * 2

    @classmethod
    @checked
    def of(cls, count: int) -> "Later":
        return cls(torch.zeros(1, 2), count)


@checked
def answer(given: Float[Tensor, "row 2"], answers: list) -> Float[Tensor, " row"]:
    return answers[0]


@checked
def chosen(given: Float[Tensor, " row"], how: Literal["sum", "mean"]) -> Float[Tensor, ""]:
    return given.sum() if how == "sum" else given.mean()


class Alternating:
    """Gives another answer each time, to the same question."""

    def __init__(self, *answers):
        self.answers = iter(answers)

    @checked
    def answer(self, rows: Float[Tensor, "row 2"]) -> Float[Tensor, " row"]:
        return next(self.answers)


WHOLE, LATER = torch.zeros(3, 4), Later(torch.zeros(5, 2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: halves(WHOLE, torch.zeros(2, 2)),  # the axis's lengths differ
        lambda: halves(WHOLE, torch.zeros(3)),
        lambda: halves(WHOLE, torch.zeros(3, 2, dtype=torch.int64)),
        lambda: halves(WHOLE[:2], half=torch.zeros(3, 2)),
        lambda: anything(LATER, "1"),
        lambda: anything(LATER, more=1),
        lambda: anything(7),  # the result
        lambda: Later(torch.zeros(5, 3)),
        lambda: Later(torch.zeros(5, 2), "many"),
        lambda: LATER.doubled,
        lambda: Later.of(1.5),
    ],
)
def test_what_does_not_fit_is_caught(call):
    with pytest.raises(BeartypeCallHintViolation):
        call()


def test_what_fits_passes():
    assert halves(WHOLE, torch.zeros(3, 2)).shape == (3, 2)
    assert halves(torch.zeros(1, 1), half=torch.zeros(1, 9)).shape == (1, 9)
    assert anything(LATER, 1, more="x") is LATER
    assert Later.of(3).count == 3


def test_what_was_right_once_is_asked_again_where_types_or_shapes_differ():
    assert halves(WHOLE, torch.zeros(3, 2)).shape == (3, 2)
    for wrong in (torch.zeros(4, 2), torch.zeros(3, 2).long(), torch.zeros(3)):
        with pytest.raises(BeartypeCallHintViolation):
            halves(WHOLE, wrong)
    assert chosen(torch.ones(3), "sum") == 3
    with pytest.raises(BeartypeCallHintViolation):
        chosen(torch.ones(3), "median")


@pytest.mark.parametrize("wrong", [torch.zeros(2), torch.zeros(3).long(), None, [torch.zeros(3)]])
def test_a_result_is_asked_about_though_the_question_is_known(wrong):
    one, rows = Alternating(torch.zeros(3), torch.ones(3), wrong, torch.zeros(3)), torch.zeros(3, 2)
    assert one.answer(rows).sum() == 0
    assert one.answer(rows).sum() == 3
    with pytest.raises(BeartypeCallHintViolation):
        one.answer(rows)
    assert one.answer(rows).sum() == 0, "and the function runs once a call"
    with pytest.raises(StopIteration):
        one.answer(rows)


def test_lists_are_looked_into_each_time():
    answers = [torch.zeros(3)]
    assert answer(torch.zeros(3, 2), answers) is answers[0]
    answers[0] = torch.zeros(4)
    with pytest.raises(BeartypeCallHintViolation):
        answer(torch.zeros(3, 2), answers)


def test_they_are_on_the_product_and_can_be_left_out():
    with pytest.raises(TypeError, match="violates type hint"):
        classification.top_k(np.zeros((3, 2)), np.zeros(2, dtype=np.int64), 1)
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        assert halves(WHOLE, torch.zeros(2, 2)).shape == (2, 2)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)

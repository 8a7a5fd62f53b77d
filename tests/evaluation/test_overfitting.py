"""Overfitting is named by a stated rule, and healthy runs are left in peace."""

import math

import pytest

from vitreous.evaluation.overfitting import find_overfitting


def records(held, trained, accuracies=(), top1=(), share="accuracy", headline="top1"):
    """Return records of a run: an evaluation each 100 steps, and five training records up to it, between which values go evenly."""
    found = []
    for index, loss in enumerate(held):
        for part in range(1, 6):
            one = {"kind": "train", "step": 100 * index + 20 * part}
            for name, values in (("loss", trained), (share, accuracies)):
                if values:
                    before = values[max(0, index - 1)]
                    one[name] = before + (values[index] - before) * part / 5
            found.append(one)
        figures = {headline: top1[index]} if top1 else {}
        found.append({"kind": "evaluation", "step": 100 * (index + 1), "loss": loss, **figures})
    return found


FALLING = [2.0, 1.2, 0.7, 0.4, 0.2, 0.1]
LEARNING = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95]


def test_a_held_out_loss_that_rises_while_training_goes_on_is_named():
    found = find_overfitting(records([1.8, 1.3, 1.1, 1.3, 1.6, 2.0], FALLING, top1=[0.3, 0.5, 0.6, 0.6, 0.6, 0.6]), 100)
    assert found is not None and found.shares is None
    assert (found.since, found.held_out) == (300, (1.1, 2.0))
    last_tenth = [0.2 + (0.1 - 0.2) * part / 5 for part in (3, 4, 5)]  # steps 560, 580 and 600 of 600
    assert found.training == pytest.approx((0.8, sum(last_tenth) / 3))  # 260, 280 and 300: 0.9, 0.8, 0.7
    assert str(found).startswith(
        "from step 300 on the held-out loss rose from 1.1 to 2 while the training loss fell from 0.8"
    )


@pytest.mark.parametrize("share, headline, name", [("accuracy", "top1", "top-1"), ("micro_f1", "micro_f1", "micro F1")])
def test_training_far_above_held_out_is_named(share, headline, name):
    held, top1 = [1.8, 1.5, 1.4, 1.35, 1.33, 1.33], [0.2, 0.3, 0.4, 0.45, 0.5, 0.5]
    found = find_overfitting(records(held, FALLING, LEARNING, top1, share, headline), 200)
    assert found is not None and found.since is None
    assert found.shares == pytest.approx((0.94, 0.5))
    assert str(found) == f"{name} at the end 94.0% on training images, 50.0% on held-out ones"


def test_both_signs_are_said_in_one_breath():
    found = find_overfitting(
        records([1.8, 1.3, 1.1, 1.3, 1.6, 2.0], FALLING, LEARNING, [0.3, 0.4, 0.5, 0.5, 0.5, 0.5]), 200
    )
    assert found is not None and found.since == 300 and found.shares is not None and "; top-1" in str(found)


HEALTHY = {
    "both fall": ([1.8, 1.3, 1.0, 0.8, 0.7, 0.65], FALLING, LEARNING, [0.3, 0.5, 0.65, 0.75, 0.85, 0.86]),
    "held-out loss levels off": ([1.8, 1.2, 1.0, 0.98, 1.0, 1.03], FALLING, LEARNING, [0.3, 0.6, 0.8, 0.85, 0.85, 0.85]),
    "one bad evaluation at the end": ([1.8, 1.2, 0.9, 0.7, 0.6, 1.0], FALLING, LEARNING, [0.3, 0.6, 0.8, 0.85, 0.9, 0.86]),
    "one lucky evaluation": ([1.8, 1.2, 0.8, 0.9, 0.88, 0.85], FALLING, LEARNING, [0.3, 0.6, 0.8, 0.82, 0.83, 0.85]),
    "hardly any loss at all": ([0.5, 0.1, 0.01, 0.02, 0.03, 0.03], FALLING, LEARNING, [0.9, 0.95, 1.0, 1.0, 1.0, 1.0]),
    "training is stuck too": ([1.0, 1.3, 1.6, 2.0], [1.0, 1.0, 1.0, 1.0], [0.3, 0.3, 0.3, 0.3], [0.3, 0.3, 0.3, 0.3]),
    "surer, and more often right": ([1.0, 1.2, 1.4, 1.6], FALLING[:4], LEARNING[:4], [0.6, 0.7, 0.75, 0.8]),
    "held-out above training (augmentation)": ([1.0, 0.8, 0.7], [2.0, 1.8, 1.7], [0.2, 0.3, 0.4], [0.6, 0.7, 0.8]),
    "two evaluations": ([1.0, 1.6], FALLING[:2], LEARNING[:2], [0.6, 0.55]),
}  # fmt: skip


@pytest.mark.parametrize("case", HEALTHY)
def test_a_healthy_run_raises_no_alarm(case):
    assert find_overfitting(records(*HEALTHY[case]), 200) is None


def test_few_held_out_images_excuse_what_chance_does():
    """Of 8 images 5 right: Wilson's interval goes up to 86%; of 800, 500 right, to 66%."""
    made = records([1.0, 0.9, 0.9], [1.0, 0.6, 0.5], [0.6, 0.75, 0.82], [0.6, 0.6, 0.625])
    assert find_overfitting(made, 8) is None
    assert find_overfitting(made, 800) is not None


def test_runs_without_a_step_or_an_evaluation_say_nothing():
    assert find_overfitting([{"kind": "evaluation", "step": 0, "loss": 3.0, "top1": 0.1}], 50) is None
    assert find_overfitting([{"kind": "train", "step": 5, "loss": 0.1, "accuracy": 1.0}], 50) is None
    assert find_overfitting([], 50) is None


def test_losses_that_were_not_finite_count_for_nothing():
    made = records([1.8, 1.3, 1.1, 1.3, 1.6, 2.0], FALLING)
    made.insert(4, {"kind": "train", "step": 90, "loss": None})
    found = find_overfitting(made, 100)
    assert found is not None and found.since == 300 and all(map(math.isfinite, found.training))


def test_without_labels_the_loss_alone_tells():
    found = find_overfitting(records([0.9, 0.6, 0.5, 0.6, 0.7, 0.8], [0.9, 0.6, 0.45, 0.3, 0.2, 0.15]), 100)
    assert found is not None and found.since == 300

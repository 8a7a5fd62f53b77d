import pytest
import torch
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.config import named
from vitreous.model.vit import create
from vitreous.objectives.classify import Classify, balanced, soft_targets
from vitreous.objectives.config import ClassifyConfig


def objective(config: ClassifyConfig, counts: tuple[int, ...] = ()) -> Classify:
    return Classify(create(named("mu/4", image=(8, 8), classes=5), seed=0), config, counts)


def mixed_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels, partners = torch.tensor([0, 1, 2, 4]), torch.tensor([0, 3, 2, 1])
    return labels, partners, torch.tensor([1.0, 0.7, 1.0, 0.25])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_equals_torchs_cross_entropy(smoothing: float) -> None:
    labels, partners, weights = mixed_batch()
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    targets = soft_targets(labels, partners, weights, 5)
    ours = objective(ClassifyConfig(smoothing=smoothing)).losses(logits, targets)
    own = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    other = F.cross_entropy(logits, partners, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(ours, weights * own + (1 - weights) * other)


def test_sigmoid_equals_torchs_binary_cross_entropy() -> None:
    labels, _, _ = mixed_batch()
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    targets = F.one_hot(labels, 5).float()
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    torch.testing.assert_close(objective(ClassifyConfig(loss="sigmoid")).losses(logits, targets), expected)


def test_balanced_weights_have_mean_one_over_the_examples() -> None:
    counts = (10, 30, 60)
    weights = balanced(counts)
    assert float((weights * torch.tensor(counts)).sum() / 100) == pytest.approx(1.0)
    assert float(weights[0] / weights[2]) == pytest.approx(6.0)


def test_class_weights_equal_torchs_up_to_their_normalisation() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    weights = balanced((5, 10, 15))
    model = create(named("mu/4", image=(8, 8), classes=3), seed=0)
    ours = Classify(model, ClassifyConfig(class_weights="balanced"), (5, 10, 15)).losses(
        logits, F.one_hot(labels, 3).float()
    )
    torch.testing.assert_close(ours, F.cross_entropy(logits, labels, weight=weights, reduction="none"))


def test_the_forward_pass_counts_examples_that_are_right() -> None:
    labels, partners, weights = mixed_batch()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    loss, numbers = objective(ClassifyConfig())(images, labels, partners, weights)
    # A zero-initialised head: uniform probabilities, and argmax takes class 0.
    assert float(loss.detach()) == pytest.approx(torch.log(torch.tensor(5.0)).item())
    assert int(numbers["correct"]) == 1


def test_smoothing_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="smoothing"):
        objective(ClassifyConfig(smoothing=1.0))

import math

import pytest
import torch
from torch.nn import functional as F

from vitreous.data.stream.loader import Batch
from vitreous.errors import ConfigError
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.objectives.classification import Classify, balance_classes, choose_head_bias, distil, mix_targets
from vitreous.objectives.config import ClassifyConfig


def objective(config: ClassifyConfig, counts: tuple[int, ...] = ()) -> Classify:
    return Classify(create(build_vit_config("mu/4", image=(8, 8), classes=5), seed=0), config, counts)


def mixed_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    labels, partners = torch.tensor([0, 1, 2, 4]), torch.tensor([0, 3, 2, 1])
    return labels, partners, torch.tensor([1.0, 0.7, 1.0, 0.25])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_softmax_equals_torchs_cross_entropy(smoothing: float) -> None:
    labels, partners, weights = mixed_batch()
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    targets = mix_targets(labels, partners, weights, 5)
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
    weights = balance_classes(counts)
    assert float((weights * torch.tensor(counts)).sum() / 100) == pytest.approx(1.0)
    assert float(weights[0] / weights[2]) == pytest.approx(6.0)


def test_class_weights_equal_torchs_up_to_their_normalisation() -> None:
    labels = torch.tensor([0, 1, 2, 2])
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    weights = balance_classes((5, 10, 15))
    model = create(build_vit_config("mu/4", image=(8, 8), classes=3), seed=0)
    with torch.autocast("cpu", torch.bfloat16):  # it rounds the operands of matrix products
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


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_each_head_of_a_distilled_model_has_a_loss_of_its_own(smoothing: float) -> None:
    """DeiT's losses.py: (1 - alpha) of the class head's and alpha of the distillation head's, alpha 0.5."""
    model = create(build_vit_config("mu/4", image=(8, 8), classes=5, distillation_token=True), seed=0).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    images, labels = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64), torch.tensor([0, 1, 2, 4])
    z = model.tokens(images)
    heads = model.head(z[:, 0]).float(), model.distillation_head(z[:, 1]).float()
    expected = sum(0.5 * F.cross_entropy(logits, labels, label_smoothing=smoothing) for logits in heads)
    loss, numbers = Classify(model, ClassifyConfig(smoothing=smoothing))(images, labels, labels, torch.ones(4))
    torch.testing.assert_close(loss, expected)
    assert abs(loss - F.cross_entropy((heads[0] + heads[1]) / 2, labels, label_smoothing=smoothing)) > 0.1
    assert numbers["correct"] == ((heads[0] + heads[1]).argmax(1) == labels).sum()


def test_a_sigmoids_head_starts_at_its_labels_log_odds() -> None:
    sigmoid = ClassifyConfig(loss="sigmoid")
    many = 21_841
    bias = choose_head_bias(sigmoid, (3,) * many, 3 * many, multilabel=False)
    assert bias == pytest.approx(-10, abs=0.01)  # big_vision's init_head_bias
    targets = F.one_hot(torch.tensor([7]), many).float()
    loss = F.binary_cross_entropy_with_logits(torch.full((1, many), bias), targets, reduction="sum")
    assert float(loss) == pytest.approx(10.99, abs=0.01)  # nats; 15,139 from zero
    assert choose_head_bias(sigmoid, (1, 2, 3), 20, multilabel=True) == pytest.approx(math.log(0.1 / 0.9))
    assert choose_head_bias(ClassifyConfig(loss="sigmoid", class_weights="balanced"), (1, 2), 20, multilabel=True) == 0
    assert choose_head_bias(ClassifyConfig(loss="sigmoid", head_bias_init=-3), (1, 2), 3, multilabel=False) == -3
    assert math.isfinite(choose_head_bias(sigmoid, (0,), 5, multilabel=True))
    assert choose_head_bias(ClassifyConfig(), (1, 2), 3, multilabel=False) == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_labels_equal_torchs_cross_entropy_with_probabilities(smoothing: float) -> None:
    draw = torch.Generator().manual_seed(2)
    own, other = (torch.rand(6, 5, generator=draw).softmax(1) for _ in range(2))
    logits, weights = torch.randn(6, 5, generator=draw), torch.tensor([1.0, 0.7, 1.0, 0.25, 0.5, 0.0])
    targets = mix_targets(own, other, weights, 5)
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    mixed = weights[:, None] * own + (1 - weights[:, None]) * other
    ours = objective(ClassifyConfig(smoothing=smoothing)).losses(logits, targets)
    torch.testing.assert_close(ours, F.cross_entropy(logits, mixed, reduction="none", label_smoothing=smoothing))


def test_a_soft_label_that_is_sure_is_a_hard_one() -> None:
    labels, partners, weights = mixed_batch()
    model, images = objective(ClassifyConfig(smoothing=0.1)), torch.randn(4, 3, 8, 8)
    hard, counted = model(images, labels, partners, weights)
    soft, again = model(images, *(F.one_hot(one, 5).float() for one in (labels, partners)), weights)
    torch.testing.assert_close(soft, hard)
    assert counted["correct"] == again["correct"]


def taught_batch(classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a student's and a teacher's logits."""
    generator = torch.Generator().manual_seed(1)
    return tuple(4 * torch.randn(6, classes, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("temperature", [1.0, 3.0, 0.5])
def test_soft_distillation_equals_the_formula(temperature: float) -> None:
    """Equation 2 of 2012.12877, written out: temperature^2 sum over labels of p (log p - log q)."""
    own, theirs = taught_batch()
    config = ClassifyConfig(distillation="soft", distillation_temperature=temperature)
    p, q = (logits.div(temperature).exp() for logits in (theirs, own))
    p, q = (each / each.sum(1, keepdim=True) for each in (p, q))
    torch.testing.assert_close(distil(own, theirs, config), temperature**2 * (p * (p.log() - q.log())).sum(1))


def test_soft_distillation_is_the_authors_times_the_number_of_classes() -> None:
    """losses.py of facebookresearch/deit divides the sum by the number of values, not of examples."""
    own, theirs = taught_batch()
    logs = [F.log_softmax(logits / 3.0, dim=1) for logits in (own, theirs)]
    authors = F.kl_div(*logs, reduction="sum", log_target=True) * (3.0 * 3.0) / own.numel()
    ours = distil(own, theirs, ClassifyConfig(distillation="soft", distillation_temperature=3.0)).mean()
    torch.testing.assert_close(ours, 5 * authors)


def test_hard_distillation_is_cross_entropy_with_the_teachers_choice() -> None:
    own, theirs = taught_batch()
    torch.testing.assert_close(
        distil(own, theirs, ClassifyConfig()), F.cross_entropy(own, theirs.argmax(1), reduction="none")
    )


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_the_teacher_is_for_the_distillation_head_and_the_labels_for_the_other(weight: float, token: bool) -> None:
    """DeiT's losses.py: outputs, outputs_kd = heads; base_loss * (1 - alpha) + distillation_loss * alpha."""
    model = create(build_vit_config("mu/4", image=(8, 8), classes=5, distillation_token=token), seed=0)
    with torch.no_grad():
        for head in model.heads.values():
            head.weight.normal_(generator=torch.Generator().manual_seed(len(head.weight)))
        if token:
            model.distillation_head.weight.neg_()
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels, taught = torch.tensor([0, 1, 2, 3, 4, 0]), taught_batch()[1].float()
    config = ClassifyConfig(smoothing=0.1, distillation="soft", distillation_weight=weight)
    given = Batch(images, labels, labels, torch.ones(6), torch.arange(6))
    objective = Classify(model, config, teach=lambda pixels, indices: taught[indices])
    loss, numbers = objective(images, *objective.inputs(given, torch.empty(0)))
    heads = model.logits_by_head(model.tokens(images))
    base = F.cross_entropy(heads[0], labels, label_smoothing=0.1)
    own, theirs = (F.log_softmax(logits / 3.0, dim=1) for logits in (heads[-1], taught))
    learned = F.kl_div(own, theirs, reduction="batchmean", log_target=True) * 9
    torch.testing.assert_close(loss, (1 - weight) * base + weight * learned)
    assert int(numbers["correct"]) == int((sum(heads).argmax(1) == labels).sum())

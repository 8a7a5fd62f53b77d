"""Several labels an image: the loss against torch's, its weights, what is mixed, and what is counted."""

import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_sample_weight
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.objectives.build import build_objective as build
from vitreous.objectives.config import ClassifyConfig
from vitreous.objectives.multilabel import ClassifyMultilabel, balance_labels, mix_targets

SIGMOID = ClassifyConfig(loss="sigmoid")


def objective(config=SIGMOID, counts=(), examples=8):
    model = create(build_vit_config("mu/4", image=(8, 8), classes=4), seed=0)
    return ClassifyMultilabel(model, config, counts, examples)


def drawn(seed, shape=(8, 4)):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator), torch.rand(shape, generator=generator) < 0.4


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_torchs_binary_cross_entropy_summed_over_the_labels(smoothing):
    logits, labels = drawn(0)
    ours = objective(ClassifyConfig(loss="sigmoid", smoothing=smoothing)).losses(logits, labels.float())
    targets = torch.where(labels, 1 - smoothing / 2, smoothing / 2)
    expected = F.binary_cross_entropy_with_logits(logits.double(), targets.double(), reduction="none").sum(1)
    torch.testing.assert_close(ours, expected.float())


def test_a_mixture_costs_what_its_parts_cost_in_their_shares():
    logits, labels = drawn(0)
    partners, weights = drawn(1)[1], torch.rand(8, generator=torch.Generator().manual_seed(2))
    room = objective()
    own, other = (room.losses(logits, one.float()) for one in (labels, partners))
    mixed = room.losses(logits, mix_targets(labels, partners, weights))
    torch.testing.assert_close(mixed, weights * own + (1 - weights) * other)


def test_balanced_weights_are_scikit_learns_of_each_label():
    logits, labels = drawn(3, (40, 4))
    counts = tuple(labels.sum(0).tolist())
    room = objective(ClassifyConfig(loss="sigmoid", class_weights="balanced"), counts, 40)
    each = torch.stack(
        [torch.from_numpy(compute_sample_weight("balanced", labels[:, label].numpy())) for label in range(4)], dim=1
    )
    expected = F.binary_cross_entropy_with_logits(logits.double(), labels.double(), weight=each, reduction="none").sum(
        1
    )
    torch.testing.assert_close(room.losses(logits, labels.float()), expected.float())
    presence, absence = balance_labels(counts, 40)
    torch.testing.assert_close(torch.where(labels, presence, absence).mean(0), torch.ones(4))


@pytest.mark.parametrize("counts", [(0, 3, 4, 5), (3, 8, 4, 5), ()])
def test_a_label_that_all_have_or_none_has_can_not_be_balanced(counts):
    with pytest.raises(ConfigError, match="a training image that has it and one that lacks it"):
        objective(ClassifyConfig(loss="sigmoid", class_weights="balanced"), counts)


def test_the_forward_pass_counts_pairs():
    room = objective()
    torch.nn.init.normal_(room.model.head.weight, generator=torch.Generator().manual_seed(5))
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    labels, partners, weights = drawn(0)[1], drawn(1)[1], torch.tensor([1.0, 0.7, 0.2, 0.5, 1, 1, 0.4, 0])
    loss, numbers = room(images, labels, partners, weights)
    logits = room.model(images)
    leading = torch.where((weights >= 0.5)[:, None], labels, partners)
    sums = {name: float(value) for name, value in numbers.items()} | {"samples": 8.0}
    expected = f1_score(leading.flatten().numpy(), (logits >= 0).flatten().numpy())
    assert room.shares(sums) == {"micro_f1": pytest.approx(expected)}
    torch.testing.assert_close(loss, room.losses(logits, mix_targets(labels, partners, weights)).mean())
    assert room.shares({"hits": 0, "claimed": 0, "wanted": 0, "samples": 8}) == {"micro_f1": 0.0}


def test_the_objective_is_chosen_by_the_data():
    model = create(build_vit_config("mu/4", image=(8, 8), classes=4), seed=0)
    assert isinstance(build(SIGMOID, model, (3, 4, 5, 6), multilabel_examples=8), ClassifyMultilabel)
    assert not build(SIGMOID, model, (3, 4, 5, 6)).multilabel
    with pytest.raises(ConfigError, match="smoothing"):
        build(ClassifyConfig(loss="sigmoid", smoothing=1.0), model, multilabel_examples=8)

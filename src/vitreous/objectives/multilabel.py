"""Classification where an image may have several labels, or none: a sigmoid and a binary cross entropy for each
label."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from vitreous.errors import ConfigError
from vitreous.model.factory import Model
from vitreous.model.packing import PackedImages
from vitreous.objectives.classification import Supervised
from vitreous.objectives.config import ClassifyConfig
from vitreous.shapes import Bool, Float


class ClassifyMultilabel(Supervised):
    """Owns the model; maps a batch whose labels are rows of zeros and ones to its loss, and counts pairs.

    Args:
        model: gives logits (batch, label).
        config: smoothing and class weights; the loss is sigmoid.
        counts: training examples that have each label; needed only for balanced class weights.
        examples: training examples in all.

    Raises:
        ConfigError: smoothing out of range; or balanced weights, and a label that no training example has, or all have.
    """

    multilabel = True
    presence: Tensor | None
    absence: Tensor | None

    def __init__(self, model: Model, config: ClassifyConfig, counts: tuple[int, ...] = (), examples: int = 0) -> None:
        super().__init__(model, config)
        assert config.loss == "sigmoid"
        weights = balance_labels(counts, examples) if config.class_weights == "balanced" else (None, None)
        for name, values in zip(("presence", "absence"), weights, strict=True):
            self.register_buffer(name, values, persistent=False)

    def shares(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return F1 over all pairs of example and label; 0 if no label was predicted, and none was present."""
        pairs = sums["claimed"] + sums["wanted"]
        return {"micro_f1": 2 * sums["hits"] / pairs if pairs else 0.0}

    def forward(
        self,
        images: Float[Tensor, "batch channel row col"] | PackedImages,
        labels: Bool[Tensor, "batch label"],
        partners: Bool[Tensor, "batch label"],
        weights: Float[Tensor, " batch"],
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean loss per example, and the number of pairs predicted, present, and both.

        Args:
            images: normalised pixels; or images of several sizes.
            labels: which labels each example has.
            partners: those of what was mixed in (mixup, cutmix); the same as labels where nothing was.
            weights: share of `labels` in the mixture, 0 to 1; the rest is `partners`.
        """
        logits, loss = self.compute_loss(images, mix_targets(labels, partners, weights))
        leading = torch.where((weights >= 0.5).unsqueeze(1), labels, partners)
        claimed = logits >= 0
        counted = {"hits": claimed & leading, "claimed": claimed, "wanted": leading}
        return loss, {name: pairs.sum() for name, pairs in counted.items()}

    def losses(
        self, logits: Float[Tensor, "batch label"], targets: Float[Tensor, "batch label"]
    ) -> Float[Tensor, " batch"]:
        """Return each example's loss, summed over the labels, against its (soft) targets, smoothed and weighted."""
        smoothed = targets * (1 - self.config.smoothing) + self.config.smoothing / 2
        ratio = None if self.presence is None or self.absence is None else self.presence / self.absence
        losses = F.binary_cross_entropy_with_logits(
            logits, smoothed, weight=self.absence, pos_weight=ratio, reduction="none"
        )
        return losses.sum(1)


def mix_targets(
    labels: Bool[Tensor, "batch label"], partners: Bool[Tensor, "batch label"], weights: Float[Tensor, " batch"]
) -> Float[Tensor, "batch label"]:
    """Return how much of each label a mixture contains, 0 to 1; a label that both have counts fully."""
    own = weights.unsqueeze(1)
    return own * labels + (1 - own) * partners


def balance_labels(counts: tuple[int, ...], examples: int) -> tuple[Float[Tensor, " label"], Float[Tensor, " label"]]:
    """Weigh each label's presence and absence by inverse frequency: both count alike, and the mean over the examples
    is 1."""
    if not counts or not all(0 < count < examples for count in counts):
        raise ConfigError(
            "balanced class weights need, for each label, a training image that has it and one that lacks it; "
            "set --objective.class-weights none"
        )
    present = torch.tensor(counts, dtype=torch.float64)
    return (examples / (2 * present)).float(), (examples / (2 * (examples - present))).float()

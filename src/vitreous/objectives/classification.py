"""Supervised classification: cross entropy with smoothing, soft (mixed) labels and class weights."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.data.stream.loader import Batch
from vitreous.errors import ConfigError
from vitreous.model.factory import Model
from vitreous.model.packing import PackedImages, forward_packed
from vitreous.model.vit import ViT
from vitreous.objectives.base import Objective
from vitreous.objectives.config import ClassifyConfig
from vitreous.shapes import Float, Float32, Int64

Teach = Callable[[Tensor, Tensor], Tensor]
"""Maps pixels (batch, channel, row, col), as the student's before they are normalised, and the examples' indices in their source
to a teacher's logits (batch, label)."""


class Supervised(Objective):
    """Owns the model alone, and takes labels, which may be mixed, smoothed and weighted by class.

    Raises:
        ConfigError: smoothing out of range.
    """

    def __init__(self, model: Model, config: ClassifyConfig) -> None:
        super().__init__(model)
        if not 0 <= config.smoothing < 1:
            raise ConfigError(f"objective.smoothing is {config.smoothing}; it must be at least 0 and below 1")
        self.config = config

    @property
    def trainable(self) -> nn.Module:
        """The model alone."""
        return self.model

    def losses(
        self, logits: Float[Tensor, "batch label"], targets: Float[Tensor, "batch label"]
    ) -> Float[Tensor, " batch"]:
        """Return each example's loss against its (soft) targets, smoothed and weighted."""
        raise NotImplementedError

    def compute_loss(
        self,
        images: Float[Tensor, "batch channel row col"] | PackedImages,
        targets: Float[Tensor, "batch label"],
        taught: Float[Tensor, "batch label"] | None = None,
    ) -> tuple[Float[Tensor, "batch label"], Float[Tensor, ""]]:
        """Return the model's logits, those of a distilled model's two heads averaged, and the mean loss.

        `taught` are a teacher's logits. The labels are for the head of [class], and the teacher is for that of the
        distillation token, or for the same head if there is no other; the configuration says how much each counts. Without a
        teacher both heads learn from the labels, 0.5 each.
        """
        model = self.model
        if isinstance(images, PackedImages):
            assert isinstance(model, ViT)
            heads = [forward_packed(model, images.images, budget=images.budget).float()]
        elif isinstance(model, ViT) and model.distillation_head is not None:
            heads = [logits.float() for logits in model.logits_by_head(model.tokens(images))]
        else:
            heads = [model(images).float()]
        if taught is None:
            loss = torch.stack([self.losses(one, targets).mean() for one in heads]).mean()
        else:
            share, labelled = self.config.distillation_weight, self.losses(heads[0], targets).mean()
            loss = (1 - share) * labelled + share * distil(heads[-1], taught, self.config).mean()
        return torch.stack(heads).mean(0) if len(heads) > 1 else heads[0], loss

    def inputs(self, part: Batch, noise: Tensor) -> tuple[Tensor, ...]:
        """Return the labels, the mixed-in labels, and their shares."""
        return part.labels, part.partners, part.weights


class Classify(Supervised):
    """Owns the model; maps a batch to its loss and to numbers worth watching.

    Args:
        model: gives logits (batch, label).
        config: the loss, its smoothing and its class weights.
        counts: training examples of each class; needed only for balanced class weights.
        teach: gives a teacher's logits for the same pixels, outside the graph of gradients; None: no teacher.
    """

    class_weights: Tensor | None

    def __init__(
        self, model: Model, config: ClassifyConfig, counts: tuple[int, ...] = (), teach: Teach | None = None
    ) -> None:
        super().__init__(model, config)
        self.teach = teach
        weights = balance_classes(counts) if config.class_weights == "balanced" else None
        self.register_buffer("class_weights", weights, persistent=False)

    def shares(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the share of examples classified correctly."""
        return {"accuracy": sums["correct"] / sums["samples"]}

    def inputs(self, part: Batch, noise: Tensor) -> tuple[Tensor, ...]:
        """Return the labels, the mixed-in labels, their shares, and the teacher's logits if there is one."""
        labels = super().inputs(part, noise)
        return labels if self.teach is None else (*labels, self.teach(part.pixels, part.indices))

    def forward(
        self,
        images: Float[Tensor, "batch channel row col"] | PackedImages,
        labels: Int64[Tensor, " batch"] | Float32[Tensor, "batch label"],
        partners: Int64[Tensor, " batch"] | Float32[Tensor, "batch label"],
        weights: Float[Tensor, " batch"],
        taught: Float[Tensor, "batch label"] | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean loss, and the number of examples classified correctly.

        Args:
            images: normalised pixels; or images of several sizes.
            labels: each example's class, or the probability of each class.
            partners: the class that was mixed in (mixup, cutmix); the same as labels where nothing was.
            weights: share of `labels` in the mixture, 0 to 1; the rest is `partners`.
            taught: a teacher's logits for the same images.
        """
        targets = mix_targets(labels, partners, weights, self.model.config.classes)
        logits, loss = self.compute_loss(images, targets, taught)
        leading = torch.where(weights >= 0.5, *(find_class(one) for one in (labels, partners)))
        return loss, {"correct": (logits.argmax(1) == leading).sum()}

    def losses(
        self, logits: Float[Tensor, "batch label"], targets: Float[Tensor, "batch label"]
    ) -> Float[Tensor, " batch"]:
        """Return each example's loss against its (soft) target, smoothed and weighted by class."""
        classes, smoothing = logits.shape[1], self.config.smoothing
        smoothed = targets * (1 - smoothing) + smoothing / classes
        if self.config.loss == "softmax":
            losses = -(smoothed * F.log_softmax(logits, dim=1)).sum(1)
        else:
            losses = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").sum(1)
        return losses if self.class_weights is None else losses * (targets * self.class_weights).sum(1)


def distil(
    logits: Float[Tensor, "batch label"], taught: Float[Tensor, "batch label"], config: ClassifyConfig
) -> Float[Tensor, " batch"]:
    """Return each example's loss against a teacher's logits (2012.12877, section 4, equations 2 and 3).

    hard: cross entropy with the teacher's most probable class. soft: the Kullback-Leibler divergence of the student's
    probabilities from the teacher's, both at the temperature, times its square, so that gradients don't depend on it. The
    authors' code divides the latter by the number of classes as well, which the paper doesn't.
    """
    if config.distillation == "hard":
        return F.cross_entropy(logits, taught.argmax(1), reduction="none")
    own, theirs = (F.log_softmax(one / config.distillation_temperature, dim=1) for one in (logits, taught))
    return F.kl_div(own, theirs, reduction="none", log_target=True).sum(1) * config.distillation_temperature**2


def choose_head_bias(config: ClassifyConfig, counts: tuple[int, ...], examples: int, multilabel: bool) -> float:
    """Return a new head's initial biases: as configured, or so that its first probabilities match the labels'
    frequency.

    Args:
        config: the loss, and how classes are weighted.
        counts: training examples that have each label.
        examples: number of training examples.
        multilabel: whether an example may have several labels; balanced weights then make presence and absence equally
            likely.
    """
    if config.head_bias_init != "auto":
        return float(config.head_bias_init)
    if config.loss == "softmax" or (multilabel and config.class_weights == "balanced"):
        return 0.0
    pairs = len(counts) * examples
    present = min(max(sum(counts), 0.5), pairs - 0.5)
    return math.log(present / (pairs - present))


def mix_targets(
    labels: Int64[Tensor, " batch"] | Float32[Tensor, "batch label"],
    partners: Int64[Tensor, " batch"] | Float32[Tensor, "batch label"],
    weights: Float[Tensor, " batch"],
    classes: int,
) -> Float[Tensor, "batch label"]:
    """Spread each example's target over its own classes and its partner's; rows sum to 1."""
    own = weights.unsqueeze(1)
    mine, other = (one if one.is_floating_point() else F.one_hot(one, classes) for one in (labels, partners))
    return own * mine + (1 - own) * other


def find_class(labels: Int64[Tensor, " batch"] | Float32[Tensor, "batch label"]) -> Int64[Tensor, " batch"]:
    """Return each example's class; of a soft label the most probable one."""
    return labels.argmax(1) if labels.is_floating_point() else labels


def balance_classes(counts: tuple[int, ...]) -> Float[Tensor, " label"]:
    """Weigh classes by inverse frequency, so that all count alike and the mean over the examples is 1."""
    if not counts or min(counts) < 1:
        raise ConfigError("balanced class weights need at least one training image of each class")
    frequency = torch.tensor(counts, dtype=torch.float64)
    return (frequency.sum() / (len(counts) * frequency)).float()

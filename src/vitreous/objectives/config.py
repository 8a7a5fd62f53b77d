"""The training objective: settings only, no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True)
class ClassifyConfig:
    """Supervised classification."""

    KIND: ClassVar[str] = "classify"
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: cross entropy over the classes. sigmoid: the sum of one binary cross entropy per class; recipes choose
    it for multilabel data."""
    smoothing: float = 0.0
    """Label smoothing: share of each target that is spread evenly over all classes, 0 to below 1; for multilabel data,
    over the presence and absence of each label."""
    head_bias_init: float | Literal["auto"] = "auto"
    """Initial biases of a new head. auto: 0 with softmax; with sigmoid, the log-odds of a label of average frequency in
    training. With one label per image that is -log(classes - 1): -10 for ImageNet-21k, as in the authors' code."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weigh each class by the inverse of its frequency in training (mean weight 1), for unbalanced data;
    for multilabel data, weigh the presence and absence of each label that way."""
    distillation: Literal["hard", "soft"] = "hard"
    """With --teacher. hard: cross entropy with the teacher's most probable class (DeiT, 2012.12877). soft: divergence
    from the teacher's probabilities (Hinton et al., 1503.02531)."""
    distillation_temperature: float = 3.0
    """soft: divisor of both models' logits before they become probabilities, above 0; the loss is multiplied by its square."""
    distillation_weight: float = 0.5
    """With --teacher: the teacher's share of the loss, 0 to 1; the rest is the labels' share. 1: the labels are not
    used."""

    RENAMED: ClassVar[dict[str, str]] = {"head_bias": "head_bias_init"}
    """Settings that had another name in files of layout 1."""


@dataclass(frozen=True)
class MaskedPatchesConfig:
    """Masked patch prediction (2010.11929, appendix B.1.2): patch embeddings are corrupted, and the patches' colours
    predicted."""

    KIND: ClassVar[str] = "masked-patches"
    target: Literal["mean", "small", "full"] = "mean"
    """mean: the mean colour, 3 bits per channel. small: a version of 4 x 4 such colours. full: every value, by least
    squares."""
    corrupted_share: float = 0.5
    """Share of each image's patches that are corrupted and predicted, above 0 and below 1."""
    mask_probability: float = 0.8
    """Probability that a corrupted patch's embedding becomes the learned [mask] embedding, 0 to 1."""
    swap_probability: float = 0.1
    """Probability that a corrupted patch's embedding becomes that of another patch of the image, 0 to 1; otherwise it
    stays as it is."""

    RENAMED: ClassVar[dict[str, str]] = {
        "share": "corrupted_share",
        "masked": "mask_probability",
        "swapped": "swap_probability",
    }
    """Settings that had another name in files of layout 1."""


@dataclass(frozen=True)
class MaskedAutoencoderConfig:
    """Masked autoencoder (2111.06377): the model sees a few patches, and a decoder predicts the others."""

    KIND: ClassVar[str] = "masked-autoencoder"
    mask_ratio: float = 0.75
    """Share of each image's patches that are hidden, above 0 and below 1."""
    decoder_width: int = 512
    """Width of the decoder, which is discarded after training."""
    decoder_depth: int = 8
    """Blocks of the decoder."""
    decoder_heads: int = 16
    """Attention heads of the decoder."""
    normalise_targets: bool = True
    """Predict each patch's values relative to its own mean and deviation."""

    RENAMED: ClassVar[dict[str, str]] = {
        "share": "mask_ratio",
        "width": "decoder_width",
        "depth": "decoder_depth",
        "heads": "decoder_heads",
        "normalised": "normalise_targets",
    }
    """Settings that had another name in files of layout 1."""


ObjectiveConfig = ClassifyConfig | MaskedPatchesConfig | MaskedAutoencoderConfig
"""The kinds of objectives; a config.json without a kind holds the first."""

"""The complete settings of a run; imports no torch. A recipe returns a complete RunConfig; config.json holds it
resolved."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from vitreous.data.config import DataConfig
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.kinds import Config
from vitreous.objectives.config import ClassifyConfig, ObjectiveConfig

TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
"""Experiment trackers, and the package that each needs."""
OPTIMIZERS = ("adamw", "sgd", "muon")
"""The optimizers that have short names."""
ModelConfig = Config
"""The models that can be trained; the first is what a config.json without a kind holds."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer."""

    name: str = "adamw"
    """adamw; sgd (momentum); muon: Muon for the matrices of Transformer blocks and the kernels of a ResNet's units, AdamW for
    everything else. Or any class, written module:Class, such as torch.optim:RAdam."""
    keywords: dict[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of a module:Class besides its rate and weight decay, written as in TOML: "betas=[0.9, 0.95],
    amsgrad=true". The settings betas, eps and momentum below are not passed to it."""
    lr: float = 1e-3
    """Peak learning rate, at the configured batch; `batch_rule` can scale it."""
    batch_rule: Literal["fixed", "linear", "sqrt"] = "fixed"
    """How the peak rates (lr, muon_lr) depend on the batch. fixed: they don't. linear: they are multiplied by batch /
    base_batch. sqrt: by the square root of that."""
    base_batch: int = 256
    """linear, sqrt: the batch that the peak rates are stated for."""
    weight_decay: float = 1e-4
    """Weight decay of matrices and kernels. Biases, norms, scales, positions of any kind, registers and tokens never
    decay."""
    decoupled: bool = True
    """True: each step shrinks the weights by weight_decay x lr / peak lr, whatever the optimizer (big_vision's
    decoupled decay). False: as in torch, where AdamW shrinks them by weight_decay x lr, and SGD adds the decay to the
    gradient, so that it passes through the momentum."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates of the first and second moments."""
    eps: float = 1e-8
    """Adam's epsilon."""
    momentum: float = 0.9
    """SGD's momentum."""
    muon_lr: float = 0.02
    """Peak learning rate of Muon's matrices."""
    muon_momentum: float = 0.95
    """Decay rate of Muon's momentum."""
    muon_decay: float = 0.0
    """Weight decay of Muon's matrices, times their learning rate, regardless of `decoupled`."""
    clip: float = 1.0
    """Largest global gradient norm; 0 turns clipping off."""
    sam: float = 0.0
    """Rho of sharpness-aware minimisation (2010.01412): each step uses the gradient at a point this far uphill, which
    doubles the time per step; 0: off."""
    layer_decay: float = 1.0
    """Layer-wise learning rate decay: each block learns at this times the rate of the block above it, the last one at
    this times the head's, which is the full rate; above 0, at most 1 (off). The patch embedding has the smallest
    rate."""

    def scale_to(self, batch: int) -> "OptimizerConfig":
        """Return the same optimizer with the peak rates of this batch.

        >>> OptimizerConfig(lr=1e-3, batch_rule="sqrt", base_batch=256).scale_to(1024).lr
        0.002
        """
        ratio = batch / self.base_batch
        factor = {"fixed": 1.0, "linear": ratio, "sqrt": ratio**0.5}[self.batch_rule]
        return replace(self, lr=self.lr * factor, muon_lr=self.muon_lr * factor, batch_rule="fixed")


@dataclass(frozen=True)
class ScheduleConfig:
    """The course of the learning rate, as a share of its peak."""

    kind: Literal["cosine", "linear", "rsqrt", "constant", "steps"] = "cosine"
    """cosine or linear decay to `final`; rsqrt (2106.04560) or constant, both ending in a linear cool-down; steps: the
    rate is multiplied by `milestone_factor` at each of `milestones`."""
    warmup: str = "10000st,10%"
    """Length of the linear warm-up: a duration such as 500st, 5ep or 1.28Mex, a share of the run such as 5%, or the
    shorter of two: 500st,10%. At step t of w, counted from 0, the rate is (t + 1) / w of the peak (big_vision: t /
    w)."""
    cooldown: str = "0%"
    """Linear descent to `final` at the end of rsqrt and constant schedules: a duration or a share of the run."""
    final: float = 0.0
    """Learning rate at the end, as a share of the peak, 0 to 1."""
    timescale: int = 10_000
    """rsqrt only: steps after which the decay begins."""
    milestones: tuple[str, ...] = ("30%", "60%", "90%")
    """steps only: when the rate drops, as durations or shares of the run (the defaults are those of BiT-HyperRule,
    1912.11370)."""
    milestone_factor: float = 0.1
    """steps only: factor on the rate at each milestone, 0 to 1."""

    RENAMED: ClassVar[dict[str, str]] = {"drops": "milestones", "drop": "milestone_factor"}
    """Settings that had other names in files of layout 1."""


@dataclass(frozen=True)
class EarlyStopConfig:
    """When to stop before the planned end."""

    patience: int = 0
    """Stop the run after this many evaluations without a better validation accuracy (multilabel data: mAP; without
    labels: loss); 0: never."""
    min_delta: float = 0.0
    """Smallest gain in validation accuracy, mAP or loss that resets the count of `patience`, 0 to 1; it must be
    exceeded. Any gain makes a model the best one."""


START = ("weights", "weights_as", "weights_grid", "weights_heads")
"""Settings for the weights that a run starts from, whatever its recipe."""


@dataclass(frozen=True)
class RunConfig:
    """One complete training run: the same RunConfig on the same machine gives the same bits."""

    recipe: str = "custom"
    """Recipe that the configuration starts from. From scratch: small (for thousands of images), pretrain, vit-21k,
    vit-jft, augreg, plain-s16, bit, bit-jft, deit (with a teacher), deit-iii. From weights: probe, lp-ft, finetune,
    hyperrule. Without labels: masked-patches, mae. With labelled and unlabelled images: noisy-student. auto: probe for
    fewer than 2,000 photographs, otherwise small; with --weights also finetune."""
    data: DataConfig = field(default_factory=DataConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ViTConfig)
    regularisation: RegularisationConfig = field(default_factory=RegularisationConfig)
    objective: ObjectiveConfig = field(default_factory=ClassifyConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    early_stop: EarlyStopConfig = field(default_factory=EarlyStopConfig)
    weights: str | None = None
    """Start from this model folder or run folder, or from anything else that can be loaded. auto: the recommended
    pre-trained weights, which is the default if there are too few images to learn from. none: from scratch."""
    weights_as: str | None = None
    """Family of --weights, if the file doesn't state it: a family, or family:variant (the option --as of other
    commands)."""
    weights_grid: tuple[int, int] | None = None
    """Rows and columns of the grid of patches that the positions of --weights are for, if the file doesn't state them
    (the option --grid of other commands)."""
    weights_heads: int | None = None
    """Attention heads of --weights, if the file doesn't state them (--heads in other commands)."""
    teacher: str | None = None
    """Distil from this model: a model folder or run folder, or anything else that can be loaded. It may belong to any
    family, but must know the data's classes. It sees the same augmented views, resized and normalised as in its own
    training; see --objective.distillation. With recipe noisy-student, it is the first teacher instead, which labels the
    unlabelled images."""
    head: Literal["auto", "new", "keep", "logistic"] = "auto"
    """With weights. new: a new zero-initialised head. keep: the old head, cut to the data's classes. auto: keep if the
    old head knows them all, otherwise new. logistic: a new head, fitted to the frozen features by logistic regression
    before the first step, its l2 chosen by cross-validation on the training images; with a duration of 0st nothing else
    is trained."""
    head_views: int = 0
    """With head logistic: number of augmented views of each training image to learn from, besides the image itself."""
    refit: bool = False
    """With head logistic, and validation images that were held out of the training images: after the model is measured
    on them, fit the head again to all images. The reported accuracy is still the measured one."""
    freeze: Literal["none", "positions", "patches", "trunk"] | int = "none"
    """Parts that stay unchanged: none; positions; patches (the patch embedding, tokens, and positions outside the
    blocks); trunk (everything except the head and its pooling); or a number n: the same as patches, and the first n
    blocks. In a ResNet or EfficientNet, patches means the root, and blocks are the units."""
    lora: int = 0
    """Rank of LoRA around the encoder's dense layers; everything else except the head is frozen. 0: off. The exported
    model is merged."""
    duration: str = "90ep"
    """Length of the run: 90ep (epochs), 2500st (steps), 1.28Mex (examples), or 15min (measured, then fixed as steps)."""
    low_resolution: float = 1.0
    """Share of the rows and columns of pixels used in the first part of the run, for cheaper steps: 0.5 means a quarter
    of the tokens; 1: all of them."""
    low_resolution_duration: str = "90%"
    """How long the run stays at the low resolution: a duration."""
    packed: int = 0
    """Train a ViT on images that keep their aspect, in several sizes, packed into few sequences (NaViT, 2307.06304).
    Each image has about the area of a square whose side is drawn between this number of pixels and the model's own
    side; 0: all images have the model's size."""
    batch: int = 1024
    """Examples per optimizer step."""
    micro_batch: int | Literal["auto"] = 0
    """Examples that pass through the model at the same time; gradients are accumulated up to batch. 0: the whole batch.
    auto: as many as fit into memory."""
    ema: float = 0.0
    """Decay of the moving average of the weights (Polyak averaging), 0 (off) to below 1. When on, the average is
    evaluated and exported."""
    seed: int = 0
    """Seed of initialisation, order, augmentation and dropout."""
    evaluate_every: str = "1ep"
    """Interval between evaluations on the validation examples: a duration."""
    checkpoint_every: str = "5min"
    """Interval between checkpoints: a duration. A checkpoint is always written at the best evaluation, at the end and
    on interruption."""
    export: Literal["best", "last"] = "best"
    """Which weights become the model folder: those of the best evaluation, or the last ones (no selection on
    validation). The best are kept in any case: in the run's folder best/, if they are not the last."""
    keep_checkpoints: int = 2
    """Number of the newest checkpoints that are kept; at least 2, so that a damaged one has a predecessor."""
    non_finite: Literal["stop", "skip", "roll-back"] = "stop"
    """What happens after a loss or gradient that is infinite or NaN, which is recorded with the step's examples. stop:
    the run stops. skip: the run continues with the next step, at most ten times in a row. roll-back: it returns to the
    newest checkpoint and from there leaves out the failed step and the nine before it."""
    loss_spike: float = 6.0
    """Record the examples of a step whose loss is more than this many standard deviations above the running mean; 0:
    never. Changes no weight."""
    layer_statistics: bool = False
    """Add the norms of each layer's weights, gradients and updates to every training record. Changes no weight."""
    track: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = ()
    """Experiment trackers that get a copy of the records in metrics.jsonl; a resumed run continues the same tracked
    run."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto prefers cuda, then mps, then cpu."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast. auto: bf16 if the hardware multiplies it faster, otherwise fp32."""
    compile: bool = False
    """Compile the training step with torch.compile."""
    deterministic: bool = False
    """On a GPU, compute the same bits every time, with slower kernels: an interrupted run then ends with the same bits
    as an uninterrupted one. On a CPU this is always so."""
    recompute: bool = False
    """Activation checkpointing: recompute a ViT's blocks in the backward pass, which saves memory. Never changes a
    number."""
    shard: Literal["none", "all"] | int = "none"
    """With several processes. none: each holds the whole model. all: parameters, gradients and optimizer state are
    divided among all processes (FSDP2). A number n: they are divided within groups of n processes, each of which holds
    a whole copy (hybrid)."""
    workers: int | Literal["auto"] = "auto"
    """Processes that decode and augment; 0: none. Never changes a number."""

    RENAMED: ClassVar[dict[str, str]] = {
        "model.dropout": "regularisation.dropout",
        "model.drop_path": "regularisation.drop_path",
        "model.block.drop_path": "regularisation.drop_path_schedule",
        "model.patch_dropout": "regularisation.patch_dropout",
        "model.recompute": "recompute",
        "low_resolution_until": "low_resolution_duration",
    }
    """Settings that had other names or places in files of layout 1."""

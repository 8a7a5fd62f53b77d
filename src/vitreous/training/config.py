"""The complete settings of a run, no torch. A recipe returns a complete RunConfig; config.json holds it resolved."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from vitreous.data.config import DataConfig
from vitreous.images.config import AugmentConfig, DecodeConfig, PreprocessConfig
from vitreous.model.config import RegularisationConfig, ViTConfig
from vitreous.model.kinds import Config
from vitreous.objectives.config import ClassifyConfig, ObjectiveConfig

TRACKERS = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio", "mlflow": "mlflow"}
"""Trackers of experiments, and the packages that they need."""
OPTIMIZERS = ("adamw", "sgd", "muon")
"""The optimizers with names of their own."""
ModelConfig = Config
"""The models that can be trained; the first is what a config.json without a kind holds."""


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer."""

    name: str = "adamw"
    """adamw; sgd (momentum); muon: Muon for the matrices of Transformer blocks and the kernels of a ResNet's units, AdamW for
    everything else. Or any class, as module:Class: torch.optim:RAdam."""
    keywords: dict[str, Any] = field(default_factory=dict, hash=False)
    """Arguments of a module:Class besides its rate and weight decay, as in TOML: "betas=[0.9, 0.95], amsgrad=true". It gets none of
    betas, eps and momentum below."""
    lr: float = 1e-3
    """Peak learning rate: at the configured batch, or by `batch_rule`."""
    batch_rule: Literal["fixed", "linear", "sqrt"] = "fixed"
    """How peak rates (lr, muon_lr) follow the batch. fixed: they are those of any batch. linear: times batch / base_batch. sqrt: times
    its root."""
    base_batch: int = 256
    """linear, sqrt: the batch that the peak rates are stated for."""
    weight_decay: float = 1e-4
    """Weight decay of matrices and kernels; never of biases, norms, scales, positions of any kind, registers and tokens."""
    decoupled: bool = True
    """True: each step shrinks weights by weight_decay x lr / peak lr, for any optimizer (big_vision's decoupled
    decay). False: as in torch: AdamW by weight_decay x lr; SGD's is added to the gradient, and so passes through the
    momentum."""
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
    """Sharpness-aware minimisation (2010.01412): each step uses the gradient at a distance of so much uphill, its rho, for twice the
    time; 0: off."""
    layer_decay: float = 1.0
    """Layer-wise rate decay: factor on the learning rate of each block for every block above it, above 0, at most 1
    (off). The head has the full rate, the patches the smallest."""

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
    """cosine or linear decay to `final`; rsqrt (2106.04560) or constant, both ending in a linear cool-down; steps: multiplied
    by `milestone_factor` at each of `milestones`."""
    warmup: str = "10000st,10%"
    """Linear warm-up, (t + 1) / w of the peak at step t of w, counted from 0 (big_vision: t / w): a duration such as
    500st, 5ep, 1.28Mex, a share of the run such as 5%, or the shorter of two: 500st,10%."""
    cooldown: str = "0%"
    """Linear descent to `final` at the end of rsqrt and constant schedules: a duration or a share of the run."""
    final: float = 0.0
    """Learning rate at the end, as a share of the peak, 0 to 1."""
    timescale: int = 10_000
    """rsqrt only: steps after which the decay begins."""
    milestones: tuple[str, ...] = ("30%", "60%", "90%")
    """steps only: when the rate drops, as durations or shares of the run (the defaults are BiT-HyperRule's,
    1912.11370)."""
    milestone_factor: float = 0.1
    """steps only: factor on the rate at each milestone, 0 to 1."""

    RENAMED: ClassVar[dict[str, str]] = {"drops": "milestones", "drop": "milestone_factor"}
    """Settings that had another name in files of layout 1."""


@dataclass(frozen=True)
class EarlyStopConfig:
    """When to stop before the planned end."""

    patience: int = 0
    """Evaluations without a better validation accuracy (several labels an image: mAP; without labels: loss) before
    the run stops; 0: never."""
    min_delta: float = 0.0
    """Gain in validation accuracy, mAP or loss that has to be exceeded for patience to begin anew, 0 to 1; the best model is the
    best by any gain."""


START = ("weights", "weights_as", "weights_grid", "weights_heads")
"""Settings of what a run starts from, whatever its recipe."""


@dataclass(frozen=True)
class RunConfig:
    """One complete training run: the same RunConfig on the same machine gives the same bits."""

    recipe: str = "custom"
    """Recipe that the configuration starts from: small (from scratch, on thousands of images), pretrain, vit-21k, vit-jft, augreg, plain-s16, bit, bit-jft,
    deit (with a teacher), deit-iii; from weights probe, lp-ft, finetune, hyperrule; without labels masked-patches, mae; with
    labelled and unlabelled images noisy-student. auto: for fewer than 2,000 photographs probe, otherwise small; with
    --weights also finetune."""
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
    """Start from this model folder or run folder, or from anything else that can be loaded; auto: recommended
    pre-trained weights, the default if there are too few images to learn from; none: from scratch."""
    weights_as: str | None = None
    """Family of --weights, if the file doesn't say: a family, or family:variant (as --as in other commands)."""
    weights_grid: tuple[int, int] | None = None
    """Rows and columns of patches for the positions of --weights, if the file doesn't say (as --grid)."""
    weights_heads: int | None = None
    """Attention heads of --weights, if the file doesn't say (as --heads)."""
    teacher: str | None = None
    """Distil from this model: a model folder or run folder, or anything else that can be loaded, of any family, that knows the
    data's classes. It sees the same augmented views, resized and normalised as it was trained; see --objective.distillation. Recipe
    noisy-student: the first teacher, which labels the unlabelled images instead."""
    head: Literal["auto", "new", "keep", "logistic"] = "auto"
    """With weights: a new zero-initialised head, or the old one, cut to the data's classes. auto: keep it if it
    knows them all. logistic: a new one, fitted to the frozen features before the first step by logistic regression,
    its l2 chosen by cross-validation on the training images; with a duration of 0st that is all."""
    head_views: int = 0
    """With head logistic: augmented views of each training image to learn from, besides the image itself."""
    refit: bool = False
    """With head logistic, and validation images that were held out of the training images: once the model is measured on
    them, fit the head to all images. The reported accuracy stays the measured one."""
    freeze: Literal["none", "positions", "patches", "trunk"] | int = "none"
    """Parts that stay unchanged: none, positions, patches (with tokens, and positions that are in no block), trunk (all but the
    head and its pooling), or those of patches and the first n blocks. For a ResNet or EfficientNet, patches is its root, and blocks are its units."""
    lora: int = 0
    """Rank of LoRA around the encoder's dense layers, everything else but the head frozen; 0: off. Exported merged."""
    duration: str = "90ep"
    """Length of the run: 90ep (epochs), 2500st (steps), 1.28Mex (examples), or 15min (measured, then fixed as steps)."""
    low_resolution: float = 1.0
    """Share of the rows and columns used in the first part of the run, for cheaper steps: 0.5 is a quarter of the
    tokens; 1: all."""
    low_resolution_duration: str = "90%"
    """How long the run stays at the low resolution, a duration."""
    packed: int = 0
    """Train a ViT on images in their own aspect and of several sizes, packed into few sequences (NaViT, 2307.06304): each has about the
    area of a square whose side is drawn between this, in pixels, and the model's own; 0: all images at the model's size."""
    batch: int = 1024
    """Examples per optimizer step."""
    micro_batch: int | Literal["auto"] = 0
    """Examples that pass through the model at once; gradients are accumulated up to batch. 0: all of batch. auto:
    what fits."""
    ema: float = 0.0
    """Decay of the moving average of the weights (Polyak averaging), 0 (off) to below 1. When on, the average is
    evaluated and exported."""
    seed: int = 0
    """Seed of initialisation, order, augmentation and dropout."""
    evaluate_every: str = "1ep"
    """Interval between evaluations on the validation examples, a duration."""
    checkpoint_every: str = "5min"
    """Interval between checkpoints, a duration; one is always written at the best evaluation, at the end and on
    interruption."""
    export: Literal["best", "last"] = "best"
    """Which weights become the model folder: those of the best evaluation, or (no selection on validation) the last.
    The best are kept in any case: in the run's folder best/ if they are not the last."""
    keep_checkpoints: int = 2
    """Checkpoints kept, newest first; at least 2, so that a damaged one has a predecessor."""
    non_finite: Literal["stop", "skip", "roll-back"] = "stop"
    """What follows a loss or gradient that is infinite or NaN, which is recorded with the step's examples. stop: the run. skip: the
    next step, ten times in a row at most. roll-back: the newest checkpoint, and from there all steps but that and the nine before it."""
    loss_spike: float = 6.0
    """Record the examples of a step whose loss is so many standard deviations above the running mean; 0: never. Changes no weight."""
    layer_statistics: bool = False
    """Record the norms of weights, gradients and updates of each layer with every training record. Changes no weight."""
    track: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = ()
    """Trackers of experiments that get a copy of what metrics.jsonl records; resuming goes on with the same tracked run."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto prefers cuda, then mps, then cpu."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16: autocast. auto: bf16 where the hardware multiplies it faster, else fp32."""
    compile: bool = False
    """Compile the training step with torch.compile."""
    deterministic: bool = False
    """On a GPU, compute the same bits every time, by slower kernels: a run that was interrupted then ends at those of one that
    wasn't. On a CPU all runs do."""
    recompute: bool = False
    """Activation checkpointing: recompute a ViT's blocks in the backward pass, for less memory. Never changes a number."""
    shard: Literal["none", "all"] | int = "none"
    """With several processes: none: each holds the whole model. all: parameters, gradients and optimizer state are divided among all
    (FSDP2). n: among n of them, and as many copies as there are such groups (hybrid)."""
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
    """Settings that had another name, or place, in files of layout 1."""

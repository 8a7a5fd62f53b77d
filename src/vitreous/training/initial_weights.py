"""The weights that a run starts from: new ones, or those of a model folder, with some of them frozen."""

from collections.abc import Sequence
from dataclasses import fields

from torch import Tensor, nn

from vitreous.errors import CheckpointError, ConfigError
from vitreous.model.factory import Model, create
from vitreous.model.lora import add_lora
from vitreous.model.swin import Swin
from vitreous.model.vit import ViT
from vitreous.training.config import RunConfig
from vitreous.training.reporter import Reporter
from vitreous.weights.adaptation import knows_all, slice_head
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import ModelFolder
from vitreous.weights.options import LoadOptions

MAY_DIFFER = (
    "image",
    "classes",
    "pre_logits",
    "position_init",
    "norm_momentum",
    "init",
)
"""Fields of a model's configuration that weights don't depend on, or that `start_from` adapts."""

ANEW = ("new", "logistic")
"""The settings of `head` with which a run begins with a new head."""


def create_initial_model(config: RunConfig, classes: tuple[str, ...], reporter: Reporter, bias: float = 0.0) -> Model:
    """Return the model to start from: freshly initialised, or from weights; with the frozen parts frozen.

    `bias` is the initial value of a new head's biases.

    Raises:
        ConfigError: a bias is given, but the head has none.
    """
    model = create(config.model, config.seed)
    model.regularise(config.regularisation)
    if isinstance(model, (ViT, Swin)):  # other models recompute nothing
        model.recompute = config.recompute
    if bias:
        fill_head_biases(model, bias)
    if config.weights is not None:
        start_from(model, config, classes, reporter, bias)
    for module in select_frozen(model, config.freeze):
        module.requires_grad_(False)
    if config.lora:  # models without blocks were refused before
        add_lora(model, config.lora, seed=config.seed)
    return model


def fill_head_biases(model: Model, bias: float) -> None:
    """Fill the biases of the heads."""
    for head in model.heads.values():
        if isinstance(head, nn.Linear):
            if head.bias is None:
                raise ConfigError(
                    f"the head's biases should start at {bias:.3g}, but this model's head has none; set "
                    "--objective.head-bias-init 0, or --model.head-bias"
                )
            nn.init.constant_(head.bias, bias)


def start_from(
    model: Model, config: RunConfig, classes: tuple[str, ...], reporter: Reporter, bias: float = 0.0
) -> None:
    """Copy the weights of a model folder into a new model, and report what is resized, dropped or new.

    Raises:
        CheckpointError: the weights belong to another architecture.
    """
    assert config.weights is not None
    channels = config.preprocess.channels if config.preprocess.keeps_channels else None
    load_options = LoadOptions(config.weights_as, config.weights_grid, config.weights_heads, channels=channels)
    folder, report = open_model(config.weights, load_options, reporter)
    if report is not None:
        reporter.message(str(report))
    if classes:
        folder = choose_head(folder, config, classes, reporter, bias)
    check_alike(folder.model, model, config.weights)
    old, new = folder.model, model.config
    if tuple(old.config.image) != tuple(new.image):
        if isinstance(old, ViT):
            reporter.message(
                f"positions resized from a grid of {old.config.grid} to {new.grid} by the rule {folder.resize}"
            )
        old = old.resize(tuple(new.image), folder.resize)
    if getattr(old.config, "pre_logits", False) and not getattr(new, "pre_logits", False):
        reporter.message("the tanh pre-logits layer is dropped, as in the paper's fine-tuning")
    weights, kept = old.state_dict(), config.head not in ANEW and folder.classes == classes
    optional = {f"{name}.{own}" for name, head in model.heads.items() for own in head.state_dict()}
    if not kept:
        weights = {name: tensor for name, tensor in weights.items() if name not in optional}
    if isinstance(model, ViT):
        optional |= {f"pre_logits.{own}" for own in model.pre_logits.state_dict()}
    missing, _ = model.load_state_dict(weights, strict=False)  # tensors that the new model lacks are left out
    assert optional.issuperset(missing), missing


def choose_head(
    folder: ModelFolder, config: RunConfig, classes: tuple[str, ...], reporter: Reporter, bias: float
) -> ModelFolder:
    """Return the weights with the head to keep, cut to the data's classes; report a new head and its biases.

    Raises:
        CheckpointError: the head should be kept, but has other classes.
    """
    if config.head not in ANEW and folder.classes != classes and knows_all(folder.classes, classes):
        folder, said = slice_head(folder, classes)
        reporter.message(f"the head is {said}, those of the data")
    if config.head == "keep" and folder.classes != classes:
        raise CheckpointError(
            f"--head keep needs classes that the weights know: {config.weights} has {len(folder.classes)}, the "
            f"data {len(classes)} (or others by name); use --head new"
        )
    if config.head == "logistic":
        reporter.message(f"the head is new, to be fitted to the frozen features, for {len(classes)} classes")
    elif config.head == "new" or folder.classes != classes:
        biased = f", its biases {bias:.3g}" if bias else ""
        reporter.message(f"the head is new, zero-initialised{biased}, for {len(classes)} classes")
    return folder


def check_alike(old: Model, new: Model, where: str) -> None:
    """Raise CheckpointError if the weights belong to a model of another kind or shape."""
    if type(old) is not type(new):
        raise CheckpointError(f"{where} holds a {type(old).__name__}, but this run trains a {type(new).__name__}")
    names = [field.name for field in fields(new.config) if field.name not in MAY_DIFFER]
    differing = [name for name in names if getattr(old.config, name) != getattr(new.config, name)]
    if differing:
        listed = ", ".join(
            f"{name} {getattr(old.config, name)} there, {getattr(new.config, name)} here" for name in differing
        )
        raise CheckpointError(
            f"{where} holds another architecture: {listed}. Recipe 'finetune' uses the architecture of its weights"
        )


def select_frozen(model: Model, freeze: str | int) -> Sequence[nn.Module | nn.Parameter]:
    """List the modules and parameters that a `freeze` setting freezes."""
    trunk = model.trunk
    if freeze == "none":
        return []
    if freeze == "positions":
        return trunk.positions
    if freeze == "patches":
        return trunk.front
    if freeze == "trunk":
        return [*trunk.front, *trunk.blocks, trunk.norm]
    if not 0 <= int(freeze) <= len(trunk.blocks):
        raise ConfigError(f"freeze is {freeze}, but the model has {len(trunk.blocks)} blocks; give a number up to that")
    return [*trunk.front, *trunk.blocks[: int(freeze)]]


def scale_rates(model: Model, decay: float) -> dict[Tensor, float]:
    """Return factors on parameters' learning rates under layer-wise decay (BEiT, 2106.08254, appendix H); empty for a
    decay of 1.

    The last block's factor is `decay`, and each block below it has `decay` times the factor of the block above; the
    patches (with positions and tokens) have the smallest. The final norm and the head learn at the full rate.
    """
    if decay == 1:
        return {}
    front, blocks = model.trunk.front, model.trunk.blocks
    rates: dict[Tensor, float] = {}
    for layer, parts in enumerate([front, *([block] for block in blocks)]):
        for part in parts:
            for parameter in [part] if isinstance(part, nn.Parameter) else part.parameters():
                rates[parameter] = decay ** (len(blocks) + 1 - layer)
    return rates

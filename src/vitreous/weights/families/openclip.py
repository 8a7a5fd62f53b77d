"""The image towers of OpenAI's CLIP and of OpenCLIP: their own ViT, or one of timm's inside OpenCLIP (SigLIP, EVA-02).

The projection becomes the head: its outputs are the values of the space that images and texts share.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor

from vitreous.errors import CheckpointError
from vitreous.images.config import Interpolation, PreprocessConfig
from vitreous.model.config import BlockConfig, ViTConfig
from vitreous.weights.families.base import CLIP, Family, ForeignModel, find_grid, find_heads, get_shape
from vitreous.weights.families.timm import eva, rotary, vit
from vitreous.weights.families.timm.arguments import count_cells, read_size
from vitreous.weights.files import Weights
from vitreous.weights.mapping import TRANSPOSED, Rule, Table, convolution_rules, count_blocks, dense_rules

ROOT, TRUNK = "visual.", "visual.trunk."
TOWER = ("conv1.weight", "class_embedding", "positional_embedding", "proj", "ln_pre.", "ln_post.", "transformer.")
VARIANTS = {"openai": "activation x sigmoid(1.702 x), as OpenAI trained", "openclip": "exact GELU, OpenCLIP's default"}
RESIZES: dict[Any, Literal["squash", "border"]] = {"squash": "squash", "longest": "border"}
"""Names of their resize_mode; the remaining one is shortest."""
OPENAI = "input_resolution"
"""A number among OpenAI's tensors, and nobody else's."""
IGNORED = (
    r"^(transformer|token_embedding|ln_final|text|text_decoder)\.",
    r"^(positional_embedding|text_projection|logit_scale|logit_bias|attn_mask)$",
    r"^(input_resolution|context_length|vocab_size)$",
)
"""The text tower, and what is between the towers."""
KERNELS: dict[Any, Interpolation] = {
    "bicubic": "bicubic",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "lanczos": "lanczos",
}


def table(config: ViTConfig) -> Table:
    """Return the rules of their own ViT."""
    block = f"{ROOT}transformer.resblocks.{{i}}"
    return [
        Rule("patches.embed.weight", (f"{ROOT}conv1.weight",), convolution_rules(config)),
        Rule("patches.embed.bias", (f"{ROOT}conv1.bias",)),
        Rule("class_token", (f"{ROOT}class_embedding",)),
        Rule("positions.embedding", (f"{ROOT}positional_embedding",)),
        *dense_rules("embed_norm", f"{ROOT}ln_pre"),
        *dense_rules("blocks.{i}.attention_norm", f"{block}.ln_1"),
        Rule("blocks.{i}.attention.qkv.weight", (f"{block}.attn.in_proj_weight",)),
        Rule("blocks.{i}.attention.qkv.bias", (f"{block}.attn.in_proj_bias",)),
        *dense_rules("blocks.{i}.attention.out", f"{block}.attn.out_proj"),
        Rule("blocks.{i}.attention_scale.scale", (f"{block}.ls_1.gamma",)),
        *dense_rules("blocks.{i}.mlp_norm", f"{block}.ln_2"),
        *dense_rules("blocks.{i}.mlp.expand", f"{block}.mlp.c_fc"),
        *dense_rules("blocks.{i}.mlp.contract", f"{block}.mlp.c_proj"),
        Rule("blocks.{i}.mlp_scale.scale", (f"{block}.ls_2.gamma",)),
        *dense_rules("norm", f"{ROOT}ln_post"),
        Rule("head.weight", (f"{ROOT}proj",), TRANSPOSED),
    ]


def trunk_table(config: ViTConfig) -> Table:
    """Return timm's rules inside OpenCLIP."""
    rotated = config.rotary.kind != "none" or config.block.qkv_bias == "no-key"
    inner = (rotary if rotated else vit).table(config)
    rules = [replace(rule, theirs=tuple(TRUNK + name for name in rule.theirs)) for rule in inner]
    return [Rule("head.weight", (f"{ROOT}head.proj.weight",)), *rules]


def simplify_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the image tower's names their prefix, if the file holds it alone, and remove those that training added."""
    found = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    alone = "conv1.weight" in found and "class_embedding" in found
    return {ROOT + name if alone and name.startswith(TOWER) else name: tensor for name, tensor in found.items()}


def recognise(weights: Weights) -> float:
    """Their names; certain if there is an open_clip_config.json."""
    tensors = simplify_names(weights.tensors)
    named = f"{ROOT}conv1.weight" in tensors and f"{ROOT}class_embedding" in tensors
    return (2.0 if "model_cfg" in weights.config else 1.0) if named else 0.0


def recognise_trunk(weights: Weights) -> float:
    """timm's names inside theirs."""
    named = any(name.removeprefix("module.") == f"{TRUNK}patch_embed.proj.weight" for name in weights.tensors)
    return (2.0 if "model_cfg" in weights.config else 1.0) if named else 0.0


def read_description(weights: Weights) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the settings of the model and of its image tower in open_clip_config.json."""
    model = weights.config.get("model_cfg") or {}
    return model, model.get("vision_cfg") or {}


def read_activation(weights: Weights, tensors: Mapping[str, Tensor], name: str | None) -> Any:
    """Return the activation, which no tensor shows.

    Raises:
        CheckpointError: nothing says which.
    """
    model, vision = read_description(weights)
    if name in VARIANTS:
        return "quick-gelu" if name == "openai" else "gelu"
    if model:
        tanh = (vision.get("act_kwargs") or {}).get("approximate") == "tanh"
        return "quick-gelu" if model.get("quick_gelu") else ("gelu-tanh" if tanh else "gelu")
    if OPENAI in tensors:
        return "quick-gelu"
    raise CheckpointError(
        f"{weights.path}: OpenAI's CLIP and OpenCLIP's have the same names but different activations, and there "
        "is no open_clip_config.json beside these weights; say --as openai or --as openclip"
    )


def read_pooling(vision: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return how the tower pools."""
    kind = "avg" if vision.get("global_average_pool") else vision.get("pool_type", "tok")
    if kind not in ("tok", "avg") or vision.get("attentional_pool"):
        raise CheckpointError(f"{where}: its pooling ({kind}) is one that vitreous can't build")
    after = bool(vision.get("final_ln_after_pool"))
    return {"pool": "class" if kind == "tok" else "mean", "final_norm": "pooled" if after else "tokens"}


def interpret(weights: Weights, name: str | None) -> ForeignModel:
    """Read the architecture from shapes and open_clip_config.json."""
    tensors, where = simplify_names(weights.tensors), str(weights.path)
    _, vision = read_description(weights)
    width, channels, rows, cols = get_shape(tensors, f"{ROOT}conv1.weight", where)
    heads, assumed = find_heads(weights, width, width // int(vision.get("head_width", 64)) if vision else None)
    eps = float((vision.get("norm_kwargs") or {}).get("eps", 1e-5))
    act = read_activation(weights, tensors, name)
    size = read_size(vision.get("image_size"))
    said = count_cells(size, (rows, cols)) if size else None
    _, grid, squared = find_grid(weights, get_shape(tensors, f"{ROOT}positional_embedding", where)[0], (1,), said)
    classes = tensors[f"{ROOT}proj"].shape[1] if f"{ROOT}proj" in tensors else 0
    config = ViTConfig(
        image=(grid.rows * rows, grid.cols * cols),
        patch=(rows, cols),
        channels=channels,
        width=width,
        depth=count_blocks(tensors, r"visual\.transformer\.resblocks\.(\d+)\."),
        heads=heads,
        mlp_width=get_shape(tensors, f"{ROOT}transformer.resblocks.0.mlp.c_fc.weight", where)[0],
        classes=classes,
        norm_eps=eps,
        patch_bias=f"{ROOT}conv1.bias" in tensors,
        embed_norm=f"{ROOT}ln_pre.weight" in tensors,
        head_bias=False,
        block=BlockConfig(activation=act, layer_scale=1e-5 * (f"{ROOT}transformer.resblocks.0.ls_1.gamma" in tensors)),
        **read_pooling(vision, where),
    )
    config = config if classes else replace(config, head_bias=True)
    assumed += squared + (
        () if vision else (f"activation {act}, epsilon {eps:g}, pooling by [class] after the last norm",)
    )
    images = read_preprocess(weights, config)
    return ForeignModel(config, images, "bicubic-antialias", tensors, assumed, name_embeddings(classes), IGNORED)


def interpret_trunk(weights: Weights, name: str | None) -> ForeignModel:
    """Read one of timm's models inside OpenCLIP; open_clip_config.json names it."""
    tensors = {name.removeprefix("module."): tensor for name, tensor in weights.tensors.items()}
    _, vision = read_description(weights)
    inner = {key.removeprefix(TRUNK): tensor for key, tensor in tensors.items() if key.startswith(TRUNK)}
    like = replace(weights, tensors=inner, config={})
    pool = {"global_pool": vision["timm_pool"]} if vision.get("timm_pool") else {}
    size = {"input_size": (0, *sides)} if (sides := read_size(vision.get("image_size"))) else {}
    called = vision.get("timm_model_name") or name
    plain = eva if eva.recognise(like) else vit
    module = rotary if rotary.find_line(inner, called or "") else plain
    found = module.interpret(replace(like, config=pool | {"pretrained_cfg": size}), called)
    head = f"{ROOT}head.proj.weight"
    config = found.model
    assert isinstance(config, ViTConfig)
    if head in tensors:
        config = replace(config, classes=tensors[head].shape[0], head_bias=False)
    ignored = IGNORED
    images = read_preprocess(weights, config) if weights.config else found.preprocess
    return replace(
        found,
        model=config,
        preprocess=images,
        tensors=tensors,
        classes=name_embeddings(config.classes),
        ignored=ignored,
    )


def name_embeddings(count: int) -> tuple[str, ...]:
    """Name the values of the shared space."""
    return tuple(f"embedding {number}" for number in range(count))


def read_preprocess(weights: Weights, config: ViTConfig) -> PreprocessConfig:
    """Return the evaluation transform: the whole short side, cropped, unless the configuration squashes or adds a
    border."""
    given = weights.config.get("preprocess_cfg") or {}
    return PreprocessConfig(
        size=config.image,
        resize=RESIZES.get(given.get("resize_mode"), "short"),
        rounding="timm",
        fill="black",
        crop=1.0,
        interpolation=KERNELS.get(given.get("interpolation"), "bicubic"),
        mean=tuple(given.get("mean") or CLIP["mean"]),
        std=tuple(given.get("std") or CLIP["std"]),
    )


FAMILY = Family("clip", "OpenAI CLIP, OpenCLIP (their own ViT)", recognise, interpret, table, VARIANTS)
TRUNK_FAMILY = Family("openclip-timm", "OpenCLIP (a ViT of timm's)", recognise_trunk, interpret_trunk, trunk_table)

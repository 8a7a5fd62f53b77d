"""The same random weights in timm's and transformers' ViT give the same numbers."""

import pytest
import torch
from torch import Tensor, nn

from vitreous.model.factory import create
from vitreous.model.names import build_vit_config
from vitreous.model.vit import ViT

MODELS = [("Ti/16", 12), ("B/16", 2), pytest.param("B/16", 12, marks=pytest.mark.slow)]


def random_model(name: str, **overrides: object) -> ViT:
    """Every parameter drawn at random: a zero head or zero biases would hide mistakes."""
    model = create(build_vit_config(name, **overrides), seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.copy_(1 + noise if "norm" in key and key.endswith("weight") else parameter + noise)
    return model.eval()


def images(count: int = 2, rows: int = 224, cols: int = 224) -> Tensor:
    return torch.randn(count, 3, rows, cols, generator=torch.Generator().manual_seed(2))


def to_timm(model: ViT) -> dict[str, Tensor]:
    ours = model.state_dict()
    names = {
        "cls_token": ours["class_token"].view(1, 1, -1),
        "pos_embed": ours["positions.embedding"][None],
        "patch_embed.proj.weight": model.patches.kernel.detach(),
        "patch_embed.proj.bias": ours["patches.embed.bias"],
    }
    parts = {
        "attention_norm": "norm1",
        "attention.qkv": "attn.qkv",
        "attention.out": "attn.proj",
        "mlp_norm": "norm2",
        "mlp.expand": "mlp.fc1",
        "mlp.contract": "mlp.fc2",
    }
    for index in range(model.config.depth):
        for own, theirs in parts.items():
            for kind in ("weight", "bias"):
                names[f"blocks.{index}.{theirs}.{kind}"] = ours[f"blocks.{index}.{own}.{kind}"]
    return names | {name: ours[name] for name in ("norm.weight", "norm.bias", "head.weight", "head.bias")}


def timm_twin(model: ViT) -> nn.Module:
    import timm

    name = {192: "vit_tiny_patch16_224", 768: "vit_base_patch16_224"}[model.config.width]
    twin = timm.create_model(name, pretrained=False, depth=model.config.depth)
    twin.load_state_dict(to_timm(model))
    return twin.eval()


def transformers_twin(model: ViT) -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=model.config.width,
        num_hidden_layers=model.config.depth,
        num_attention_heads=model.config.heads,
        intermediate_size=model.config.mlp_width,
        layer_norm_eps=1e-6,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=1000,
    )
    twin = ViTForImageClassification(config).eval()
    theirs = twin.state_dict()
    ours = model.state_dict()
    twin.load_state_dict({key: hugging_face_tensor(key, ours, model) for key in theirs})
    return twin


def hugging_face_tensor(key: str, ours: dict[str, Tensor], model: ViT) -> Tensor:
    """Find our tensor for a key of transformers' ViT, whichever of its two namings is in use."""
    kind = key.rpartition(".")[2]
    if "cls_token" in key:
        return ours["class_token"].view(1, 1, -1)
    if "position_embeddings" in key:
        return ours["positions.embedding"][None]
    if "patch_embeddings" in key:
        return model.patches.kernel.detach() if kind == "weight" else ours["patches.embed.bias"]
    if key.startswith("classifier"):
        return ours[f"head.{kind}"]
    numbers = [part for part in key.split(".") if part.isdigit()]
    if not numbers:
        return ours[f"norm.{kind}"]
    block = f"blocks.{numbers[0]}"
    for index, names in enumerate((("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))):
        if any(f".{name}." in key for name in names):
            return ours[f"{block}.attention.qkv.{kind}"].chunk(3)[index]
    places = {
        "layernorm_before": "attention_norm",
        "layernorm_after": "mlp_norm",
        "intermediate.dense": "mlp.expand",
        "mlp.fc1": "mlp.expand",
        "attention.output.dense": "attention.out",
        "o_proj": "attention.out",
        "mlp.fc2": "mlp.contract",
        "output.dense": "mlp.contract",
    }
    return ours[f"{block}.{next(own for theirs, own in places.items() if theirs in key)}.{kind}"]


@pytest.mark.parametrize(("name", "depth"), MODELS)
def test_logits_equal_timms(name: str, depth: int) -> None:
    model = random_model(name, depth=depth)
    with torch.inference_mode():
        difference = (model(images()) - timm_twin(model)(images())).abs().max()
    assert float(difference) < 1e-5


@pytest.mark.parametrize(("name", "depth"), MODELS)
def test_logits_equal_transformers(name: str, depth: int) -> None:
    model = random_model(name, depth=depth)
    with torch.inference_mode():
        difference = (model(images()) - transformers_twin(model)(images()).logits).abs().max()
    assert float(difference) < 1e-5


def test_the_sequence_equals_timms_with_and_without_the_final_norm() -> None:
    model = random_model("Ti/16")
    twin = timm_twin(model)
    found = model.intermediates(images(1), ["block.5", "norm"])
    _, layers = twin.forward_intermediates(
        images(1), indices=[5], norm=False, output_fmt="NLC", return_prefix_tokens=True
    )
    patches, prefix = layers[0]
    torch.testing.assert_close(found["block.5"], torch.cat([prefix, patches], 1), rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(found["norm"], twin.forward_features(images(1)), rtol=1e-5, atol=2e-5)


def test_gradients_equal_timms() -> None:
    model = random_model("Ti/16")
    twin = timm_twin(model)
    labels = torch.tensor([1, 7])
    for one in (model, twin):
        nn.functional.cross_entropy(one(images()), labels).backward()
    ours = {name: p.grad for name, p in model.named_parameters()}
    theirs = dict(twin.named_parameters())
    pairs = [("blocks.0.attention.qkv.weight", "blocks.0.attn.qkv.weight"), ("norm.weight", "norm.weight")]
    for own, other in pairs:
        torch.testing.assert_close(ours[own], theirs[other].grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours["positions.embedding"], theirs["pos_embed"].grad[0], rtol=1e-4, atol=1e-6)

"""What is not read is called by its name."""

import warnings
from pathlib import Path

import pytest
import torch

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign

FILES = {
    "layers.0.blocks.0.attn.meta_mlp.fc1.weight": "SwinV2-CR",
    "layer1.0.conv1.weight": "a ResNet with batch norm",
    "visual.attnpool.positional_embedding": "CLIP's ResNets",
    "blocks.0.attns.0.attn.qkv.weight": "several attentions and MLPs side by side",
    "model.layers.0.self_attn.q_proj.weight": "a language model",
    "image_encoder.blocks.0.attn.rel_pos_h": "SAM's or ViTDet's",
    "embeds.proj.weight": "NaFlexVit",
    "base_model.model.blocks.0.attn.qkv.lora_A.default.weight": r"adapters \(PEFT's merge_and_unload",
    "blocks.0.mlp.fc1.weight_orig": "weight or spectral norm, pruning: remove the parametrization",
    "blocks.0.attn.qkv.weight_v": "weight or spectral norm, pruning: remove the parametrization",
    "blocks.0.attn.qkv.zero_point": "a quantised model; the float one is read",
    "something.weight": "of no family that vitreous knows",
}


@pytest.mark.parametrize("name", list(FILES))
def test_a_refusal_says_what_the_file_is(name: str, tmp_path: Path) -> None:
    torch.save({name: torch.zeros(4, 4), "other.bias": torch.zeros(4)}, tmp_path / "model.pth")
    with pytest.raises(CheckpointError, match=FILES[name]) as told:
        load_foreign(tmp_path / "model.pth")
    assert "\n" not in str(told.value)


def test_a_config_that_names_another_kind_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "hiera"}')
    torch.save({"embeddings.weight": torch.zeros(4, 4)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="called 'hiera' by its config"):
        load_foreign(tmp_path)


def test_quantised_tensors_are_called_so(tmp_path: Path) -> None:
    """As torch.ao.quantization pickles them, by the name of their storage's class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"head.weight": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="it holds quantised tensors; save the float model"):
        load_foreign(tmp_path / "a.pth")

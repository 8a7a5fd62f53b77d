"""The masked autoencoder's encoder, decoder and loss against transformers' ViTMAEForPreTraining."""

from pathlib import Path

import pytest
import torch
from tests.support.twins import CLOSE, images, randomise

from vitreous.objectives.config import MaskedAutoencoderConfig
from vitreous.objectives.masked_autoencoder import MaskedAutoencoder
from vitreous.weights.foreign import load_foreign

CONFIG = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
DECODER = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2}


def take_decoder(ours: MaskedAutoencoder, theirs: torch.nn.Module) -> None:
    """Copy the decoder's weights; its positions are left out, as both fix them."""
    state = {name: tensor for name, tensor in theirs.state_dict().items() if name != "decoder_pos_embed"}
    renamed = {"mask_token": state["mask_token"][0, 0]}
    for ending in ("weight", "bias"):
        renamed[f"embed.{ending}"] = state[f"decoder_embed.{ending}"]
        renamed[f"norm.{ending}"] = state[f"decoder_norm.{ending}"]
        # theirs: (row, col, channel); ours: (channel, row, col)
        rows = state[f"decoder_pred.{ending}"].unflatten(0, (8, 8, 3))
        renamed[f"predict.{ending}"] = rows.movedim(2, 0).flatten(0, 2)
        for index in range(2):
            layer, block = f"decoder_layers.{index}", f"blocks.{index}"
            qkv = [state[f"{layer}.attention.{letter}_proj.{ending}"] for letter in "qkv"]
            renamed[f"{block}.attention.qkv.{ending}"] = torch.cat(qkv)
            for mine, yours in (
                ("attention.out", "attention.o_proj"),
                ("attention_norm", "layernorm_before"),
                ("mlp_norm", "layernorm_after"),
                ("mlp.expand", "mlp.fc1"),
                ("mlp.contract", "mlp.fc2"),
            ):
                renamed[f"{block}.{mine}.{ending}"] = state[f"{layer}.{yours}.{ending}"]
    ours.decoder.load_state_dict(renamed)


def fix_positions(theirs: torch.nn.Module) -> None:
    """Give their decoder the positions that it has when its weights are initialised or loaded."""
    from transformers.models.vit_mae import modeling_vit_mae as module

    found = module.build_2d_sinusoidal_position_embedding(height=4, width=4, embed_dim=32, cls_token=True)
    with torch.no_grad():
        theirs.decoder_pos_embed.copy_(torch.cat([found[..., 16:], found[..., :16]], dim=-1))


@pytest.mark.parametrize("normalised", [True, False])
def test_encoder_decoder_and_loss_equal_transformers(normalised: bool, tmp_path: Path) -> None:
    import transformers

    config = transformers.ViTMAEConfig(
        **CONFIG, **DECODER, intermediate_size=96, decoder_intermediate_size=128, norm_pix_loss=normalised
    )
    twin = transformers.ViTMAEForPreTraining(config)
    randomise(twin)
    fix_positions(twin.decoder)
    twin.save_pretrained(tmp_path)
    model = load_foreign(tmp_path)[0].model
    settings = MaskedAutoencoderConfig(decoder_width=32, decoder_depth=2, decoder_heads=2, normalise_targets=normalised)
    ours = MaskedAutoencoder(model, settings).eval()
    take_decoder(ours, twin.decoder)
    noise = ours.noise(2, torch.Generator().manual_seed(3))
    order = noise[:, 0].argsort(dim=1)
    with torch.inference_mode():
        theirs = twin(images(32, 32), noise=noise[:, 0])
        seen = twin.vit(images(32, 32), noise=noise[:, 0]).last_hidden_state
        z = model.encode(model.assemble(model.patches(images(32, 32)), order[:, :4]))
        loss, _ = ours(images(32, 32), noise)
        predicted = ours.decoder(z, order).unflatten(2, (3, 8, 8)).movedim(2, 4).flatten(2)
    assert float((seen - z).abs().max()) < CLOSE
    assert float((theirs.logits - predicted).abs().max()) < CLOSE
    assert float(predicted.std()) > 0.1
    assert float(loss) == pytest.approx(float(theirs.loss), rel=1e-5)

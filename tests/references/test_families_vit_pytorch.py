"""vit-pytorch's models, of today and of earlier versions, saved as state_dicts and loaded by us, give their numbers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from tests.support.twins import CLOSE, difference, randomise
from torch import Tensor, nn
from torch.nn import functional as F

from vitreous.errors import CheckpointError
from vitreous.weights.foreign import load_foreign
from vitreous.weights.options import LoadOptions

SIZES: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 8,
    "num_classes": 5,
    "dim": 64,
    "depth": 2,
    "heads": 2,
    "mlp_dim": 96,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "class": ("ViT", {}),
    "mean": ("ViT", {"pool": "mean", "heads": 1, "channels": 1}),
    "one head": ("ViT", {"heads": 1, "dim_head": 64}),
    "simple": ("SimpleViT", {"image_size": 224, "patch_size": 32}),
    "simple, not square": ("SimpleViT", {"image_size": (64, 96), "patch_size": 16, "dim": 128, "channels": 1}),
}


def made(case: str) -> nn.Module:
    from vit_pytorch import SimpleViT, ViT

    kind, more = CASES[case]
    return randomise({"ViT": ViT, "SimpleViT": SimpleViT}[kind](**SIZES | more))


@pytest.mark.parametrize("case", list(CASES))
def test_logits_equal_vit_pytorchs(case: str, tmp_path: Path) -> None:
    model = made(case)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    size = CASES[case][1].get("image_size", 32)
    load_options = (
        LoadOptions(image=size if isinstance(size, tuple) else (size, size))
        if case.startswith("simple")
        else LoadOptions()
    )
    folder, report = load_foreign(tmp_path / "model.pt", load_options)
    assert (report.origin.split(":")[0], report.unused, report.new) == ("vit-pytorch", (), ())
    assert any("64 values each" in note for note in report.assumed)
    assert difference(folder.model, model) < CLOSE


class Earlier(nn.Module):
    """vit-pytorch 0.40 (vit.py), from its formulas: a norm around each branch, none at the end, one in the head."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self.pool = pool
        self.pos_embedding = nn.Parameter(torch.randn(1, 17, 64))
        self.cls_token = nn.Parameter(torch.randn(1, 1, 64))
        self.to_patch_embedding = nn.Sequential(nn.Identity(), nn.Linear(192, 64))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            nn.ModuleList([self.around(self.attention()), self.around(self.mlp())]) for _ in range(2)
        )
        self.mlp_head = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 5))

    @staticmethod
    def around(inner: nn.Module) -> nn.Module:
        found = nn.Module()
        found.norm, found.fn = nn.LayerNorm(64), inner
        return found

    @staticmethod
    def attention() -> nn.Module:
        found = nn.Module()
        found.to_qkv, found.to_out = nn.Linear(64, 3 * 128, bias=False), nn.Sequential(nn.Linear(128, 64), nn.Dropout())
        return found

    @staticmethod
    def mlp() -> nn.Module:
        found = nn.Module()
        found.net = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.Dropout(0.0), nn.Linear(96, 64), nn.Dropout(0.0))
        return found

    def forward(self, pixels: Tensor) -> Tensor:
        cut: Callable[..., Tensor] = rearrange
        x = self.to_patch_embedding(cut(pixels, "b c (h p) (w q) -> b (h w) (p q c)", p=8, q=8))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        for attention, mlp in self.transformer.layers:
            qkv = attention.fn.to_qkv(attention.norm(x)).chunk(3, dim=-1)
            q, k, v = (cut(part, "b n (h d) -> b h n d", h=2) for part in qkv)
            gathered = ((q @ k.mT) * 64**-0.5).softmax(dim=-1) @ v
            x = attention.fn.to_out[0](cut(gathered, "b h n d -> b n (h d)")) + x
            x = mlp.fn.net[3](F.gelu(mlp.fn.net[0](mlp.norm(x)))) + x
        return self.mlp_head(x.mean(dim=1) if self.pool == "mean" else x[:, 0])


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_earlier_versions_are_read_too(pool: str, tmp_path: Path) -> None:
    model = randomise(Earlier(pool))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    folder, report = load_foreign(
        tmp_path / "model.pt", LoadOptions(family="vit-pytorch-mean" if pool == "mean" else None)
    )
    assert (report.unused, report.new) == ((), ())
    assert pool == "mean" or any("--as vit-pytorch-mean" in note for note in report.assumed)
    assert difference(folder.model, model) < CLOSE


def test_what_its_shapes_do_not_tell_is_refused(tmp_path: Path) -> None:
    from vit_pytorch import ViT

    for settings, told in (({"dim_head": 40}, "64 doesn't divide"), ({"patch_size": (8, 4)}, "no square patch")):
        torch.save(ViT(**SIZES | settings).state_dict(), tmp_path / "model.pt")
        with pytest.raises(CheckpointError, match=told):
            load_foreign(tmp_path / "model.pt")

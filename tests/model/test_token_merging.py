"""Token merging against loops over single tokens in float64, as the paper and its authors' code have it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.deploy.conftest import trained

from vitreous.errors import ConfigError
from vitreous.model.attention import NOWHERE
from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.model.count import count_flops
from vitreous.model.factory import create
from vitreous.model.resnet_config import ResNetConfig
from vitreous.model.token_merging import Merging, check_merging, merge_pairs

PLAIN = ViTConfig(image=(16, 24), patch=(4, 4), width=32, depth=3, heads=2, mlp_width=48, classes=5)
CASES = {
    "class": {},
    "class, an odd number of patches": {"image": (20, 12)},
    "distilled": {"distillation_token": True},
    "no prefix, mean": {"class_token": False, "pool": "mean"},
    "mean, normed after": {"pool": "mean", "final_norm": "pooled"},
    "class and mean": {"pool": "class+mean"},
    "registers, mean of all": {"registers": 2, "pool": "mean", "pool_prefix": True},
    "attention pooling": {"class_token": False, "pool": "map"},
    "max": {"pool": "max"},
    "layer scale, QK norm": {
        "block": BlockConfig(layer_scale=0.1, qk_norm=True, attention_inner_norm=True, mlp="swiglu")
    },
}


def images(config, count=2):
    return torch.randn(count, 3, *config.image, generator=torch.Generator().manual_seed(2))


def attention_weights(q, k, counts):
    """One query after the other; a token of several patches counts as often (the paper's equation 1)."""
    weights = np.empty((len(q), len(k)))
    for query in range(len(q)):
        powers = np.exp(k @ q[query] / math.sqrt(q.shape[1])) * counts
        weights[query] = powers / powers.sum()
    return weights


def match(keys, counts, tokens, pairs, prefix):
    """Bipartite soft matching, one token after the other (the paper's appendix D; the authors' merge.py)."""
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    even = [place for place in range(prefix, len(keys)) if place % 2 == 0]
    odd = [place for place in range(prefix, len(keys)) if place % 2]
    pairs = min(pairs, (len(keys) - prefix) // 2)
    partner = {place: max(odd, key=lambda other: unit[place] @ unit[other]) for place in even} if odd else {}
    ranked = sorted(even, key=lambda place: -(unit[place] @ unit[partner[place]])) if odd else even
    away, stay = ranked[:pairs], ranked[pairs:]
    total, count = tokens * counts[:, None], counts.copy()
    for place in away:
        total[partner[place]] += tokens[place] * counts[place]
        count[partner[place]] += counts[place]
    kept = [*range(prefix), *(sorted(stay) if prefix else stay), *odd]
    return (total / count[:, None])[kept], count[kept]


def reference(model, image, pairs):
    """Return the tokens of one image after the last norm, and how many patches each is made of."""
    tokens = model.embed(image[None])[0].numpy()
    counts = np.ones(len(tokens))
    see = lambda layer, values: layer(torch.from_numpy(values)[None])[0].numpy()  # noqa: E731
    for block in model.blocks:
        q, k, v, _ = (part[0].numpy() if part is not None else None for part in block.attention.compute_heads(
            block.attention.project(block.attention_norm(torch.from_numpy(tokens)[None])), NOWHERE
        ))  # fmt: skip
        gathered = np.concatenate([attention_weights(q[head], k[head], counts) @ v[head] for head in range(len(q))], 1)
        tokens = tokens + see(block.attention_scale, see(block.attention.out, see(block.attention.norm, gathered)))
        tokens, counts = match(k.mean(0), counts, tokens, pairs, model.config.prefix)
        tokens = tokens + see(block.mlp_scale, see(block.mlp, see(block.mlp_norm, tokens)))
    return (see(model.norm, tokens) if model.config.final_norm == "tokens" else tokens), counts


def represent(model, tokens, counts):
    """Return what the head reads: every patch counts once, however it was merged."""
    copies = np.concatenate([np.repeat(tokens[place][None], round(counts[place]), 0) for place in range(len(tokens))])
    return model.represent(torch.from_numpy(copies)[None])


@pytest.mark.parametrize("name", CASES)
def test_merging_is_that_of_the_paper(name) -> None:
    model = trained(replace(PLAIN, **CASES[name])).double()
    with torch.no_grad():
        given = images(model.config).double()
        merging = Merging(model, 4)
        tokens, sizes = merging.tokens(given)
        logits, features = merging(given), merging.features(given)
        for place, image in enumerate(given):
            expected, counts = reference(model, image, 4)
            assert sizes[place, :, 0].tolist() == counts.tolist()
            np.testing.assert_allclose(tokens[place], expected, atol=1e-9)
            pooled = represent(model, expected, counts)
            torch.testing.assert_close(features[place : place + 1], pooled, atol=1e-9, rtol=0)
            both = [model.head(pooled)]
            if model.distillation_head is not None:
                both.append(model.distillation_head(torch.from_numpy(expected[None, 1])))
            torch.testing.assert_close(logits[place : place + 1], sum(both) / len(both), atol=1e-9, rtol=0)


def test_late_blocks_merge_what_is_left() -> None:
    model = trained(PLAIN)
    with torch.no_grad():
        tokens, sizes = Merging(model, 10)(images(PLAIN)), Merging(model, 10).tokens(images(PLAIN))[1]
    assert tokens.shape == (2, 5)
    assert sizes.shape[1] == 1 + 4  # 24 patches, less 10, less 7, less 3
    assert sizes[:, 1:].sum(1).tolist() == [[24], [24]]


def test_merging_nothing_is_the_model_itself() -> None:
    model = trained(replace(PLAIN, pool="mean", registers=2))
    given = images(PLAIN)
    torch.testing.assert_close(Merging(model, 0)(given), model(given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_equal_patches_merge_without_loss(pool) -> None:
    """Where all patches are the same and nothing tells their places, any merging leaves the logits as they are."""
    model = trained(replace(PLAIN, positions="none", pool=pool)).double()
    flat = torch.ones(2, 3, 16, 24).double()
    torch.testing.assert_close(Merging(model, 5)(flat), model(flat), atol=1e-9, rtol=1e-9)


def test_merging_keeps_the_weighed_mean() -> None:
    z, size, keys = torch.randn(2, 9, 4), torch.ones(2, 9, 1), torch.randn(2, 9, 6)
    merged, sizes = merge_pairs(z, size, keys, 3, prefix=1)
    assert merged.shape == (2, 6, 4)
    assert torch.equal(sizes.sum(1), size.sum(1))
    torch.testing.assert_close((merged * sizes).sum(1), z.sum(1))
    assert torch.equal(merged[:, 0], z[:, 0])


def test_operations_are_those_of_fewer_tokens() -> None:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    model = trained(PLAIN)
    for pairs in (0, 4, 9):
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            Merging(model, pairs)(images(PLAIN, 1))
        assert counter.get_total_flops() == count_flops(PLAIN, pairs), pairs


def test_what_cannot_merge_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no place of their own.*; leave out merge"):
        Merging(create(replace(PLAIN, positions="none", rotary=RotaryConfig("cells"))), 2)
    with pytest.raises(
        ConfigError, match="merge is 13, but a block can merge at most half of this model's 24 patches: 12 pairs; 6"
    ):
        Merging(create(PLAIN), 13)
    with pytest.raises(ConfigError, match="merge is -1"):
        Merging(create(PLAIN), -1)
    with pytest.raises(ConfigError, match="a ResNet has no tokens to merge; leave out merge"):
        check_merging(create(ResNetConfig(image=(32, 32), units=(1,))), 2)

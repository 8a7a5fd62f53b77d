import pytest
import torch
from tests.support.explanations import CLASSES
from torch import Tensor

from vitreous.errors import ConfigError
from vitreous.images.config import DecodeConfig, PreprocessConfig
from vitreous.insight import windows
from vitreous.insight.activations import compute_activation_map, grad_cam
from vitreous.insight.attention import read_attention
from vitreous.insight.methods import MapOptions, compute_heat, list_fitting, settle_options
from vitreous.insight.rollout import compute_rollout
from vitreous.insight.windows import (
    compute_window_attention,
    compute_window_gradient,
    compute_window_relevance,
    measure_stage_distances,
)
from vitreous.model.factory import create
from vitreous.model.swin import Swin
from vitreous.model.swin_config import SwinConfig
from vitreous.weights.model_folder import ModelFolder

CONFIG = SwinConfig(
    image=(32, 48), width=16, depths=(2, 2), heads=(2, 4), windows=((4, 4), (4, 3)), channels=3, classes=5
)


def drawn(config: SwinConfig = CONFIG) -> Swin:
    model, generator = create(config, seed=1).eval(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def images(rows: int = 32, cols: int = 48) -> Tensor:
    return torch.randn(3, 3, rows, cols, generator=torch.Generator().manual_seed(2))


def dense(model: Swin, pixels: Tensor, layer: int) -> Tensor:
    """Weights (image, head, query, key) of all patches, pair by pair from the definition of windows; no padding."""
    stage, index = (0, layer) if layer < 2 else (1, layer - 2)
    block, (rows, cols) = model.blocks[layer], model.config.maps[stage]
    (down, across), heads = model.config.windows[stage], model.config.heads[stage]
    before: list[Tensor] = []
    hook = block.attention.register_forward_pre_hook(lambda _module, given: before.append(given[0]))
    with torch.no_grad():
        model(pixels)
        hook.remove()
        q, k, _ = block.attention.qkv(before[0]).unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    shift = [side // 2 if index and side < count else 0 for side, count in ((down, rows), (across, cols))]
    logits = (q @ k.mT) * q.shape[-1] ** -0.5
    table = block.attention.relative.table.detach().view(2 * down - 1, 2 * across - 1, heads)
    for one in range(rows * cols):
        for other in range(rows * cols):
            y, x, v, u = one // cols, one % cols, other // cols, other % cols
            cells = [
                ((y - shift[0]) // down, (x - shift[1]) // across),
                ((v - shift[0]) // down, (u - shift[1]) // across),
            ]
            if cells[0] == cells[1]:
                logits[:, :, one, other] += table[y - v + down - 1, x - u + across - 1]
            else:
                logits[:, :, one, other] = -torch.inf
    return logits.softmax(dim=-1)


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_weights_within_windows_are_those_of_their_definition(layer: int) -> None:
    model, pixels = drawn(), images()
    expected = dense(model, pixels, layer)
    found = compute_window_attention(model, pixels, layer)
    assert torch.allclose(found.flatten(2), expected.mean(dim=2), atol=1e-5)
    stage = 0 if layer < 2 else 1
    rows, cols = model.config.maps[stage]
    place = torch.cartesian_prod(torch.arange(rows), torch.arange(cols)) * 4.0 * 2**stage
    far = (expected * torch.cdist(place, place)).sum(dim=-1).mean(dim=(0, 2))
    surprise = torch.special.entr(expected).sum(dim=-1).mean(dim=(0, 2))
    distances = measure_stage_distances(model, [pixels[:1], pixels[1:]])[stage]
    assert torch.allclose(distances.distance[layer % 2].float(), far, rtol=1e-4)
    assert torch.allclose(distances.entropy[layer % 2].float(), surprise, rtol=1e-4)
    assert not distances.prefix.abs().gt(1e-6).any() and distances.images == 3


def test_padding_is_counted_and_left_out_of_maps() -> None:
    model, pixels = drawn(), images(40, 40)  # maps of 10x10 and 5x5
    found = compute_window_attention(model, pixels, 0)
    assert found.shape == (3, 2, 10, 10) and (found.sum(dim=(2, 3)) < 0.999).all()
    distances = measure_stage_distances(model, pixels)
    assert [part.distance.shape for part in distances] == [(2, 2), (2, 4)]
    assert torch.allclose(distances[0].prefix[0].float(), 1 - found.sum(dim=(2, 3)).mean(dim=0), atol=1e-5)


def test_relevance_and_gradients_are_those_of_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of the weights themselves, by autograd through an attention that keeps them."""
    model, pixels, targets = drawn(), images(), [3, 0, 2]
    relevance = compute_window_relevance(model, pixels, targets)
    gradient = compute_window_gradient(model, pixels, targets, 2)
    kept: list[Tensor] = []

    def attend(heads: windows.Heads) -> Tensor:
        weights = ((heads.q * heads.q.shape[-1] ** -0.5) @ heads.k.mT + heads.bias).softmax(dim=-1)
        weights.retain_grad()
        kept.append(weights)
        return weights @ heads.v

    monkeypatch.setattr("vitreous.model.attention.attend", attend)
    model(pixels)[range(3), targets].sum().backward()
    rows, cols = model.config.maps[1]
    one = torch.eye(rows * cols).expand(3, -1, -1)
    total = one
    for weights in kept[2:]:  # two windows side by side, along an axis that is shifted in the last layer
        positive = (weights * weights.grad).clamp_min(0).detach().unflatten(1, (2, 4))
        full = torch.zeros(3, 4, rows, cols, rows, cols)
        for window in range(2):
            part = positive[:, window].unflatten(3, (4, 3)).unflatten(2, (4, 3))
            full[:, :, :, 3 * window : 3 * window + 3, :, 3 * window : 3 * window + 3] = part
        if weights is kept[3]:  # the windows lie one column further right, and meet round the end
            full = full.roll((1, 1), dims=(3, 5))
        full = full.flatten(4).flatten(2, 3)
        if weights is kept[2]:
            assert torch.allclose(gradient.flatten(2), full.mean(dim=2), atol=1e-6)
        total = total + full.mean(dim=1) @ total
    assert torch.allclose(relevance.flatten(1), total.mean(dim=1), atol=1e-6)


def folder(model: Swin) -> ModelFolder:
    names = CLASSES if model.config.classes else ()
    return ModelFolder(model, PreprocessConfig(size=model.config.image), DecodeConfig(), names)


def test_every_fitting_method_gives_a_map_and_the_others_say_why_not() -> None:
    model = drawn()
    assert list_fitting(folder(model)) == ["grad-cam", "relevance", "attention", "gradient", "activation"]
    assert list_fitting(folder(create(SwinConfig(**CONFIG.__dict__ | {"classes": 0})))) == ["attention", "activation"]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for method in list_fitting(folder(model)):
        options = settle_options(MapOptions(method), folder(model))
        heat, _ = compute_heat(model.train(), images(), [0, 1, 2], options)
        assert heat.shape == (3, 4, 6) and (heat >= 0).all() and heat.std() > 0
        assert model.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert not any(parameter.grad is not None for parameter in model.parameters())
    with pytest.raises(ConfigError, match="no matrix of all patches to multiply; these do: grad-cam"):
        settle_options(MapOptions("rollout"), folder(model))
    with pytest.raises(ConfigError, match="pooling doesn't fit a Swin Transformer"):
        settle_options(MapOptions("pooling"), folder(model))
    with pytest.raises(ConfigError, match="head 3 is outside"):
        settle_options(MapOptions("attention", layer=0, head=3), folder(model))
    for function in (compute_rollout, read_attention):
        with pytest.raises(ConfigError, match="attends within windows"):
            function(model, images())


def test_layers_are_blocks_of_all_stages() -> None:
    model, pixels = drawn().eval(), images()
    with torch.no_grad():
        found = model.intermediates(pixels, ["block.1", "norm"])
    expected = found["block.1"].square().mean(dim=2).sqrt().unflatten(1, (8, 12))
    assert torch.allclose(compute_activation_map(model, pixels, 1), expected)
    head = model.head.weight.detach()[4]  # the mean over places of what the head's class weighs
    expected = (found["norm"] * head / 24).sum(dim=2).clamp_min(0).unflatten(1, (4, 6))
    assert torch.allclose(grad_cam(model, pixels, 4), expected, atol=1e-6)

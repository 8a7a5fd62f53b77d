"""The role of every parameter of every variant of the model and of every objective, held against a list of full names."""

import copy
import pickle
import re
from dataclasses import replace
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from tests.model.test_options import CASES, SMALL
from tests.model.test_variants import PLAIN, VARIANTS
from torch import nn

from vitreous.model.config import BlockConfig, RotaryConfig, ViTConfig
from vitreous.model.factory import create, create_empty
from vitreous.model.init import initialise
from vitreous.model.lora import add_lora
from vitreous.model.names import build_vit_config
from vitreous.model.parameters import HEAD, TABLE, declare, roles
from vitreous.model.positions.added import encode_places
from vitreous.model.resnet_config import StemConfig, build_resnet_config
from vitreous.model.vit import ViT
from vitreous.objectives.build import build_objective
from vitreous.objectives.config import ClassifyConfig, MaskedAutoencoderConfig, MaskedPatchesConfig
from vitreous.training.optimizer import build_average

MATRICES = {
    r"(?:decoder\.|model\.)?blocks\.\d+\.attention\.qkv\.weight": 3,
    r"(?:decoder\.|model\.)?blocks\.\d+\.attention\.out\.weight": 1,
    r"(?:decoder\.|model\.)?blocks\.\d+\.mlp\.(?:expand|contract)\.weight": 1,
    r"stages\.\d+\.\d+\.(?:conv[123]|project)\.weight": 1,
}
"""What Muon takes, by full name, and how many matrices each is. (Gated layers: see `matrices_of`.)"""
KERNELS = (
    r"(?:model\.)?patches\.embed\.weight",
    r"patches\.stem\.(?:conv|stages\.\d+\.\d+\.(?:conv[123]|project)|[036])\.weight",
    r"(?:model\.)?pool\.attention\.(?:q|kv|out|mlp\.expand|mlp\.contract)\.weight",
    r"pre_logits\.0\.weight",
    r"(?:distillation_)?head\.weight",
    r"root\.conv\.weight",
    r"decoder\.(?:embed|predict)\.weight",
)
"""What else decays."""
STILL = (
    r".*\bbias",
    r".*\b(?:q_bias|v_bias)",
    r".*(?:norm|norm[123]|last_norm|project_norm)\.weight",
    r"patches\.stem\.[147]\.weight",
    r"(?:model\.)?(?:class_token|distillation_token|registers)",
    r"(?:model\.)?(?:positions|layer_positions\.\d+)\.(?:embedding|prefix_embedding|row_embedding|col_embedding)",
    r"(?:relative|blocks\.\d+\.attention\.relative)\.table",
    r"blocks\.\d+\.(?:attention|mlp)_scale\.scale",
    r"pool\.attention\.probe",
    r"(?:decoder\.)?mask_token",
)
"""What neither decays nor is a matrix."""

MORE = {
    "resnet stem": {"stem": StemConfig("resnet", units=(1,)), "image": (16, 32), "patch": (8, 8)},
    "convolutions": {"stem": StemConfig("conv", convolutions=(32, 64)), "image": (16, 32), "patch": (8, 8)},
    "no last norm": {"final_norm": "none", "block": BlockConfig(activation="silu")},
    "rounded": {"rotary": RotaryConfig("centred", rounded=True), "position_init": "sincos2d"},
    "mae": {"init": "mae", "positions": "sincos2d-mae"},
}
MODELS = {name: replace(PLAIN, **settings) for name, settings in (VARIANTS | MORE).items()}
MODELS |= {
    "R26x1": build_resnet_config("R26x1", image=(32, 32), classes=5),
    "R18x1": build_resnet_config("R18x1", image=(32, 32), root="2x2", classes=5),
    "R26x1, 3x3": build_resnet_config("R26x1", image=(32, 32), root="3x3", classes=0),
}


def expected(name: str, gated: bool = False) -> tuple[bool, int]:
    """Return whether a parameter decays, and how many of Muon's matrices it holds; every name is in one list."""
    lists = (*MATRICES, *KERNELS, *STILL)
    found = [pattern for pattern in lists if re.fullmatch(pattern, name)]
    assert len(found) == 1, (name, found)
    if found[0] not in MATRICES:
        return found[0] in KERNELS, 0
    return True, 2 if gated and "expand" in name else MATRICES[found[0]]


def declared(model: nn.Module) -> dict[str, tuple[bool, int]]:
    return {name: (role.decays, role.matrices) for name, role in roles(model).items()}


def test_every_choice_of_every_setting_is_among_the_models() -> None:
    vits = [config for config in MODELS.values() if isinstance(config, ViTConfig)]
    vits += [ViTConfig(**SMALL | case) for case in CASES.values()]  # whose roles are held to be there by their own test
    parts = {ViTConfig: vits}
    parts |= {BlockConfig: [config.block for config in vits], RotaryConfig: [config.rotary for config in vits]}
    parts |= {StemConfig: [config.stem for config in vits]}
    for kind, made in parts.items():
        for name, hint in get_type_hints(kind).items():
            choices = get_args(hint) if get_origin(hint) is Literal else (True, False) if hint is bool else ()
            taken = [getattr(config, name) for config in made]
            assert all(choice in taken for choice in choices), (kind.__name__, name)


@pytest.mark.parametrize("name", MODELS)
def test_roles_of_every_model(name: str) -> None:
    config = MODELS[name]
    gated = isinstance(config, ViTConfig) and config.block.mlp == "swiglu"
    model = create_empty(config)
    assert list(roles(model)) == [name for name, _ in model.named_parameters()]
    assert declared(model) == {name: expected(name, gated) for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    "config",
    [
        MaskedPatchesConfig(),
        MaskedPatchesConfig("full"),
        MaskedAutoencoderConfig(decoder_width=16, decoder_depth=2, decoder_heads=2),
    ],
)
@pytest.mark.parametrize("classes", [{}, {"registers": 2, "positioned_tokens": "class"}, {"positions": "learned2d"}])
def test_roles_of_what_is_trained_without_labels(config, classes: dict[str, object]) -> None:
    trained = build_objective(config, create(replace(PLAIN, classes=0, **classes))).trainable
    assert declared(trained) == {name: expected(name) for name, _ in trained.named_parameters()}


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_an_objective_with_labels_trains_the_model_alone(loss: str) -> None:
    model = create(PLAIN)
    trained = build_objective(
        ClassifyConfig(loss=loss), model, multilabel_examples=9 if loss == "sigmoid" else 0
    ).trainable
    assert declared(trained) == declared(model)


WIDE = replace(PLAIN, positions="bias", registers=2, pool="map", block=BlockConfig(mlp="swiglu", layer_scale=0.1))
"""A model with a parameter of each role."""


def other_head(model: ViT) -> ViT:
    model.head = declare(nn.Linear(model.head.in_features, 7), weight=HEAD)
    return model


COPIES = {
    "deep copy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "average": lambda model: build_average(model, 0.9).module,
    "float64": lambda model: model.double(),
    "larger image": lambda model: model.resize((32, 24)),
    "larger patch": lambda model: model.repatch((8, 8)),
    "low resolution": lambda model: model.set_resolution(None) or model,
    "new head": other_head,
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_keep_their_roles(how: str) -> None:
    model = create(WIDE)
    before = roles(model)
    assert roles(COPIES[how](model)) == before


def test_loading_by_assignment_from_no_weights_keeps_roles() -> None:
    model = create(WIDE)
    other = create_empty(WIDE)
    assert roles(other) == roles(model)
    other.load_state_dict(model.state_dict(), assign=True)
    assert roles(other) == roles(model)


def test_wrappers_put_a_prefix_before_the_names() -> None:
    model = create(WIDE)
    before = roles(model)
    assert roles(build_average(model, 0.9)) == {f"module.{name}": role for name, role in before.items()}


@pytest.mark.slow
def test_a_compiled_model_has_the_roles_of_the_model() -> None:
    model = create(WIDE)
    assert roles(torch.compile(model)) == {f"_orig_mod.{name}": role for name, role in roles(model).items()}


def test_the_factors_of_lora_decay_and_are_no_matrices_for_muon() -> None:
    model = create(WIDE)
    add_lora(model, rank=4)
    trained = {name: role for name, role in declared(model).items() if model.get_parameter(name).requires_grad}
    factors = {name for name in trained if name.endswith((".down", ".up"))}
    assert len(factors) == 2 * 4 * WIDE.depth
    assert all(trained[name] == (True, 0) for name in factors)
    assert set(trained) - factors == {"head.weight", "head.bias"}


def test_a_layer_starts_as_it_is_declared_whatever_it_is_called() -> None:
    model = nn.ModuleDict({"head": nn.Linear(64, 48), "mlp": nn.Linear(64, 48)})
    model["patches"] = declare(nn.Linear(64, 48), weight=HEAD, bias=TABLE)
    initialise(model, 1)
    for name in ("head", "mlp"):
        assert model[name].weight.abs().max() <= (6 / (64 + 48)) ** 0.5 and not model[name].bias.any()
        assert model[name].weight.detach().std() == pytest.approx((2 / (64 + 48)) ** 0.5, rel=0.05)
    assert not model["patches"].weight.any()
    assert model["patches"].bias.detach().std() == pytest.approx(0.02, rel=0.3)


def test_a_users_own_head_is_trained_beside_lora() -> None:
    model = create(WIDE)
    model.head = nn.Linear(model.head.in_features, 7)
    add_lora(model, rank=4)
    assert {name for name, one in model.named_parameters() if one.requires_grad and "blocks" not in name} == {
        "head.weight",
        "head.bias",
    }


def test_a_parameter_that_nobody_declared_is_an_error() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gamma = nn.Parameter(torch.ones(3))

    with pytest.raises(AssertionError, match=r"Strange\.gamma has no role"):
        roles(Strange())


@pytest.mark.parametrize("place", ["input", "shared", "layers"])
def test_learned_positions_start_where_they_are_told_wherever_they_enter(place: str) -> None:
    config = build_vit_config("mu/4", image=(8, 12), depth=3, position_placement=place, position_init="sincos2d")
    model = create(config)
    for positions in (model.positions, *model.layer_positions):
        assert torch.equal(positions.embedding, encode_places(config))


def test_a_masked_autoencoder_starts_as_the_authors_draw() -> None:
    model = create(build_vit_config("B/16", image=(32, 32), depth=1, init="mae", classes=0), seed=1)
    kernel = model.patches.embed.weight.detach()
    bound = (6 / (768 + 768)) ** 0.5
    assert 0.99 * bound < kernel.abs().max() <= bound
    assert kernel.std() == pytest.approx(bound / 3**0.5, rel=0.01)
    assert model.class_token.detach().std() == pytest.approx(0.02, rel=0.1)
    assert not any(parameter.any() for name, parameter in model.named_parameters() if name.endswith(".bias"))
    plain = create(build_vit_config("B/16", image=(32, 32), depth=1, classes=0), seed=1)
    assert plain.patches.embed.weight.detach().std() == pytest.approx(768**-0.5, rel=0.01)
    assert not plain.class_token.any()

"""Runs that start from weights: their head, their positions, the parts that stay as they are."""

import math
import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tests.support.training import TINY, Listener, digest, exported

from vitreous.data.config import DataConfig
from vitreous.data.dataset import open_dataset
from vitreous.errors import CheckpointError, ConfigError
from vitreous.model.config import RegularisationConfig, RotaryConfig
from vitreous.model.factory import create
from vitreous.objectives.config import ClassifyConfig
from vitreous.run_folder import list_checkpoint_steps
from vitreous.training.assembly import build_job
from vitreous.training.initial_weights import select_frozen
from vitreous.training.reporter import Silent
from vitreous.training.resolve import check_kind
from vitreous.training.run import resume, train
from vitreous.weights.model_folder import load_model


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return a run whose model others start from."""
    return train(replace(TINY, duration="30st", evaluate_every="30st"), tmp_path_factory.mktemp("base") / "run").run


def start(base, **changed):
    """Return a job that starts from the weights, and what was said."""
    listener = Listener()
    config = replace(TINY, weights=str(base), **changed)
    return build_job(config, open_dataset(config.data), listener), listener.messages


def test_weights_with_the_same_classes_keep_their_head(base):
    for head in ("auto", "keep"):
        job, said = start(base, head=head)
        assert said == []
        assert all(torch.equal(exported(base)[name], tensor) for name, tensor in job.model.state_dict().items())


def test_a_new_head_is_zero_and_said(base):
    job, said = start(base, head="new")
    assert said == ["the head is new, zero-initialised, for 10 classes"]
    assert not job.model.head.weight.any()
    assert not job.model.head.bias.any()
    trunk = {name: tensor for name, tensor in job.model.state_dict().items() if not name.startswith("head.")}
    assert all(torch.equal(exported(base)[name], tensor) for name, tensor in trunk.items())


def test_a_new_heads_biases_are_said(base):
    job, said = start(base, head="new", objective=ClassifyConfig(loss="sigmoid"))
    assert said == ["the head is new, zero-initialised, its biases -2.2, for 10 classes"]  # log-odds of 1 in 10
    assert job.model.head.bias.tolist() == pytest.approx([math.log(1 / 9)] * 10)


def test_other_classes_get_a_new_head_or_an_error(base, tmp_path):
    for number in range(12):
        folder = tmp_path / "data" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number * 20).save(folder / f"{number}.png")
    other = {"data": DataConfig(str(tmp_path / "data")), "model": replace(TINY.model, classes=2)}
    job, said = start(base, **other)
    assert said == ["the head is new, zero-initialised, for 2 classes"]
    assert job.model.head.weight.shape == (2, 32)
    with pytest.raises(
        CheckpointError, match=r"--head keep needs classes that the weights know: .* has 10, the data 2"
    ):
        start(base, head="keep", **other)


def test_classes_that_the_weights_know_get_their_rows_of_the_head(base, tmp_path):
    for number in range(12):
        folder = tmp_path / "data" / "37"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number * 20).save(folder / f"{number}.png")
    some = {"data": DataConfig(str(tmp_path / "data")), "model": replace(TINY.model, classes=2)}
    for head in ("auto", "keep"):
        job, said = start(base, head=head, **some)
        assert said == ["the head is sliced: 2 of 10 classes, those of the data"]
        assert torch.equal(job.model.head.weight, exported(base)["head.weight"][[3, 7]])
        assert torch.equal(job.model.head.bias, exported(base)["head.bias"][[3, 7]])
    job, said = start(base, head="new", **some)
    assert said == ["the head is new, zero-initialised, for 2 classes"]


def test_another_image_size_resizes_the_positions_and_says_so(base):
    larger = {"model": replace(TINY.model, image=(16, 24)), "preprocess": replace(TINY.preprocess, size=(16, 24))}
    job, said = start(base, **larger)
    assert len(said) == 1
    assert said[0].startswith("positions resized from a grid of 2x2 to 4x6")
    assert job.model.positions.embedding.shape == (25, 32)


@pytest.mark.parametrize(
    ("freeze", "fixed"),
    [
        ("none", ()),
        ("positions", ("positions.",)),
        ("patches", ("positions.", "patches.", "class_token")),
        (1, ("positions.", "patches.", "class_token", "blocks.0.")),
        ("trunk", ("positions.", "patches.", "class_token", "blocks.", "norm.")),
    ],
)
def test_frozen_parts_stay_to_the_bit(base, go, freeze, fixed):
    before, after = exported(base), exported(go(weights=str(base), freeze=freeze).run)
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]) == name.startswith(fixed), name


@pytest.mark.parametrize(
    ("positions", "place"),
    [
        ("learned2d", "layers"), ("learned", "shared"), ("relative", "layers"), ("bias", "shared"), ("bias", "layers"),
        ("bias-log", "shared"), ("bias-log-swin", "layers"), ("none", "input"),
    ],
)  # fmt: skip
def test_frozen_positions_are_all_that_there_are(positions, place):
    rotary = RotaryConfig("mixed" if positions == "none" else "none")
    model = replace(TINY.model, positions=positions, position_placement=place, registers=2, rotary=rotary)
    job = build_job(replace(TINY, model=model, freeze="positions"), open_dataset(TINY.data), Silent())
    still = {name for name, parameter in job.model.named_parameters() if not parameter.requires_grad}
    tables = ("positions.", "layer_positions.", "relative.", "rotary.")
    assert still == {name for name, _ in job.model.named_parameters() if any(part in name for part in tables)}
    assert still


@pytest.mark.parametrize("place", ["input", "shared"])
@pytest.mark.parametrize("positions", ["bias", "bias-log"])
def test_frozen_blocks_hold_their_own_positions(positions, place):
    model = create(replace(TINY.model, positions=positions, position_placement=place))
    for freeze, free in ((1, ("blocks.1.", "norm.", "head.")), ("trunk", ("head.",))):
        for part in select_frozen(model, freeze):
            part.requires_grad_(False)
        assert all(value.requires_grad == name.startswith(free) for name, value in model.named_parameters())


def test_positions_that_nothing_learns_are_not_frozen():
    model = replace(TINY.model, positions="sincos2d")
    with pytest.raises(ConfigError, match="those of this model, sincos2d, are not learned"):
        check_kind(replace(TINY, model=model, freeze="positions"))


def test_a_new_head_starts_at_the_bias_that_is_asked_for_and_a_kept_one_stays(base):
    objective = replace(TINY.objective, head_bias_init=-3.0)
    assert start(base, head="new", objective=objective)[0].model.head.bias.eq(-3).all()
    assert torch.equal(start(base, objective=objective)[0].model.head.bias, exported(base)["head.bias"])
    model = replace(TINY.model, head_bias=False)
    with pytest.raises(ConfigError, match="biases should start at -3, but this model's head has none"):
        build_job(replace(TINY, model=model, objective=objective), open_dataset(TINY.data), Silent())


def test_too_many_frozen_blocks(base):
    with pytest.raises(ConfigError, match="freeze is 3, but the model has 2 blocks"):
        start(base, freeze=3)


def test_patches_are_left_out_by_a_run_but_not_by_one_from_its_weights(go):
    masked = RegularisationConfig(patch_dropout=0.5)
    base = go(regularisation=masked).model
    rates = [start(base, **how)[0].model.patch_dropout.rate for how in ({"regularisation": masked}, {})]
    assert rates == [0.5, 0]
    assert load_model(base).model.patch_dropout.rate == 0


def test_a_resumed_run_needs_its_first_weights_no_more(base, go, tmp_path):
    borrowed = tmp_path / "borrowed"
    shutil.copytree(base, borrowed)
    settings = {"weights": str(borrowed), "freeze": "patches", "checkpoint_every": "3st"}
    whole = go(**settings)
    cut = tmp_path / "cut"
    shutil.copytree(whole.run, cut)
    for step in list_checkpoint_steps(cut)[1:]:
        shutil.rmtree(cut / "checkpoints" / f"step-{step}")
    shutil.rmtree(borrowed)
    listener = Listener()
    result = resume(cut, listener)
    assert not [text for text in listener.messages if "head is new" in text]
    assert digest(result.run) == digest(whole.run)
    assert load_model(result.run).origin["weights"] == str(borrowed)

"""What vitreous wrote before settings had their names of today: it opens with its old meaning.

tests/saved/format-1 was written by the version before layout 2: models with the logits that they gave, runs that were broken
off at step 8 of 12. Their losses from there on, without what was left out at random, which is drawn otherwise since, are those of the
version before that change.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitreous.errors import CheckpointError, ConfigError, RunError
from vitreous.model.config import BlockConfig, RegularisationConfig, ViTConfig
from vitreous.objectives.config import MaskedAutoencoderConfig, MaskedPatchesConfig
from vitreous.rate_search import read_plan as read_search
from vitreous.run_folder import read_run
from vitreous.settings import SEAL, from_dict, hash_document, override_settings
from vitreous.training.changes import Changes
from vitreous.training.config import RunConfig, ScheduleConfig
from vitreous.training.run import resume
from vitreous.weights.model_folder import load_model, save_model

SAVED = Path(__file__).parent / "saved" / "format-1"
BEGUN = SAVED / "begun"
MODELS = {
    "vit": ViTConfig(
        image=(8, 12), patch=(4, 4), channels=1, width=8, depth=2, heads=2, mlp_width=16, classes=3, registers=1, init="mae",
        distillation_token=True, positioned_tokens="class", position_placement="layers",
        block=BlockConfig(
            mlp="swiglu", mlp_inner_norm=True, attention_inner_norm=True, qk_norm=True, activation="silu"
        ),
    ),
    "pooled": ViTConfig(
        image=(8, 8), patch=(4, 4), channels=1, width=8, depth=1, heads=2, mlp_width=16, classes=2, pool="map",
        final_norm="pooled", positions="bias-log", position_mlp_width=5, attention_head_width=6, pool_mlp_width=12,
    ),
    "dropped": ViTConfig(image=(8, 8), patch=(4, 4), channels=1, width=8, depth=1, heads=2, mlp_width=16, classes=2),
}  # fmt: skip


def save_again(source, path):
    save_model(path, load_model(source))
    return path


def settings_of(name):
    return json.loads((BEGUN / name / "config.json").read_text())["config"]


@pytest.fixture
def begun(tmp_path):
    """Copy a run that was broken off, by default as if it had left nothing out at random."""

    def copy(name, whole=True):
        run = Path(shutil.copytree(BEGUN / name, tmp_path / name))
        document = json.loads((run / "config.json").read_text())
        if whole:
            document["config"]["model"] |= dict.fromkeys(("dropout", "drop_path", "patch_dropout"), 0.0)
            (run / "config.json").write_text(json.dumps(document | {SEAL: hash_document(document)}))
        return run

    return copy


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_logits(name, tmp_path):
    folder = load_model(SAVED / "models" / name)
    assert folder.model.config == MODELS[name]
    assert folder.model.regularisation == RegularisationConfig()
    save_model(tmp_path / name, folder)
    document = json.loads((tmp_path / name / "config.json").read_text())
    assert document["vitreous_model"] == 2
    rows, cols = MODELS[name].image
    expected = json.loads((SAVED / "models" / "logits.json").read_text())[name]
    for model in (folder.model, load_model(tmp_path / name).model):
        with torch.inference_mode():
            logits = model(torch.linspace(-1, 1, rows * cols).reshape(1, 1, rows, cols))[0]
        assert logits.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_model_in_training_mode_leaves_nothing_out():
    model = load_model(SAVED / "models" / "dropped").model.train()
    images = torch.ones(2, 1, 8, 8)
    assert torch.equal(model(images), model.eval()(images))


def test_todays_model_folders_hold_no_settings_of_training(tmp_path):
    save_model(tmp_path / "model", load_model(SAVED / "models" / "dropped"))
    path = tmp_path / "model" / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"architecture": document["architecture"] | {"dropout": 0.1}}))
    with pytest.raises(CheckpointError, match="unknown setting in architecture 'dropout'"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("layout", [1, 2])
def test_a_model_of_several_labels_an_image_is_multilabel(layout, tmp_path):
    source = Path(shutil.copytree(SAVED / "models" / "several", tmp_path / "several"))
    document = json.loads((source / "config.json").read_text())
    today = json.loads((save_again(source, tmp_path / "again") / "config.json").read_text())
    assert today["multilabel"] is True and "several" not in today
    former = today | {"several": True}
    del former["multilabel"]
    (source / "config.json").write_text(json.dumps(document if layout == 1 else former))
    assert load_model(source).multilabel
    (source / "config.json").write_text(json.dumps(today | {"several": True}))
    with pytest.raises(CheckpointError, match="several is called multilabel now; leave out the first"):
        load_model(source)


@pytest.mark.parametrize(("kind", "written"), [("model", "vitreous_model"), ("run", "vitreous_run")])
def test_a_later_layout_is_refused(kind, written, begun, tmp_path):
    source = SAVED / "models" / "vit" if kind == "model" else BEGUN / "masked-patches"
    path = Path(shutil.copytree(source, tmp_path / kind))
    document = json.loads((path / "config.json").read_text()) | {written: 3}
    (path / "config.json").write_text(json.dumps(document))
    with pytest.raises(Exception, match="of format 3; this vitreous reads formats 1 to 2"):
        (load_model if kind == "model" else read_run)(path)


def test_a_runs_settings_are_read_under_their_names_of_today():
    config = from_dict(RunConfig, settings_of("classify"))
    assert config.regularisation == RegularisationConfig(0.1, 0.3, "constant", 0.3)
    assert config.recompute
    assert config.schedule == ScheduleConfig("steps", "2st", milestones=("50%", "75%"), milestone_factor=0.3)
    assert (config.low_resolution, config.low_resolution_duration, config.data.tuning_holdout) == (0.5, "40%", 0.1)
    assert config.model == ViTConfig(
        image=(8, 8), patch=(4, 4), channels=1, width=8, depth=2, heads=2, mlp_width=16, classes=10, registers=1,
        positioned_tokens="class", final_norm="pooled", block=BlockConfig(mlp_inner_norm=True),
    )  # fmt: skip


def test_objectives_are_read_under_their_names_of_today():
    autoencoder, patches = (from_dict(RunConfig, settings_of(name)) for name in ("autoencoder", "masked-patches"))
    assert autoencoder.objective == MaskedAutoencoderConfig(0.5, 8, 1, 2, normalise_targets=False)
    assert patches.objective == MaskedPatchesConfig("mean", 0.4, 0.6, 0.3)


def test_a_search_of_rates_opens():
    search = read_search(SAVED)
    assert search.config == from_dict(RunConfig, settings_of("classify") | {"precision": "fp32"})
    assert search.results == {"0.001": {"top1": 0.5, "loss": 1.0}}


@pytest.mark.parametrize("name", ["classify", "autoencoder"])
def test_a_run_goes_on_to_the_losses_that_it_would_have_had(name, begun):
    """The low resolution and the milestones included."""
    run = begun(name)
    resume(run)
    expected = json.loads((BEGUN / f"{name}.json").read_text())
    found = [{key: record[key] for key in ("kind", "step", "loss")} for record in read_run(run).metrics]
    assert [(one["kind"], one["step"]) for one in found] == [(one["kind"], one["step"]) for one in expected]
    assert [one["loss"] for one in found] == pytest.approx([one["loss"] for one in expected], rel=1e-5)
    assert json.loads((run / "model" / "config.json").read_text())["vitreous_model"] == 2


@pytest.mark.parametrize("name", ["classify", "autoencoder"])
def test_a_run_that_left_something_out_at_random_is_refused(name, begun):
    run = begun(name, whole=False)
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(
        RunError, match=r"drew dropout, drop path and patch dropout for a whole batch.*begin anew from its weights"
    ):
        resume(run)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_change_notes_itself_alone_and_the_names_of_today(begun):
    run = begun("classify")
    resume(run, changes=Changes(duration="10st"))
    document = json.loads((run / "config.json").read_text())
    assert document["vitreous_run"] == 2
    assert document["changes"] == [{"step": 8, "by_hand": False, "settings": {"duration": ["12st", "10st"]}}]
    assert document["config"]["regularisation"]["drop_path_schedule"] == "constant"
    assert "drop_path" not in document["config"]["model"]


def test_an_edit_is_told_by_the_name_of_today(begun):
    run = begun("classify", whole=False)
    document = json.loads((run / "config.json").read_text())
    document["config"]["model"]["drop_path"] = 0.2
    (run / "config.json").write_text(json.dumps(document))
    with pytest.raises(Exception, match=r"changed by hand .*: regularisation\.drop_path 0\.3 -> 0\.2\. Put it back"):
        resume(run)


def test_former_names_in_settings_mean_todays():
    config = override_settings(
        RunConfig(), {"model": {"positions_at": "layers", "drop_path": 0.1}, "low_resolution_until": "5ep"}
    )
    assert config == replace(
        RunConfig(),
        model=ViTConfig(position_placement="layers"),
        regularisation=RegularisationConfig(drop_path=0.1),
        low_resolution_duration="5ep",
    )


def test_a_setting_by_its_former_name_and_by_todays_is_refused():
    with pytest.raises(ConfigError, match=r"model\.norm_at is called model\.final_norm now; leave out the first"):
        from_dict(RunConfig, {"model": {"norm_at": "none", "final_norm": "pooled"}})
    with pytest.raises(ConfigError, match=r"model\.dropout is called regularisation\.dropout now"):
        from_dict(RunConfig, {"model": {"dropout": 0.1}, "regularisation": {"dropout": 0.1}})

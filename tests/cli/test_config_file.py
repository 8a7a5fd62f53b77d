"""--config: a run's settings again, or a few in JSON or TOML, over the recipe's choice and below the command line."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cli.conftest import TINY
from tests.support import forked
from tests.support.training import Listener

from vitreous import train
from vitreous.api import training
from vitreous.errors import ConfigError, UserError
from vitreous.run_folder import read_run
from vitreous.settings import from_dict, to_dict
from vitreous.training.config import RunConfig
from vitreous.training.config_file import read_config_file

SAVED = Path(__file__).parents[1] / "saved"


@pytest.fixture
def plan(monkeypatch):
    """Return the configuration that `vitreous.train` comes to, and what it said, without a step."""

    def plan(*given, **named) -> tuple[RunConfig, str]:
        found, listener = [], Listener()

        def stop(config, *_):
            found.append(config)
            raise ConfigError("planned")

        monkeypatch.setattr(training, "dry_run_config", stop)
        with pytest.raises(ConfigError, match=r"^planned$"):
            train(*given, **named, dry_run=True, reporter=listener)
        return found[0], "\n".join(listener.messages)

    return plan


def losses(run: Path) -> list[tuple[int, float]]:
    return [(one["step"], one["loss"]) for one in read_run(run).metrics if "loss" in one]


def test_a_run_begun_again_from_its_own_settings_has_the_same_losses(trained, here):
    done = forked.run(forked.vitreous("train", "--config", trained / "config.json", "--out", "again"))
    assert done.returncode == 0, done
    for said in ("data: digits, as there", f"settings of {trained}/config.json"):
        assert said in done.stdout + done.stderr
    assert losses(here / "again") == losses(trained)
    assert len(losses(trained)) > 2
    one, other = (read_run(run).config["config"] for run in (trained, here / "again"))
    assert one == other


@pytest.mark.parametrize("within", ["", "model"])
def test_a_run_and_the_model_in_it_lead_to_its_settings(trained, within):
    assert read_config_file(trained / within) == read_config_file(trained / "config.json")


def test_the_command_line_is_above_the_file_and_the_file_above_the_recipe(vitreous, here):
    (here / "mine.toml").write_text('recipe = "small-vit"\nseed = 3\n[optimizer]\nlr = 0.5\nweight_decay = 0.25\n')
    done = vitreous("train", "digits", *TINY, "--config=mine.toml", "--optimizer.lr", "0.125", "--dry-run", "--json")
    for words in ("4 settings of mine.toml", "replaced of these: optimizer.lr 0.5 -> 0.125"):
        assert words in done.err
    document = json.loads(done.out)
    assert (document["seed"], document["recipe"], document["optimizer"]["name"]) == (3, "small-vit", "muon")
    assert (document["optimizer"]["lr"], document["optimizer"]["weight_decay"]) == (0.125, 0.25)


def test_toml_json_a_mapping_and_a_config_say_the_same(plan, here):
    (here / "a.toml").write_text('model = "mu/4"\nimage = [8, 8]\nminutes = 2\n[augment]\nmixup = 0.25\n')
    document = {"model": "mu/4", "image": [8, 8], "minutes": 2, "augment": {"mixup": 0.25}}
    (here / "a.json").write_text(json.dumps(document))
    (here / "settings").write_text(json.dumps(document))
    found = [plan("digits", config=one)[0] for one in ("a.toml", here / "a.json", "settings", document)]
    assert found[0].augment.mixup == 0.25
    assert (found[0].duration, found[0].model.patch) == ("2min", (4, 4))
    assert found == [found[0]] * 4
    assert plan(config=found[0])[0] == found[0]
    assert plan("digits", model="mu/4", image=(8, 8), minutes=2, settings={"augment": {"mixup": 0.25}})[0] == found[0]


def test_settings_of_file_and_command_are_checked_together(plan):
    config = {"recipe": "small-vit", "model": {"width": 20, "mlp_width": 40}}
    assert plan("digits", config=config, settings={"model": {"heads": 5}})[0].model.heads == 5


def test_a_model_that_is_given_takes_the_place_of_the_files(plan, trained):
    found, said = plan(config=trained, model="R50x1")
    assert found.model.KIND == "resnet"
    assert found.model.image == found.preprocess.size == (8, 8)
    assert re.search(r"model of \d+ settings -> R50x1", said)


def test_an_image_that_is_given_takes_the_place_of_the_files(plan, trained):
    found, said = plan(config=trained, image=(16, 12))
    assert found.model.image == found.preprocess.size == (16, 12)
    assert "image [8, 8] -> [16, 12]" in said


@pytest.mark.parametrize(
    ("given", "length"),
    [({"minutes": 3}, "3min"), ({"settings": {"duration": "7ep"}}, "7ep")],
)
def test_a_length_that_is_given_takes_the_place_of_the_files(plan, trained, given, length):
    found, said = plan(config=trained, **given)
    assert found.duration == length
    assert "duration 6st -> " in said
    assert plan("digits", config={"recipe": "small", "minutes": 5}, **given)[0].duration == length


def test_other_data_brings_its_own_classes_and_leaves_the_files_validation(plan, trained, here):
    document = json.loads((trained / "config.json").read_bytes())
    document["config"]["data"] |= {"validation": "elsewhere", "folds": 5, "fold": 2, "holdout": 0.25}
    (here / "config.json").write_text(json.dumps(document))
    found, said = plan("formula:fractals?classes=7&size=8&images=20", config="config.json")
    assert (found.model.classes, found.data.holdout) == (7, 0.25)
    assert (found.data.validation, found.data.folds, found.data.fold) == (None, 0, 0)
    for words in (
        "model.classes 10 -> 7, those of the data",
        "data.path digits -> formula",
        "data.validation elsewhere",
    ):
        assert words in said


def test_folds_that_are_given_divide_the_data_anew(plan, trained):
    document = json.loads((trained / "config.json").read_bytes())["config"]
    document["data"] |= {"folds": 5, "fold": 2}
    found, said = plan(config=document, folds=3)
    assert (found.data.folds, found.data.fold) == (0, 0)
    assert "data.folds 5 -> 0" in said


def test_weights_are_the_files_unless_others_are_given(plan, trained, here):
    file = {"weights": str(trained), "recipe": "finetune"}
    assert plan("digits", config=file, settings={"duration": "3st"})[0].weights == str(trained)
    with pytest.raises(ConfigError, match="--weights-heads describes the weights"):
        train("digits", config={"weights_heads": 4}, recipe="small")
    found, said = plan("digits", config=file, weights="none", recipe="small")
    assert (found.weights, found.weights_heads) == (None, None)
    assert f"weights {trained} -> none" in said


def test_paths_of_a_run_that_was_moved_lead_to_the_same_data(plan, trained, here):
    document = json.loads((trained / "config.json").read_bytes())
    (here / "photos").mkdir()
    document["config"]["data"]["path"] = "../gone"
    document["places"] = {"../gone": {"absolute": "/gone/photos", "from_run": "../photos"}}
    (here / "run").mkdir()
    (here / "run" / "config.json").write_text(json.dumps(document))
    assert read_config_file("run").settings["data"]["path"] == str(here / "run" / ".." / "photos")


@pytest.mark.parametrize("saved", sorted(SAVED.glob("**/begun/*/config.json")), ids=str)
def test_runs_of_versions_before_keep_their_meaning(saved):
    document = json.loads(saved.read_bytes())
    found = read_config_file(saved).settings
    whole = to_dict(from_dict(RunConfig, document["config"]))
    assert {**found, "data": whole["data"]} == whole


def test_a_run_under_older_rules_is_told(trained, here):
    document = json.loads((trained / "config.json").read_bytes())
    document["rules"] = 1
    document["config"]["optimizer"] |= {"name": "sgd", "decoupled": True, "weight_decay": 0.1}
    (here / "config.json").write_text(json.dumps(document))
    (said,) = read_config_file("config.json").notices
    assert "passed SGD's decoupled weight decay through the momentum" in said


def test_a_hand_written_config_keeps_its_name(plan):
    config = from_dict(RunConfig, {"model": {"image": [8, 8], "patch": [4, 4], "channels": 1, "classes": 10}})
    config = replace(config, preprocess=replace(config.preprocess, size=(8, 8), mode="L"))
    assert plan("digits", config=config)[0] == config


WRONG = {
    "unknown": ("a.toml", "[optimizer]\nlrr = 1", "a.toml: unknown setting in optimizer 'lrr'; did you mean 'lr'?"),
    "unknown deep": ("a.json", '{"model": {"block": {"mpl": "gelu"}}}', "in model.block 'mpl'; did you mean 'mlp'?"),
    "its place is elsewhere": ("a.toml", "lr = 1", "unknown setting 'lr'; here it is optimizer.lr"),
    "another trainer's name in a part": (
        "a.toml",
        "[optimizer]\nlearning_rate = 1",
        "unknown setting in optimizer 'learning_rate'; here it is optimizer.lr",
    ),
    "an argument": (
        "a.toml",
        'output_dir = "x"',
        "unknown setting 'output_dir'; here it is the argument out, which is no setting",
    ),
    "an argument that is a setting too": (
        "a.toml",
        'unlabeled = "x"',
        "unknown setting 'unlabeled'; here it is data.unlabelled",
    ),
    "a leaf elsewhere": (
        "a.toml",
        "base_batch = 1",
        "unknown setting 'base_batch'; did you mean 'optimizer.base_batch'?",
    ),
    "another trainer's name": (
        "a.toml",
        "epochs = 30",
        """unknown setting 'epochs'; here it is duration, such as "30ep\"""",
    ),
    "hyphen": ("a.toml", "[model]\nroot-channels = 8", "did you mean 'root_channels'?"),
    "type": ("a.json", '{"optimizer": {"lr": "fast"}}', "a.json: optimizer.lr is 'fast'; it must be a number"),
    "type of all": ("a.json", "[1, 2]", "a.json holds no settings"),
    "type of a part": ("a.json", '{"optimizer": 3}', "optimizer must be an object of settings, not 3"),
    "list": ("a.toml", "[augment]\ncrop_area = [1.0]", "augment.crop_area has 1 values; it must have 2"),
    "word": ("a.toml", 'export = "bets"', "export is 'bets'; it must be 'best' or 'last'"),
    "kind": ("a.json", '{"model": {"kind": "rsnet"}}', "unknown kind of model 'rsnet'; did you mean 'resnet'?"),
    "range": ("a.toml", "ema = 1.0", "a.toml: ema is 1; it must be at least 0 and below 1"),
    "range of an image": ("a.toml", "image = [8, 8, 8]", "a.toml: image is [8, 8, 8]; it must be a list of 2"),
    "order": ("a.toml", "[augment]\ncrop_area = [0.5, 0.25]", "augment.crop_area runs from 0.5 down to 0.25"),
    "duration": ("a.toml", 'duration = "9epochs"', "can't read the duration '9epochs'"),
    "two lengths": ("a.toml", 'minutes = 3\nduration = "9ep"', "minutes and duration both say how long to train"),
    "huge": ("a.json", '{"batch": 1' + "0" * 60 + "}", "batch is 1000"),
    "infinite": ("a.toml", "ema = inf", "ema is inf; it must be"),
    "not a number": ("a.json", '{"ema": NaN}', "it is not JSON (NaN is not a finite number)"),
    "twice in JSON": ("a.json", '{"seed": 1, "seed": 2}', "'seed' is given twice in one object"),
    "twice in TOML": ("a.toml", "seed = 1\nseed = 2", "is not TOML (Cannot overwrite a value"),
    "former and present": ("a.json", '{"schedule": {"drop": 0.5, "milestone_factor": 0.5}}', "schedule.drop is called"),
    "cut off": ("a.json", '{"seed": 1', "is not JSON"),
    "empty": ("a.json", "", "is not JSON"),
    "neither": ("a.yaml", "seed: 1", "a.yaml is neither JSON nor TOML"),
    "deep": ("a.json", '{"model": ' + "[" * 500 + "]" * 500 + "}", "is nested more than 32 objects deep"),
    "deeper": ("a.json", "[" * 200_000, "is not JSON"),
    "deep in TOML": ("a.toml", "a" + ".a" * 500 + " = 1", "is nested more than 32 objects deep"),
    "deeper in TOML": ("a.toml", "a = " + "[" * 100_000, "is not TOML"),
    "surrogate": ("a.json", '{"data": {"path": "\\ud800"}}', "data.path holds half of a character"),
    "surrogate as a key": ("a.json", '{"\\udfff\\ud800": 1}', "holds half of a character"),
    "date": ("a.toml", "seed = 2026-01-01", "seed is datetime.date(2026, 1, 1); it must be a whole number"),
    "model of transformers": ("config.json", '{"model_type": "vit", "hidden_size": 8}', "a model of Hugging Face's"),
    "model of timm": ("config.json", '{"architecture": "vit", "pretrained_cfg": {}}', "a model of timm"),
    "later version": (
        "config.json",
        '{"vitreous_run": 9, "config": {}}',
        "belongs to a run of format 9; this vitreous reads formats 1",
    ),
    "run without settings": ("config.json", '{"vitreous_run": 2}', "config must be an object of settings, not None"),
    "run with a wrong one": (
        "config.json",
        '{"vitreous_run": 2, "config": {"seeed": 1}}',
        "in config 'seeed'; did you",
    ),
    "run with a wrong value": (
        "config.json",
        '{"vitreous_run": 2, "config": {"ema": 2}}',
        "config.json: ema is 2; it must be",
    ),
    "bytes": ("a.toml", b"\xff\xfe\x00", "is not TOML"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_in_a_file_is_one_line_with_its_place(here, wrong):
    name, text, words = WRONG[wrong]
    (here / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        read_config_file(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_the_command_says_it_in_one_line_too(vitreous, here):
    (here / "a.toml").write_text("[optimizer]\nlrr = 1")
    done = vitreous("train", "no-such-place", "--config", "a.toml")
    done.refused("a.toml: unknown setting in optimizer 'lrr'; did you mean 'lr'?")
    assert done.out == ""


def test_what_is_no_file_is_refused(trained, here):
    os.mkfifo("pipe")
    with (here / "large.json").open("wb") as file:
        file.truncate(2**31)
    (here / "large.json").rename("large")
    with (here / "large.toml").open("wb") as file:
        file.truncate(2**31)
    (here / "folder").mkdir()
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text('{"vitreous_model": 2}')
    for given, words in {
        "pipe": "is a named pipe, not a file",
        "/dev/zero": "is a device, not a file",
        "large": "2,147,483,648 bytes, more than the limit",
        "large.toml": "2,147,483,648 bytes, more than the limit",
        "gone.toml": "--config: no such file or folder: gone.toml",
        "folder": "folder holds no config.json; give a run folder",
        "model": "which holds no training settings; to begin from its weights, give --weights model",
        "https://a.org/config.json": "is a URL",
        "a\0b": "no such file",
    }.items():
        with pytest.raises(UserError, match=re.escape(words)):
            read_config_file(given)

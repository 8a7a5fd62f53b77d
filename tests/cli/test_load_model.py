"""How weights are taken: the same options for every command that is given a model."""

import json

import pytest
import torch
from tests.support.pictures import encoded, picture, write

from vitreous.weights.conversion import convert
from vitreous.weights.loading import open_model
from vitreous.weights.model_folder import load_model


@pytest.fixture
def foreign(trained, here):
    """Return the trained model as a file of timm's names without a config: nothing says what it was."""
    folder = load_model(trained)
    convert(folder, here / "timm", "timm")
    (here / "timm" / "config.json").unlink()
    write(here / "images" / "a.png", encoded(picture(0, 9, 9, 1)))
    return here / "timm" / "model.safetensors"


def reported(done) -> str:
    """Return what a command that worked said beside its results."""
    assert done.code == 0, (done.code, done.out, done.err)
    return done.err


def test_predict_takes_weights_as_they_are_said_to_be(vitreous, foreign):
    asked = "--as=dino", "--labels=class 3,class 7", "--image", "16", "12", "--top=5"
    done = vitreous("predict", foreign, "images", *asked, "--format=jsonl")
    (line,) = done.out.splitlines()
    assert {one["label"] for one in json.loads(line)["top"]} == {"class 3", "class 7"}
    said = reported(done)
    assert "origin      dino: " in said
    assert "positions   2x2 -> 4x3 by bicubic-offset" in said
    assert "head        sliced: 2 of 10 classes" in said


def test_inspect_and_convert_tell_the_same(vitreous, foreign, here):
    (here / "labels.txt").write_text("class 3\nclass 7\n")
    asked = "--as=mae", "--labels=labels.txt", "--channels=3", "--rule=bilinear"
    shown = vitreous("inspect", foreign, *asked).worked("channels    1 -> 3 by sum", "2: class 3, class 7")
    written = vitreous("convert", foreign, "out", *asked).worked("proof")
    assert [line for line in shown.splitlines() if line.startswith("origin      mae")]
    report = written[: written.index("proof")]
    assert report in shown
    folder = load_model("out")
    assert (folder.classes, folder.model.config.channels, folder.resize) == (("class 3", "class 7"), 3, "bilinear")


def test_outputs_without_names_are_named_from_a_file(vitreous, foreign, here):
    """predict, evaluate and convert: `class 0` of the file is what the file of names says first."""
    names = [f"digit {number}" for number in range(10)]
    (here / "names.txt").write_text("\n".join(names) + "\n")
    bare = json.loads(vitreous("predict", foreign, "images", "--format=jsonl").out)["label"]
    done = vitreous("predict", foreign, "images", "--labels=names.txt", "--format=jsonl")
    assert json.loads(done.out)["label"] == bare.replace("class", "digit")
    assert "head        kept, its 10 outputs named as you say" in reported(done)
    vitreous("convert", foreign, "out", "--labels=names.txt").worked("outputs named as you say")
    assert load_model("out").classes == tuple(names)
    write(here / "data" / "digit 3" / "a.png", encoded(picture(0, 9, 9, 1)))
    done = vitreous("evaluate", foreign, "data", "--labels=names.txt", "--no-speed", "--out=e")
    assert "named as you say" in reported(done)
    (here / "short.txt").write_text("a\nb\n")
    vitreous("predict", foreign, "images", "--labels=short.txt").refused(
        "2 labels were given", "has 10 outputs without"
    )
    (here / "double.txt").write_text("a\nb\na\n")
    vitreous("convert", foreign, "out2", "--labels=double.txt").refused("line 3 is 'a', like line 1; names must differ")


def test_evaluate_measures_the_chosen_classes(vitreous, trained, here):
    for label in ("3", "7"):
        write(here / "data" / label / "a.png", encoded(picture(0, 9, 9, 1)))
    done = vitreous("evaluate", trained, "data", "--labels=7,3", "--no-speed")
    assert "head        sliced: 2 of 10 classes" in reported(done)
    (found,) = here.glob("evaluations/*/report.json")
    assert json.loads(found.read_text())["taken"] == {"labels": "7,3"}


def test_training_and_comparing_take_weights_as_they_are_said_to_be(vitreous, trained, foreign, here):
    tiny = "--duration=1st", "--batch=8", "--workers=0", "--schedule.warmup=0st", "--out=out", "--image", "8", "8"
    asked = "train", "digits", "--recipe=finetune", "--weights", foreign
    vitreous(*asked, *tiny, "--weights-as=timn").refused("unknown family 'timn'")
    vitreous(*asked, *tiny, "--weights-as=mae").worked("origin      mae")
    assert json.loads((here / "out" / "config.json").read_text())["config"]["weights_as"] == "mae"
    done = vitreous("cka", trained, foreign, "digits", "--images=20", "--other-as=mae", "--out=cka")
    assert "origin      mae" in reported(done)
    done = vitreous("cka", foreign, trained, "digits", "--images=20", "--as=dino", "--out=cka2")
    assert "origin      dino" in reported(done)
    done = vitreous("evaluate", trained, "--compare", foreign, "--other-as=mae", "--no-speed", "--out=compared")
    assert "only model has" in done.err
    assert "origin      mae" in done.err


def test_a_family_of_no_weights_is_refused(vitreous, trained, here):
    vitreous("train", "digits", "--weights-as=mae").refused("--weights-as describes the weights that")
    vitreous("evaluate", trained, "--other-as=mae").refused("--other-as describes the weights of --compare")
    vitreous("evaluate", trained, "digits", "--protocol=knn", "--other-as=mae").refused(
        "--other-as describes the weights"
    )
    vitreous("cka", trained, trained, "digits", "--other-as=mae").refused("leave out --as")


def test_wishes_that_cannot_be_met_are_one_line(vitreous, trained, foreign):
    vitreous("predict", trained, "images", "--labels=33").refused("unknown class '33'")
    vitreous("predict", trained, "images", "--as=timm").refused("leave out --as")
    vitreous("inspect", foreign, "--as=timn").refused("unknown family 'timn'", "timm")
    vitreous("inspect", foreign, "--allow", "every").refused("unknown difference to allow 'every'")
    vitreous("convert", foreign, "out", "--channel-rule=mean").refused("must be one of")
    done = vitreous("predict", trained, "images", "--channels=2")
    assert done.code == 1
    assert "a.png has 1 channel, but 2 are expected (preprocess.mode)" in done.err


@pytest.mark.slow
def test_every_command_is_told_grid_and_heads_of_weights_that_do_not_tell(vitreous, trained, foreign, here):
    """Positions for 2x2 patches are for 1x4 just as well; 4 heads share its width as well as the usual 2."""
    wide = "--grid", "1", "4", "--heads", "4"
    shown = vitreous("inspect", foreign).worked(
        "assumed     a square grid of 2x2 patches", "assumed     2 heads, as is usual"
    )
    assert shown.count("assumed") >= 3
    told = vitreous("inspect", foreign, *wide).worked(
        "in a grid of 1x4", "heads 4", "1x4 patches and 4 heads, as you say"
    )
    assert "heads, as is usual" not in told
    vitreous("convert", foreign, "out", *wide).worked("proof")
    vitreous("inspect", "out").worked(
        "in a grid of 1x4", "told a grid of 1x4 patches and 4 heads", "assumed     activation"
    )
    for command, *rest in (
        ("predict", "images"),
        ("embed", "images"),
        ("explain", "images", "--page=1", "--faithful=0"),
    ):
        assert "1x4 patches and 4 heads, as you say" in reported(vitreous(command, foreign, *rest, *wide))
    other = "--other-grid", "1", "4", "--other-heads", "4"
    done = vitreous("cka", foreign, foreign, "digits", "--images=20", "--out=cka", *wide, *other)
    assert reported(done).count("as you say") == 2
    done = vitreous("evaluate", foreign, "digits", "--protocol=knn", "--no-cache", "--out=e", *wide)
    assert "as you say" in reported(done)
    train = (
        "train",
        "digits",
        "--recipe=finetune",
        "--weights",
        foreign,
        "--weights-grid",
        "1",
        "4",
        "--weights-heads",
        "2",
    )
    tiny = "--duration=1st", "--batch=8", "--workers=0", "--schedule.warmup=0st", "--out=run", "--image", "8", "8"
    vitreous(*train, *tiny).worked("as you say", "from a grid of 1x4 to 2x2")


def test_a_grid_that_cannot_be_is_one_line(vitreous, trained, foreign, here):
    vitreous("inspect", foreign, "--grid", "2", "3").refused("--grid 2 3 makes 6 patches", "has positions for 4")
    vitreous("predict", foreign, "images", "--heads=5").refused("--heads 5", "the width", "32")
    vitreous("predict", trained, "images", "--grid", "2", "2").refused("leave out --as, --allow, --grid and --heads")
    vitreous("train", "digits", "--weights-heads=2").refused("--weights-heads describes the weights that")
    vitreous("evaluate", trained, "--other-heads=2").refused("--other-heads describes the weights of --compare")


def test_what_may_be_missing_is_initialised(vitreous, foreign, here):
    from safetensors.torch import load_file, save_file

    tensors = load_file(foreign)
    del tensors["head.weight"]
    save_file(tensors, here / "cut.safetensors")
    assert open_model(foreign)[1].head == "kept"
    vitreous("inspect", "cut.safetensors").refused()
    save_file(load_file(foreign) | {"more": torch.zeros(2)}, here / "more.safetensors")
    vitreous("inspect", "more.safetensors").refused("--allow unused")
    vitreous("inspect", "more.safetensors", "--allow", "unused").worked("unused      more")

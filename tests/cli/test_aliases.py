"""Other trainers' names for options do what they say, and what means something else here says what to write."""

import json
import re

import pytest
from tests.cli.conftest import TINY

from vitreous.cli.translate import translate_arguments
from vitreous.errors import ConfigError, UnknownName

SAME = {
    "--epochs 30": "--duration 30ep",
    "--epochs=0.5": "--duration 0.5ep",
    "--max-steps 200": "--duration 200st",
    "--lr 0.1": "--optimizer.lr 0.1",
    "--learning_rate=3e-4": "--optimizer.lr 3e-4",
    "--batch-size 64": "--batch 64",
    "--per_device_train_batch_size 64": "--batch 64",
    "-b 64 -j 4 -a S/16": "--batch 64 --workers 4 --model S/16",
    "--imgsz 64": "--image 64 64",
    "--img-size 64 96": "--image 64 96",
    "--imgsz 64 --seed 3": "--image 64 64 --seed 3",
    "--wd 0.05": "--optimizer.weight-decay 0.05 --optimizer.no-decoupled",
    "--optimizer AdamW": "--optimizer.name adamw",
    "--opt sgd --momentum 0.8": "--optimizer.name sgd --optimizer.momentum 0.8",
    "--arch B/16": "--model B/16",
    "--pretrained owner/name": "--weights owner/name",
    "--name trial": "--out runs/trial",
    "--project mine --name trial": "--out mine/trial",
    "--name trial --project mine": "--out mine/trial",
    "--output-dir here": "--out here",
    "--patience 5": "--early-stop.patience 5",
    "--warmup-epochs 5": "--schedule.warmup 5ep",
    "--label-smoothing 0.1": "--objective.smoothing 0.1",
    "--val-split 0.1": "--data.holdout 0.1",
    "--device cuda:0": "--device cuda",
    "--device 0": "--device cuda",
    "--device cpu": "--device cpu",
    "--data photos": "photos",
    "--seed 1 --dataset photos": "photos --seed 1",
    "data=photos epochs=3 imgsz=64 batch=16 model=S/16": "photos --duration 3ep --image 64 64 --batch=16 --model=S/16",
    "photos optimizer.lr=0.1 dry_run=True json=false": "photos --optimizer.lr=0.1 --dry-run --no-json",
    "photos --compile=on --recompute=0 augment.flip=No": "photos --compile --no-recompute --augment.no-flip",
    "image=64,96": "--image 64 96",
    "photos --no-json --augment.no-flip": "photos --no-json --augment.no-flip",
    "photos -- --odd": "photos -- --odd",
}


@pytest.mark.parametrize("typed", SAME)
def test_a_name_of_the_field_is_an_option_of_ours(typed):
    assert translate_arguments("train", typed.split()) == SAME[typed].split()


@pytest.mark.parametrize(
    ("command", "typed", "same"),
    [
        ("predict", "--model RUN --source a.png --topk 3", "RUN a.png --top 3"),
        ("predict", "source=a.png model=RUN batch_size=8", "RUN a.png --batch 8"),
        ("predict", "RUN a.png --conf 0.5 --format csv", "RUN a.png --threshold 0.5 --format csv"),
        ("export", "RUN --format openvino", "RUN --to openvino"),
        ("quantise", "RUN photos format=onnx", "RUN photos --to onnx"),
        ("predict", "RUN a.png --batch-size 8 --device cuda:0", "RUN a.png --batch 8 --device cuda"),
        ("evaluate", "--weights RUN --data photos --imgsz 64", "RUN photos --image 64 64"),
        ("evaluate", "RUN photos --steps 10", "RUN photos --steps 10"),
        ("evaluate", "RUN photos --corruptions fog snow", "RUN photos --corruptions fog snow"),
        ("embed", "RUN --data photos --output f.npz", "RUN --data photos --out f.npz"),
        ("convert", "--source a.pth --out folder", "a.pth folder"),
        ("completion", "bash", "bash"),
    ],
)
def test_every_command_understands_what_it_has(command, typed, same):
    assert translate_arguments(command, typed.split()) == same.split()


WRONG = {
    "--epochs 30 --duration 2ep": "--epochs 30 and --duration are the same setting; give one of them",
    "--lr 1 --learning-rate 2": "--lr 1 and --learning-rate 2 are the same setting, --optimizer.lr",
    "epochs=3 --minutes 2 --steps 7": "epochs=3 and --steps 7 are the same setting, --duration",
    "--epochs many": "--epochs is 'many'; it must be a number, or give --duration 30ep",
    "--epochs": "--epochs needs a value",
    "--lr": "--lr needs a value",
    "--imgsz wide": "--imgsz is 'wide'; it must be a whole number",
    "--pretrained": "--pretrained doesn't say which weights; give --weights",
    "pretrained=True": "doesn't say which weights",
    "--project mine": "--project mine says where runs are kept; give --name too",
    "--device cuda:1": "CUDA_VISIBLE_DEVICES=1 vitreous ... --device cuda",
    "--device 0,1": "only the first visible device is used",
    "--resume runs/a": "vitreous resume RUN",
    "--num-classes 10": "the classes are those of the data",
    "--fp16": "give --precision bf16; only exports are offered in fp16",
    "--bf16": "give --precision bf16",
    "--cpu": "give --device cpu",
    "--exist-ok": "name a new one with --out",
    "--int8": "vitreous quantise writes a model in int8",
    "--pretrained yes": "auto for recommended ones, or none to train from scratch",
    "--min-lr 1e-5": "a share of the peak rate",
    "--learnin-rate 1": "did you mean '--learning-rate'?",
    "--epoch 3": "did you mean '--epochs'?",
    "foo=3": "unknown option '--foo'",
    "photos --weights=": "--weights is empty; give a value, or leave it out (a shell variable that isn't set?)",
    "--compile=maybe": "--compile is a switch and can't be 'maybe'; give --compile or --no-compile, or true or false",
    "augment.flip=": "--augment.flip is a switch and can't be ''; give --augment.flip or --augment.no-flip, or true or false",
    "--no-compile=false": "--no-compile takes no value; leave out 'false'",
}


@pytest.mark.parametrize("typed", WRONG)
def test_what_means_something_else_says_what_to_write(typed):
    with pytest.raises(ConfigError, match=re.escape(WRONG[typed])):
        translate_arguments("train", typed.split())


def test_what_comes_before_the_model_says_so():
    with pytest.raises(ConfigError, match=r"a\.png comes after MODEL in vitreous predict; give MODEL too"):
        translate_arguments("predict", ["--source", "a.png"])
    with pytest.raises(UnknownName, match="unknown option '--epochs'"):
        translate_arguments("predict", ["RUN", "a.png", "--epochs", "3"])


def test_one_side_stands_for_a_square():
    for typed in ("--image 48", "image=48", "--image=48"):
        assert translate_arguments("train", ["data", *typed.split(), "--seed", "1"]) == [
            "data", "--image", "48", "48", "--seed", "1",
        ]  # fmt: skip
    for typed in ("--image 48 64", "--image=48 64", "image=48,64"):
        assert translate_arguments("train", ["data", *typed.split()]) == ["data", "--image", "48", "64"]


def test_a_models_name_may_be_that_of_an_option(here):
    (here / "run").mkdir()
    assert translate_arguments("serve", ["batch=run", "keys=run", "queue=3"]) == ["batch=run", "keys=run", "--queue=3"]
    assert translate_arguments("predict", ["run", "a.png", "batch=run"])[-1] == "--batch=run"


def test_a_file_whose_name_has_an_equals_sign_is_a_file(here):
    (here / "seed=3").mkdir()
    assert translate_arguments("train", ["seed=3", "--out=a=b", "--recipe", "small=x"]) == [
        "seed=3",
        "--out=a=b",
        "--recipe",
        "small=x",
    ]


def test_a_run_in_the_fields_words(vitreous, here):
    words = [word for word in TINY if not word.startswith(("--duration", "--batch", "--workers"))]
    done = vitreous(
        "train",
        "data=digits",
        *words,
        "--max-steps",
        "7",
        "-b",
        "8",
        "workers=0",
        "--lr=0.25",
        "--imgsz",
        "12",
        "--dry-run",
        "--json",
    )
    config = json.loads(done.out)
    assert (config["duration"], config["batch"], config["workers"]) == ("7st", 8, 0)
    assert (config["optimizer"]["lr"], config["preprocess"]["size"]) == (0.25, [12, 12])
    vitreous("train", "digits", "--epochs", "2", "--duration", "3ep").refused("--epochs 2 and --duration are the same")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["RUN", ""], "an argument"),
        (["", "photos"], "an argument"),
        (["RUN", "--out", ""], "--out"),
        (["--top=1", ""], "an argument"),
    ],
)
def test_an_empty_value_is_not_the_current_folder(arguments, named):
    with pytest.raises(ConfigError, match=f"^{named} is empty; give a value, or leave it out"):
        translate_arguments("predict", arguments)

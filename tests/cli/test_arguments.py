"""What is typed: help at once, and one clear line for what can't be understood, with what was probably meant."""

import os
import pty
import subprocess
import sys
import termios
import types

import pytest

from vitreous.__main__ import main as start
from vitreous.cli.help import EXAMPLES, FIRST
from vitreous.cli.main import COMMANDS
from vitreous.cli.option_names import iterate_options
from vitreous.cli.options.commands import OPTIONS, load_options
from vitreous.errors import suggest


def test_help_of_a_command_is_its_own(vitreous):
    found = [vitreous(*arguments) for arguments in (("help", "shard"), ("shard", "--help"))]
    assert found[0] == found[1] and "usage: vitreous shard" in str(found[0])


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_every_command(vitreous, arguments):
    vitreous(*arguments).worked(*COMMANDS, "usage: vitreous COMMAND")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(vitreous, command):
    assert f"vitreous {command}" in vitreous(command, "--help").worked("usage:")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_two_screens(vitreous, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = vitreous(command, "--help").worked().splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 100 or command not in FIRST


def test_every_command_has_options_but_completion():
    assert set(COMMANDS) - set(OPTIONS) == {"completion"}
    assert set(OPTIONS) < set(COMMANDS)
    assert len({load_options(command) for command in OPTIONS}) == len(OPTIONS)


def test_a_command_waits_for_no_other_ones_options():
    """The dataclasses of a run's settings alone take as long as everything else that `predict` imports before NumPy."""
    asked = "import sys; from vitreous.cli.translate import translate_arguments; translate_arguments('predict', ['model', 'photo.jpg'])"
    said = f"{asked}; print([name for name in sys.modules if name in ('vitreous.training.config', 'vitreous.model.config')])"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", FIRST)
def test_help_all_shows_what_help_leaves_out(vitreous, command):
    short = vitreous(command, "--help").worked(*EXAMPLES[command])
    assert f"vitreous {command} --help-all shows all" in " ".join(short.split())
    whole = vitreous(command, "--help-all").worked("usage:")
    named = {f"--{name}" for names in FIRST[command].values() for name in names if name not in ("data", "model")}
    for name in named:
        assert name in short
    standard = load_options(command)() if command in ("train", "sweep") else load_options(command)
    missing = [
        name
        for name in iterate_options(standard)
        if name not in whole and name.removeprefix("--") not in ("data", "model")
    ]
    assert missing == []
    assert len(whole.splitlines()) > len(short.splitlines())


def test_help_all_is_help_where_that_shows_all(vitreous):
    assert vitreous("push", "--help-all").worked() == vitreous("push", "--help").worked()


def test_an_unknown_option_says_where_all_are_shown(vitreous):
    vitreous("train", "--optimiser.lr=1").refused("vitreous train --help-all shows all")
    vitreous("push", "--licens", "mit").refused("did you mean '--licence'?", "vitreous push --help shows all")


def test_version(vitreous):
    assert vitreous("--version").worked().startswith("vitreous 0.")


def test_python_m_vitreous():
    done = subprocess.run([sys.executable, "-m", "vitreous", "predct"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "vitreous: error: unknown command 'predct'; did you mean 'predict'? "
        "Known: train, resume, sweep, evaluate, predict, explain, embed, similar, cka, serve, inspect, convert, shard, export, quantise, push, ... (22 in all)\n"
    )


def test_ctrl_c_while_it_starts_is_one_line(monkeypatch, capsys):
    class Interrupted(types.ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "vitreous.cli.main", Interrupted("main"))
    assert start() == 130
    assert capsys.readouterr() == ("", "vitreous: interrupted\n")


MISTAKES = {
    "command": (("trian", "digits"), "unknown command 'trian'; did you mean 'train'?"),
    "another program's command": (("val", "run"), "unknown command 'val'; did you mean 'evaluate'?"),
    "option": (("train", "digits", "--learningrate", "1"), "did you mean '--learning-rate'?"),
    "URL": (
        ("train", "https://a.org/cats.zip"),
        "https://a.org/cats.zip is a URL, but a file or folder on this machine",
    ),
    "URL of an option": (("train", "digits", "--weights", "hf://owner/name"), "a model on the Hub is named owner/name"),
    "URL of an output": (("train", "digits", "--out", "s3://bucket/run"), "s3://bucket/run is a URL"),
    "URL among images": (("predict", "run", "a.png", "file:///b.png"), "is a URL; give the path itself: /b.png"),
    "two lengths": (("train", "digits", "--minutes", "1", "--epochs", "3"), "--minutes and --duration"),
    "nested option": (("train", "digits", "--optimiser.lr=1"), "did you mean '--optimizer.lr'?"),
    "option of another command": (("predict", "run", "a.png", "--minutes", "3"), "unknown option '--minutes'"),
    "recipe": (("train", "digits", "--recipe", "smal"), "unknown recipe 'smal'; did you mean 'small'?"),
    "model": (("train", "digits", "--model", "Z/16"), "unknown model 'Z/16'; did you mean"),
    "model without a patch": (("train", "digits", "--model", "S"), "unknown model 'S'"),
    "model by timm's name": (("train", "digits", "--model", "vit_small_patch16_224"), "did you mean 'S/16'?"),
    "model by OpenCLIP's name": (("train", "digits", "--arch", "ViT-B-32"), "did you mean 'B/32'?"),
    "model by torchvision's name": (("train", "digits", "--model", "resnet101"), "did you mean 'R101x1'?"),
    "patch of nothing": (("train", "digits", "--model", "S/0"), "has patches of 0x0 pixels"),
    "device": (("train", "digits", "--device", "gpu"), "--device is 'gpu'; it must be one of 'auto', 'cpu'"),
    "choice": (("train", "digits", "--export", "bets"), "--export is 'bets'; it must be one of 'best', 'last'"),
    "choice alone": (
        ("predict", "run", "a.png", "--tta", "flop"),
        "--tta is 'flop'; it must be one of 'none', 'flip' (",
    ),
    "extension": (("predict", "run", "a.png", "--out", "o.tsv"), "o.tsv ends in .tsv; name a file that ends in .csv, "),
    "extension of another format": (
        ("predict", "run", "a.png", "--out", "o.parquet", "--format", "csv"),
        "o.parquet ends in .parquet, but --format is csv; leave out --format",
    ),
    "setting of a run that stands": (
        ("resume", "run", "--export", "best"),
        "If a run exports another model, its best one is in RUN/best",
    ),
    "choice in its order": (
        ("predict", "run", "a.png", "--format", "None"),
        "--format is 'None'; it must be one of 'table', 'jsonl', 'csv', 'parquet' (",
    ),
    "whole number": (("train", "digits", "--batch", "many"), "--batch is 'many'; it must be a whole number"),
    "number": (("train", "digits", "--optimizer.lr", "fast"), "--optimizer.lr is 'fast'; it must be a number"),
    "two numbers": (("train", "digits", "--image", "wide"), "--image is 'wide'; it must be two whole numbers"),
    "no numbers": (("train", "digits", "--image"), "--image needs two whole numbers"),
    "one of two": (("train", "digits", "--optimizer.betas", "0.9"), "--optimizer.betas needs 2 values"),
    "number or none": (("train", "digits", "--minutes", "soon"), "--minutes is 'soon'; it must be a number"),
    "number or word": (
        ("train", "digits", "--workers", "all"),
        "--workers is 'all'; it must be a whole number, or auto",
    ),
    "whole number and number": (
        ("train", "digits", "--augment.randaugment", "2", "much"),
        "--augment.randaugment is '2', 'much'; it must be a whole number and a number",
    ),
    "magnitude on the old scale": (
        ("train", "digits", "--augment.randaugment_layers", "2", "--augment.randaugment-magnitude=30"),
        "--augment.randaugment-magnitude 30 is on a former scale; its equivalent now is --augment.randaugment 2 10",
    ),
    "layers at the old default": (
        ("train", "digits", "--augment.randaugment-layers", "2"),
        "its equivalent now is --augment.randaugment 2 3.33333",
    ),
    "numbers": (("train", "digits", "--rates", "fast"), "--rates is 'fast'; it must be auto, or numbers"),
    "duration": (("train", "digits", "--duration", "90epochs"), "can't read the duration '90epochs'"),
    "range": (("train", "digits", "--ema", "1"), "ema is 1; it must be at least 0 and below 1"),
    "former name": (
        ("train", "digits", "--model.positions-at", "layers"),
        "--model.positions-at is now called --model.position-placement",
    ),
    "moved to training": (
        ("train", "digits", "--model.drop_path=0.1"),
        "--model.drop_path is now called --regularisation.drop-path",
    ),
    "moved to training, switched off": (
        ("train", "digits", "--model.no-recompute"),
        "--model.no-recompute is now called --no-recompute",
    ),
    "former name of two": (
        ("train", "digits", "--recipe", "mae", "--objective.share", "0.5"),
        "--objective.share is now called --objective.corrupted-share or --objective.mask-ratio",
    ),
    "range of the model": (
        ("train", "digits", "--regularisation.dropout", "2"),
        "regularisation.dropout is 2; it must be at least 0 and below 1",
    ),
    "not finite": (("train", "digits", "--optimizer.weight-decay", "nan"), "optimizer.weight_decay is nan"),
    "minutes of nothing": (("train", "digits", "--minutes", "0"), "minutes is 0; it must be above 0"),
    "negative minutes": (("train", "digits", "--minutes", "-3"), "minutes is -3; it must be above 0"),
    "one argument too many": (("train", "digits", "more"), "unknown argument more"),
    "no argument": (("resume",), "RUN is missing: the run folder (vitreous resume --help shows"),
    "no arguments": (("cka", "here"), "OTHER and DATA are missing (vitreous cka --help shows"),
    "an option that is needed": (("similar", "a.jpg"), "--in is missing: the file that vitreous embed wrote"),
    "no images": (("predict", "run"), "name the images"),
    "image and patch": (
        ("train", "digits", "--model", "S/16", "--image", "30", "32"),
        "an image of 30 rows can't be cut",
    ),
    "setting of a ResNet": (
        ("train", "digits", "--model.units", "1", "1"),
        "--model.units is for another kind of model",
    ),
    "setting of a ViT": (
        ("train", "digits", "--model", "R50x1", "--model.depth=2"),
        "--model.depth is for another kind",
    ),
    "settings of both": (
        ("train", "digits", "--model.depth", "2", "--model.units", "1"),
        "--model.units is for another",
    ),
    "root": (("train", "digits", "--model", "R50x1", "--model.root", "9x9"), "it must be one of '7x7', '3x3'"),
    "ResNet": (("train", "digits", "--model", "R51x1"), "unknown ResNet 'R51x1'; did you mean 'R50x1'?"),
    "an option of before": (("train", "digits", "--sweep"), "give --rates auto, or the learning rates to try"),
    "no rates of the recipe": (("train", "digits", "--rates", "auto"), "recipe 'small' has no grid of learning rates"),
    "LoRA of a ResNet": (("train", "digits", "--model", "R50x1", "--lora", "2"), "LoRA needs a ViT's dense layers"),
    "image alone": (("train", "digits", "--image", "97", "97"), "an image of 97 rows can't be cut into patches"),
    "image of the model alone": (("train", "digits", "--model.image", "16", "16"), "give both the same with --image"),
    "two data sets": (
        ("train", "digits", "--data.path", "photos"),
        "two data sets are named, digits and --data.path photos",
    ),
    "shell": (("completion", "bahs"), "unknown shell 'bahs'; did you mean 'bash'?"),
    "no shell": (("completion",), "completion takes one argument"),
    "no value": (("predict", "run", "a.png", "--top"), "--top needs a value"),
    "one of several or a number": (("train", "digits", "--freeze", "all"), "or a whole number"),
    "frozen": (("train", "digits", "--freeze", "99"), "freeze is 99, but the model has"),
    "finetune without weights": (("train", "digits", "--recipe", "finetune"), "give --weights MODEL,"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_one_clear_line(vitreous, here, mistake):
    arguments, words = MISTAKES[mistake]
    vitreous(*arguments).refused(words)
    assert list(here.iterdir()) == []


def test_nothing_is_suggested_for_a_word_that_is_like_no_other():
    assert suggest("nope", ["compute", "data"]) == "Known: compute, data"
    assert suggest("comptue", ["compute", "data"]).startswith("did you mean 'compute'?")


@pytest.mark.parametrize("cols", [40, 200])
def test_a_terminal_with_colours_gets_the_same_line(cols):
    """tyro draws boxes as wide as the terminal, and colours their words."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (50, cols))
    command = [sys.executable, "-m", "vitreous", "train", "--export", "bets"]
    environment = {**os.environ, "TERM": "xterm-256color"}
    done = subprocess.run(command, stdin=child, stdout=child, stderr=child, env=environment, check=False)
    os.close(child)
    shown = os.read(parent, 10_000).decode()
    os.close(parent)
    assert done.returncode == 2
    assert shown == (
        "vitreous: error: --export is 'bets'; it must be one of 'best', 'last' "
        "(vitreous train --help-all shows all options)\r\n"
    )


def test_an_image_of_another_multiple_gets_a_patch_that_fits(vitreous, here):
    shown = vitreous("train", "digits", "--image", "100", "60", "--dry-run", "--batch", "2").worked()
    assert "seen as 100x60" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_and_options(vitreous, shell):
    script = vitreous("completion", shell).worked(*COMMANDS)
    for option in ("optimizer.lr", "help-all"):
        assert (option if shell == "fish" else f"--{option}") in script


def test_bash_takes_its_script(vitreous, tmp_path):
    script = tmp_path / "completion.sh"
    script.write_text(
        vitreous("completion", "bash").out
        + "COMP_WORDS=(vitreous pre); COMP_CWORD=1; _vitreous; echo ${COMPREPLY[*]}\n"
        + "COMP_WORDS=(vitreous train --optimizer.l); COMP_CWORD=2; _vitreous; echo ${COMPREPLY[*]}\n"
    )
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("predict\n--optimizer.layer-decay --optimizer.lr\n", "")

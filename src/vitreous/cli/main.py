"""Find the command, run it, and turn errors into one line and an exit code.

Exit codes: 0 done; 1 the work failed (a bug shows its traceback); 2 the command is wrong, and says what to change;
128 + n a run was interrupted by signal n, after a checkpoint.
"""

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import FrameType

from vitreous.cli.streams import find_lost_output, is_of_output, replace_streams
from vitreous.errors import ConfigError, ReportedElsewhere, Signalled, UnknownName, VitreousError, explain_exhaustion
from vitreous.runtime.collection import pause_collection
from vitreous.runtime.preload import preload_torch
from vitreous.storage.atomic import give_up_claims
from vitreous.storage.presence import path_exists

COMMANDS = {
    "train": ("vitreous.cli.train", "train a model on a folder of images"),
    "resume": ("vitreous.cli.train", "continue an interrupted run, bit for bit"),
    "sweep": ("vitreous.cli.sweep", "train with several settings and seeds, and compare them"),
    "evaluate": ("vitreous.cli.evaluate", "measure a model on labelled images"),
    "predict": ("vitreous.cli.predict", "classify images"),
    "explain": ("vitreous.cli.explain", "show where a model looks in some images"),
    "embed": ("vitreous.cli.embed", "write a model's features of images as vectors"),
    "similar": ("vitreous.cli.similar", "list the images most similar to a given one, among those that embed wrote"),
    "cka": ("vitreous.cli.cka", "compare two models' layers on the same images"),
    "serve": ("vitreous.cli.serve", "serve a model over HTTP, with a web page"),
    "inspect": ("vitreous.cli.inspect", "describe a model, file of weights, run, data set or image"),
    "convert": ("vitreous.cli.convert", "read weights of any known origin and write them in another format"),
    "shard": ("vitreous.cli.shard", "write images as tar shards: few large files, with direct access to any image"),
    "export": ("vitreous.cli.export", "write a model for ONNX Runtime, OpenVINO or torch.export, and run it there"),
    "quantise": ("vitreous.cli.quantise", "write a model in int8, and measure what it loses"),
    "push": ("vitreous.cli.push", "upload a model to the Hugging Face Hub"),
    "models": ("vitreous.cli.convert", "list the models that can be built and loaded"),
    "study": ("vitreous.cli.study", "repeat one of the paper's experiments"),
    "report": ("vitreous.cli.inspect", "write a run's report.html again"),
    "runs": ("vitreous.cli.run_lists", "list and compare runs, with the settings in which they differ"),
    "board": ("vitreous.cli.board", "show all runs on a web page that follows those in training"),
    "completion": ("vitreous.cli.completion", "print the shell's completion script: bash, zsh or fish"),
}

OTHERS = {
    **dict.fromkeys(("val", "validate", "test", "eval"), "evaluate"),
    "fit": "train",
    "finetune": "train",
    "infer": "predict",
}
"""Other programs' names for commands."""
PRODUCTS = ("predict", "similar", "inspect", "models", "runs", "completion")
"""Commands whose standard output is their product. The others only report progress there, and continue without a
reader."""
JSON_PRINTERS = ("train", "sweep")
"""Further commands whose standard output is their product with --json."""
COMPUTING = ("evaluate", "predict", "explain", "embed", "cka")
"""Commands that import torch immediately, unless an exported model is given, and start no other process before that."""
EXPORTED = ("model.onnx", "model.xml")
"""Files of exported models, which run without torch."""
HELP = ("-h", "--help", "--help-all")
"""Options that print help."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if os.environ.get("WORLD_SIZE"):  # one of several processes: vitreous itself reports how the others ended
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    with replace_streams(endures=not prints_product(arguments)):
        code = run_to_code(arguments)
        if (failure := find_lost_output()) is not None:
            print(f"vitreous: not all output could be written: {failure.strerror}", file=sys.stderr)
        return code


def prints_product(arguments: Sequence[str]) -> bool:
    """Return whether a command line's product is what it prints: losing it is then a failure."""
    if not arguments or arguments[0] not in COMMANDS or arguments[0] in PRODUCTS:
        return True
    return bool({*HELP, *(("--json",) if arguments[0] in JSON_PRINTERS else ())} & set(arguments))


def run_to_code(arguments: list[str]) -> int:
    """Run one command; report an error in one line, and return the exit code."""
    try:
        with raise_on_signals():
            code = run(arguments)
        sys.stdout.flush()
        return code
    except VitreousError as error:
        return report_error(error)
    except KeyboardInterrupt as error:
        print("vitreous: interrupted", file=sys.stderr)
        return 128 + (error.number if isinstance(error, Signalled) else signal.SIGINT)
    except Exception as error:
        if isinstance(error, OSError) and is_of_output(error):
            if error.errno == errno.EPIPE:  # the reader is gone
                return 0
            why = "it is closed" if error.errno == errno.EBADF else error.strerror
            print(f"vitreous: error: can't write the output: {why}", file=sys.stderr)
            return 1
        if (failure := explain_exhaustion(error)) is not None:
            return report_error(failure)
        traceback.print_exc()
        print("vitreous: this is a bug in vitreous; please report it with the lines above", file=sys.stderr)
        return 1
    finally:
        give_up_claims()


def report_error(error: VitreousError) -> int:
    """Report an error in one line; return its exit code."""
    from vitreous.characters import escape

    if not isinstance(error, ReportedElsewhere):
        print(f"vitreous: error: {escape(str(error))}", file=sys.stderr)
    return error.exit_code


@contextmanager
def raise_on_signals() -> Iterator[None]:
    """Make SIGTERM and a closed terminal end a command as Ctrl-C does: half-written files are removed, and the exit
    code is set.

    Signals that are ignored (nohup) stay ignored. Training handles signals itself: see `training/interrupt.py`.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise Signalled(number)

    mine = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        mine = []
    mine = [number for number in mine if signal.getsignal(number) == signal.SIG_DFL]
    for number in mine:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in mine:
            signal.signal(number, signal.SIG_DFL)


def run(arguments: list[str]) -> int:
    """Dispatch to the command's function."""
    if arguments[:1] == ["help"] and arguments[1:2] and arguments[1] in COMMANDS:
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(format_usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"vitreous {version('vitreous')}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        raise UnknownName("command", command, COMMANDS, OTHERS.get(command))
    try:
        os.getcwd()  # noqa: PTH109 (checks that there is one)
    except FileNotFoundError:
        raise ConfigError("the current folder is gone; cd to one that exists") from None
    with pause_collection(keep=command in COMPUTING):  # as `open_model` does with the model
        if needs_torch(command, rest):
            preload_torch()
        from vitreous.cli.translate import translate_arguments

        function: Callable[[list[str]], int] = getattr(import_module(COMMANDS[command][0]), command)
    try:
        return function(translate_arguments(command, rest))
    except SystemExit as error:  # --help
        return int(error.code or 0)


def needs_torch(command: str, arguments: Sequence[str]) -> bool:
    """Return whether a command is about to import torch, as far as can be told before its arguments are parsed."""
    if command not in COMPUTING or {*HELP} & set(arguments):
        return False
    return not any(path_exists(Path(argument) / name) for argument in arguments for name in EXPORTED)


def format_usage() -> str:
    """Return the text that `vitreous --help` prints."""
    lines = [
        "vitreous: Vision Transformers, whole",
        "",
        "usage: vitreous COMMAND ... (COMMAND --help shows its options)",
        "",
    ]
    lines += [f"  {name:12}{what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [*lines, "", "First steps:", "  vitreous train digits", "  vitreous train path/to/photographs --minutes 15"]
    )

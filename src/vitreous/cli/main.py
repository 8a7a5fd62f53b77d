"""Find the command, run it, and turn errors into one line and an exit code.

Exit codes: 0 done; 1 the work failed (a bug shows its traceback); 2 the request can't be met as it stands;
128 + n a run was interrupted by signal n, after a checkpoint.
"""

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module

from vitreous.errors import UnknownName, VitreousError

COMMANDS = {
    "train": ("vitreous.cli.train", "train a model on a folder of images"),
    "resume": ("vitreous.cli.train", "go on with an interrupted run, to the same bits"),
    "evaluate": ("vitreous.cli.evaluate", "measure a model on labelled images"),
    "predict": ("vitreous.cli.use", "classify images"),
    "explain": ("vitreous.cli.explain", "show what a model looks at on some images"),
    "embed": ("vitreous.cli.embed", "write what a model makes of images as vectors"),
    "cka": ("vitreous.cli.cka", "compare two models' layers on the same images"),
    "inspect": ("vitreous.cli.use", "say what a model, file of weights, run, data set or image is"),
    "convert": ("vitreous.cli.weights", "read weights of any known origin, write them in another format"),
    "models": ("vitreous.cli.weights", "list the models that can be built and loaded"),
    "study": ("vitreous.cli.study", "carry out one of the paper's experiments again"),
    "report": ("vitreous.cli.use", "write a run's report.html again"),
    "completion": ("vitreous.cli.completion", "print the shell's completion script: bash, zsh or fish"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    take_any_name()
    try:
        code = run(arguments)
        sys.stdout.flush()
        return code
    except VitreousError as error:
        from vitreous.data.report import printable

        print(f"vitreous: error: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("vitreous: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        drop_output()  # whoever read it has gone
        return 0
    except SystemExit as error:
        return int(error.code or 0)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) and not error.filename:
            print(f"vitreous: error: can't write the output: {error.strerror}", file=sys.stderr)
            drop_output()
            return 1
        traceback.print_exc()
        print("vitreous: this is a bug in vitreous; please report it with the lines above", file=sys.stderr)
        return 1


def take_any_name() -> None:
    """Let names of files that are no UTF-8 come in and go out as the bytes that they are."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")


def drop_output() -> None:
    """Let what is still to be written go nowhere, so that the end of the process doesn't fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> int:
    """Dispatch to the command's function."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"vitreous {version('vitreous')}")
        return 0
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        raise UnknownName("command", command, COMMANDS)
    from vitreous.cli.translate import translated

    function: Callable[[list[str]], int] = getattr(import_module(COMMANDS[command][0]), command)
    return function(translated(command, rest))


def usage() -> str:
    """Return what `vitreous --help` prints."""
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

"""Standard streams as they come: closed, full, not UTF-8, with a reader who has gone. No command ends in a traceback."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from tests.cli.conftest import TINY
from tests.support import forked

from vitreous.cli import convert as models_of
from vitreous.cli.main import prints_product
from vitreous.run_folder import read_run

COMMAND = """
import sys, types
from vitreous.cli import main
name = sys.argv[1]
def work(arguments):
    for number in range(2_000):
        print(number, "\\udcff \\u732b \\xfc")
        print(number, "\\udcff \\u732b \\xfc", file=sys.stderr)
    open(arguments[0], "w").close()
    return 0
sys.modules["work"] = types.ModuleType("work")
setattr(sys.modules["work"], name, work)
main.COMMANDS[name] = ("work", "")
sys.exit(main.main(sys.argv[1:]))
"""
"""A command that says much on both streams, and then has done its work."""


def gone() -> int:
    """Return a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


PLACES = {"gone": gone, "closed": lambda: None, "full": lambda: os.open("/dev/full", os.O_WRONLY)}


def done(name: str, folder: Path, stdout=None, stderr=None, **environment: str) -> subprocess.CompletedProcess:
    """Run the command; a stream that is None is closed before Python starts."""
    closing = " ".join(f"{number}>&-" for number, stream in ((1, stdout), (2, stderr)) if stream is None)
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-c", COMMAND, name, str(folder / "worked")],
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("place", ["gone", "closed", "full"])
def test_work_goes_on_to_its_end_whoever_reads(tmp_path, place):
    ended = done("train", tmp_path, PLACES[place](), PLACES[place]())
    assert ended.returncode == 0
    assert (tmp_path / "worked").exists()


def test_a_full_disk_under_the_log_is_told(tmp_path):
    ended = done("train", tmp_path, PLACES["full"](), subprocess.PIPE)
    assert ended.returncode == 0
    assert ended.stderr.splitlines()[-1] == b"vitreous: not all output could be written: No space left on device"


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [("gone", 0, b""), ("closed", 1, b"can't write the output: it is closed"), ("full", 1, b"No space left on device")],
)
def test_a_product_that_nobody_takes_ends_the_command(tmp_path, place, code, said):
    ended = done("predict", tmp_path, PLACES[place](), subprocess.PIPE)
    assert (ended.returncode, b"Traceback" in ended.stderr) == (code, False)
    assert not (tmp_path / "worked").exists()
    assert said in ended.stderr.splitlines()[-1]


def test_what_was_only_to_be_printed_is_lost_with_an_error():
    ended = forked.run(forked.vitreous("shard", "--help"), lambda: os.dup2(PLACES["full"](), 1))
    assert ended.returncode == 1
    assert ended.stderr == "vitreous: error: can't write the output: No space left on device\n"
    for line in ("train digits --dry-run --json", "sweep digits --json", "evaluate run --help-all", "runs", ""):
        assert prints_product(line.split())
    for line in ("train digits", "evaluate run --json numbers.json"):
        assert not prints_product(line.split())


def test_an_error_without_a_name_is_not_taken_for_lost_output(vitreous, monkeypatch):
    def fail(arguments):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(models_of, "models", fail)
    done = vitreous("models")
    assert (done.code, "BrokenPipeError" in done.err) == (1, True)


def test_a_folder_that_is_gone_is_told(vitreous, here):
    here.rmdir()
    vitreous("predict", "run", "a.png").refused("the current folder is gone; cd to one that exists")


def test_complaints_that_nobody_reads_end_nothing(tmp_path):
    ended = done("predict", tmp_path, subprocess.PIPE, gone())
    assert ended.returncode == 0
    assert (tmp_path / "worked").exists()
    assert len(ended.stdout.splitlines()) == 2_000


@pytest.mark.parametrize(
    ("encoding", "first"),
    [
        ("utf-8", b"0 \xff \xe7\x8c\xab \xc3\xbc"),
        ("latin-1", b"0 \xff \\u732b \xfc"),
        ("ascii", b"0 \xff \\u732b \\xfc"),
        ("cp1252:strict", b"0 \xff \\u732b \xfc"),
    ],
)
def test_names_come_out_as_their_bytes_and_what_has_none_is_escaped(tmp_path, encoding, first):
    ended = done("predict", tmp_path, subprocess.PIPE, subprocess.PIPE, PYTHONIOENCODING=encoding)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[0] == first
    assert ended.stderr.splitlines()[0].startswith(b"0 \\udcff ")


def test_no_language_set(tmp_path):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = done("train", tmp_path, subprocess.PIPE, subprocess.PIPE, **plain)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[0] == b"0 \xff \\u732b \\xfc"


def test_no_file_of_ours_becomes_a_closed_stream(tmp_path):
    """Else the lock or the records would get the number 1 or 2, and whatever a library prints goes into them."""
    code = COMMAND.replace("for number in range(2_000)", "with open(arguments[0] + '.records', 'w') as file")
    code = code.replace("print(number", "print(file.fileno(), file=file); print(0")
    subprocess.run(
        ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code, "train", str(tmp_path / "worked")],
        check=True,
    )
    assert int((tmp_path / "worked.records").read_text().split()[0]) > 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_command_with_its_number(tmp_path, number):
    code = COMMAND.replace("for number in", f"import os; os.kill(os.getpid(), {int(number)})\n    for number in")
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        command = [sys.executable, "-c", code, "evaluate", str(tmp_path / "worked")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (ended.returncode, ended.stdout, ended.stderr) == (128 + number, "", "vitreous: interrupted\n")


def test_a_run_whose_reader_has_gone_is_whole(tmp_path):
    out = gone()

    def leave_without_reader() -> None:
        for number in (1, 2):
            os.dup2(out, number)

    command = forked.vitreous("train", "digits", *TINY, "--out", tmp_path / "run")
    assert forked.run(command, leave_without_reader).returncode == 0
    os.close(out)
    assert read_run(tmp_path / "run").checkpoints[-1] == 6
    assert (tmp_path / "run" / "report.html").exists()
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 6


@pytest.mark.parametrize(("command", "option"), [("predict", "--out"), ("evaluate", "--json")])
def test_results_on_standard_output_stand_alone(trained, tmp_path, command, option):
    """What is said beside them goes to standard error, whatever the format."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    given = [str(tmp_path / "a.png")] if command == "predict" else ["digits", "--out", str(tmp_path / "report")]
    more = ["--format", "jsonl"] if command == "predict" else []
    words = [sys.executable, "-m", "vitreous", command, str(trained), *given, *more, option, "/dev/stdout"]
    with (tmp_path / "out").open("wb") as file:
        done = subprocess.run(words, stdout=file, stderr=subprocess.PIPE, text=True, check=True)
    json.loads((tmp_path / "out").read_text())
    assert "are in /dev/stdout" in done.stderr and "next: " in done.stderr

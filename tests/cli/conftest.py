"""The command line in this process, and one tiny run for all its tests."""

import functools
import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import tyro
from tests.support import forked

from vitreous.cli.main import main

docstrings = tyro._docstrings
"""tyro forgets them with each command; here hundreds run in one process, and each mistake would read their source again."""
docstrings.get_class_tokenization_with_field = functools.cache(docstrings.get_class_tokenization_with_field)

TINY = (
    "--model=mu/4", "--duration=6st", "--evaluate-every=3st", "--checkpoint-every=2st", "--batch=16",
    "--micro-batch=0", "--workers=0", "--schedule.warmup=1st",
)  # fmt: skip
"""A run that takes a moment."""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def refused(self, *words: str, code: int = 2) -> str:
        """Assert that it ended with one clear line that has these words; return the line."""
        assert self.code == code, (self.code, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("vitreous: error: "), self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in lines[0], lines[0]
        return lines[0]

    def worked(self, *words: str) -> str:
        """Assert that it ended well, with these words in its output; return the output."""
        assert self.code == 0, (self.code, self.out, self.err)
        assert self.err == ""
        for word in words:
            assert word in self.out, self.out
        return self.out


@pytest.fixture
def vitreous(capfdbinary, monkeypatch):
    """Run a command in this process: vitreous("predict", run, path, stdin=...) -> Done."""

    def run(*arguments: object, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capfdbinary.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = (part.decode(errors="surrogateescape") for part in capfdbinary.readouterr())
        return Done(code, out, err)

    return run


@pytest.fixture
def command(vitreous):
    """Run a command in this process, where `vitreous` is the package."""
    return vitreous


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return an empty folder that is the working directory."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Return a finished run on digits, trained by a process of its own. Not to be changed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    done = forked.run(forked.vitreous("train", "digits", "--out", out, *TINY))
    assert (done.returncode, done.stderr) == (0, ""), done
    return out


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """Return a copy of the finished run, to be changed at will."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))

"""Tiny runs, as many as a test wants."""

from dataclasses import replace

import pytest
from tests.support.training import TINY

from vitreous.training.run import train


@pytest.fixture(autouse=True)
def not_forced_to_the_disk(monkeypatch):
    """Let the system write when it likes: no test here cuts the power, and tests/hostile has disks that are really full."""
    monkeypatch.setattr("os.fsync", lambda number: None)


@pytest.fixture
def reported() -> None:
    """Have runs write their page."""


@pytest.fixture(autouse=True)
def no_report(request, monkeypatch):
    """Leave out the page, which takes longer than the runs, where a test does not ask for it by `reported`."""
    if "reported" not in request.fixturenames:
        monkeypatch.setattr("vitreous.training.run.write_report", lambda run, reporter: None)


@pytest.fixture
def go(tmp_path):
    """Train TINY with some settings changed: go(ema=0.9) -> Result; folders are numbered."""
    runs = iter(range(1000))

    def start(config=TINY, reporter=None, **changed):
        return train(replace(config, **changed), tmp_path / f"run-{next(runs)}", reporter)

    return start

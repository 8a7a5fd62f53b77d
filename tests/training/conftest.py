"""Tiny runs, as many as a test wants."""

import functools
from dataclasses import replace

import pytest
from tests.support.exact_steps import compute_in_float64
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


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """Train with a configuration when it is first asked for: trained_once(TINY) -> Result, without a page. Not to be changed."""

    @functools.cache
    def once(config):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vitreous.training.run.write_report", lambda run, reporter: None)
            return train(config, tmp_path_factory.mktemp("once") / "run")

    return once


@pytest.fixture
def go(tmp_path):
    """Train TINY with some settings changed: go(ema=0.9) -> Result; folders are numbered."""
    runs = iter(range(1000))

    def start(config=TINY, reporter=None, **changed):
        return train(replace(config, **changed), tmp_path / f"run-{next(runs)}", reporter)

    return start


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float64, here and in the processes that are started from here."""
    compute_in_float64(monkeypatch)

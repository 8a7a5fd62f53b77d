"""Tiny runs, as many as a test wants."""

from dataclasses import replace

import pytest
from tests.support.training import TINY

from vitreous.training.run import train


@pytest.fixture
def go(tmp_path):
    """Train TINY with some settings changed: go(ema=0.9) -> Result; folders are numbered."""
    runs = iter(range(1000))

    def start(config=TINY, reporter=None, **changed):
        return train(replace(config, **changed), tmp_path / f"run-{next(runs)}", reporter)

    return start

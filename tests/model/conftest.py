"""What the tests of the model share."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Leave out the test run's type checks: they'd refuse a wrong setting before the product does, and break a graph."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)

"""For all tests: type checks, the same examples every time and no time limits inside hypothesis, caches of their own, no Hub,
and signals that are heeded, even where whoever started the tests in the background has them ignored.

What collecting the tests makes lives to the end: the garbage collector rests meanwhile and passes it over after, in processes
forked from this one, too, and comes less often.

`HYPOTHESIS_PROFILE=explore make test` looks for new counterexamples: many more examples, others each time.
"""

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings
from tests.support import shape_checks

gc.disable()
jaxtyping.jaxtyped = shape_checks.jaxtyped  # before the import hook decorates the first module of vitreous

SLOW = [HealthCheck.too_slow]
settings.register_profile("vitreous", deadline=None, max_examples=25, suppress_health_check=SLOW, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "vitreous"))
CACHES = tempfile.mkdtemp(prefix="vitreous-tests-")
os.environ["XDG_CACHE_HOME"] = CACHES
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # where nobody listens: no test asks the real Hub
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
collect_ignore = ["fuzz"]
"""`make fuzz` runs those, on request."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return what `-n auto` means: one more than there are cores, since some tests wait for servers and processes."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True, scope="session")
def _measure_shortly() -> Iterator[None]:
    """Measure the speed of a model by the fewest passes, not for half a second: only tests of that look at the figures."""
    from vitreous.evaluation import throughput

    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(throughput, "LONG_ENOUGH", 0.0)
        yield


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHES, ignore_errors=True)

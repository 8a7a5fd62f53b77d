"""For all tests: no time limits inside hypothesis (machines differ), and a scan cache of the tests' own."""

import os
import tempfile

from hypothesis import HealthCheck, settings

settings.register_profile("vitreous", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("vitreous")
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vitreous-tests-")

"""For all tests: the same examples every time, no time limits inside hypothesis, and a scan cache of the tests' own.

`HYPOTHESIS_PROFILE=explore make test` looks for new counterexamples: many more examples, others each time.
"""

import os
import tempfile

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow]
settings.register_profile("vitreous", deadline=None, max_examples=25, suppress_health_check=SLOW, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=500, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "vitreous"))
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="vitreous-tests-")
collect_ignore = ["fuzz"]
"""`make fuzz` runs those, on request."""

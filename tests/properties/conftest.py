"""Profiles of hypothesis: `quick` for every run of the tests, `long` for a search; see tests/README.md."""

import os

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# Hypothesis also draws constants of the imported modules of a project. Which those are depends on the tests that ran
# before, and the same examples must be tried every time.
providers._get_local_constants = lambda: providers._local_constants

_LONG = settings(deadline=None, database=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", _LONG)
settings.register_profile("quick", _LONG, derandomize=True, max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

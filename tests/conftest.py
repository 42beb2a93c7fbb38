"""One Hypothesis profile for all tests: the same examples every time in the default suite, fresh ones with `--all`."""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("fresh", deadline=None)
settings.load_profile(os.environ.get("PICOJOULE_EXAMPLES", "same"))

"""For every test: made examples are the same in each run, and a case whose value is bytes is named by its place.

A run of the tests says the same thing twice; with `HYPOTHESIS_PROFILE=explore` property tests look for new examples instead. Archives and keys are made anew in each process, so that their bytes are no name for a case.
"""

import os

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    return argname if isinstance(val, bytes) else None

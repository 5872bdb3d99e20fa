"""Programs that a test needs on the machine: skipped without them, or failed where a complete run is due."""

import os
import shutil

import pytest


def require_program(name: str) -> None:
    if shutil.which(name) is None:
        reason = f"{name} is not installed"
        if os.environ.get("DIST_REQUIRE_ALL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

"""Settings of the whole suite: nothing of the user's is read or written, one thread per process, quick hypothesis.

``HYPOTHESIS_PROFILE=thorough`` runs the property tests with many more examples.
"""

from __future__ import annotations

import os
import shutil
import tempfile

_FOLDER = tempfile.mkdtemp(prefix="graphc-tests-")

# Before graphc is used: keys and caches go to folders of this run (processes that tests start inherit them).
for _name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
    os.environ[_name] = os.path.join(_FOLDER, _name.lower())
for _name in ("GRAPHC_CACHE_DIR", "GRAPHC_CACHE_SIZE", "GRAPHC_DEBUG", "GRAPHC_DUMP", "GRAPHC_DISABLE", "GRAPHC_CPU"):
    os.environ.pop(_name, None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("GRAPHC_THREADS", "1")

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

_QUICK = {"deadline": None, "derandomize": True, "suppress_health_check": list(hypothesis.HealthCheck)}
hypothesis.settings.register_profile("quick", max_examples=60, database=None, **_QUICK)
hypothesis.settings.register_profile("thorough", parent=hypothesis.settings.get_profile("quick"), max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pytest_unconfigure() -> None:
    shutil.rmtree(_FOLDER, ignore_errors=True)

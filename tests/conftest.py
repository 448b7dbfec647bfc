"""Setup for the whole suite: two simulated CPU devices and a persistent compilation cache."""

import gc
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()
# The clone may be read-only; the virtual environment is writable.
CACHE = ROOT / ".cache" if os.access(ROOT, os.W_OK) else pathlib.Path(sys.prefix) / "cache"
# A folder for each process of the suite: JAX does not lock its cache, and one may read what another has half written.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "jax" / os.environ.get("PYTEST_XDIST_WORKER", "")))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(CACHE / "hypothesis"))

import jax  # noqa: E402 - reads the variables above


@pytest.fixture(scope="module", autouse=True)
def _no_more_programs_than_the_system_can_map():
    """Free the compiled programs after each test module.

    Those of the whole suite need more memory mappings than Linux allows a process (65530 by default), and XLA crashes
    with a segmentation fault when it cannot get another.
    """
    yield
    jax.clear_caches()
    gc.collect()

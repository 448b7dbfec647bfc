"""Setup for the whole suite: two simulated CPU devices and a persistent compilation cache."""

import gc
import os
import pathlib
import sys

import jaxlib.version
import pytest

ROOT = pathlib.Path(__file__).parent.parent
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time of the tests is compilation. Without XLA's fusion emitters and LLVM's optimizations, a training step
# compiles in a third of the CPU time; the demo, which runs for long, has the optimizations. Given flags win over these.
FASTER_TO_COMPILE = "--xla_backend_optimization_level=0"
if jaxlib.version.__version__.startswith("0.10."):  # a later version may not know the flag, and would end the process
    FASTER_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"
TWO_DEVICES = "--xla_force_host_platform_device_count=2"
os.environ["XLA_FLAGS"] = " ".join([FASTER_TO_COMPILE, *os.environ.get("XLA_FLAGS", "").split(), TWO_DEVICES])
# The clone may be read-only; the virtual environment is writable.
CACHE = ROOT / ".cache" if os.access(ROOT, os.W_OK) else pathlib.Path(sys.prefix) / "cache"
# All processes of the suite share it. What one has half written when another reads it counts as missing there.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(CACHE / "hypothesis"))

import jax  # noqa: E402 - reads the variables above

# Tracing makes many objects and little garbage; by default, a tenth of its time is a search for garbage.
gc.set_threshold(50_000)

# Most of what they take is the compilation of training steps.
SLOWEST_FIRST = (
    "test_demo",
    "test_train_fomm",
    "test_parity_train",
    "test_precision",
    "test_inbetween",
    "test_motion_flow",
    "test_motion_training",
    "test_converters",
    "test_motion_commands",
    "test_replicas_completion",
    "test_benchmarks_official_training",
    "test_parity_forward",
    "test_benchmarks_memory",
    "test_animate",
    "test_memory_savers",
    "test_train_inbetween",
    "test_completion",
    "test_lazy_tensorflow",
    "test_reconstruct",
    "test_tf_datasets_in_use",
    "test_multihost",
    "test_evaluate",
)


def pytest_collection_modifyitems(items):
    """Start the slowest modules first; one that starts last keeps a single process busy while the other has none."""
    rank = {name: number for number, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="module", autouse=True)
def _no_more_programs_than_the_system_can_map():
    """Free the compiled programs after each test module.

    Those of the whole suite need more memory mappings than Linux allows a process (65530 by default), and XLA crashes
    with a segmentation fault when it cannot get another.
    """
    yield
    jax.clear_caches()
    gc.collect()

"""Set-up of the whole suite: two simulated CPU devices, quick compilation, and a cache of it that outlives the run."""

import os
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is compilation, which LLVM does in two thirds of the time when it optimises nothing.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"
)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

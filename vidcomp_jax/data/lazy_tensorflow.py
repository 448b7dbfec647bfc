"""Imports TensorFlow on demand: without its messages, without GPUs, and safely together with PyTorch.

TensorFlow takes seconds to import and is needed only for `tf.data` and saved models. All of the library imports it
through this module, and `import vidcomp_jax` never does.
"""

import contextlib
import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

_NOT_CHOSEN = (None, "1")
"""JAX sets 1 if there is no value."""


def import_tensorflow() -> ModuleType:
    """Import and return TensorFlow, without its startup messages and without access to GPUs, which JAX needs.

    Its warnings are off as well, unless `TF_CPP_MIN_LOG_LEVEL` is 0 or 2: of an error such as a damaged file, it would
    print the traceback several times before the program gets the error itself.

    PyTorch may be imported before or after it, with or without Triton installed.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") in _NOT_CHOSEN:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    _load_triton_apart()
    with contextlib.nullcontext() if "tensorflow" in sys.modules else _discard_native_stderr():
        import tensorflow as tf

        with contextlib.suppress(RuntimeError):  # the program has already initialized TensorFlow; keep its choice
            tf.config.set_visible_devices([], "GPU")
    return tf


def _load_triton_apart() -> None:
    """Load the native library of Triton, if it is installed, bound to its own symbols and not to TensorFlow's.

    Both libraries contain a copy of LLVM, in different versions. TensorFlow's is visible to every library loaded
    after it, so that a Triton loaded later initializes TensorFlow's data structures with its own code, and the process
    ends in a segmentation fault. `torch.optim` is enough to make that happen: it imports Triton, where that is
    installed, as it is with PyTorch's CUDA builds. A library loaded with RTLD_DEEPBIND looks its symbols up in itself
    first. It takes some 50 ms; Python's own import finds the library loaded and uses it. Linux only: there is no
    Triton for macOS.
    """
    if sys.platform != "linux" or "triton" in sys.modules:
        return
    spec = importlib.util.find_spec("triton")
    for folder in (spec and spec.submodule_search_locations) or ():
        library = Path(folder) / "_C" / "libtriton.so"
        if library.is_file():
            with contextlib.suppress(OSError):  # whichever program needs Triton will report that it is damaged
                ctypes.CDLL(str(library), mode=os.RTLD_NOW | os.RTLD_DEEPBIND)


@contextlib.contextmanager
def _discard_native_stderr() -> Iterator[None]:
    """Discard what is written to file descriptor 2.

    TensorFlow's C++ code writes some lines there on import whatever its log level is. This redirects the whole
    process, other threads included, and is therefore used only around the first import.
    """
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

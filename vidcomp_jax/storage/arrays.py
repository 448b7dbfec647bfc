"""Stores trees of arrays by their dotted names in Orbax folders with a checksum, and reads them back strictly."""

import contextlib
import logging
import os
import pathlib
import sys
import zlib
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.untrusted import reading

CHECKSUM = "crc32"
_LISTED = 12

Tree = TypeVar("Tree")


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """Map the dotted path of each array in `tree` to a copy of it on the host."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    # Copied because on CPU the host's view shares memory with the array, whose buffer training donates.
    return {name: np.array(value) for name, (_, value) in zip(names, leaves, strict=True)}


def fit_arrays(arrays: dict[str, np.ndarray], tree: Tree, source: pathlib.Path) -> Tree:
    """Put `arrays` into the structure of `tree`.

    Raises:
        InputError: an array is missing or unexpected, or a shape or dtype differs; the message lists the differences.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    wanted = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
    differences = [f"{name} is missing" for name in wanted if name not in arrays]
    differences += [f"{name} is not part of the model" for name in arrays if name not in wanted]
    for name, leaf in wanted.items():
        if name in arrays and (arrays[name].shape, arrays[name].dtype) != (leaf.shape, leaf.dtype):
            found = f"{arrays[name].dtype}{list(arrays[name].shape)}"
            differences.append(f"{name} is {found} there, {leaf.dtype}{list(leaf.shape)} in the model")
    if differences:
        more = f"; and {len(differences) - _LISTED} more" if len(differences) > _LISTED else ""
        raise InputError(f"{source}: does not fit the model: {'; '.join(differences[:_LISTED])}{more}")
    return jax.tree_util.tree_unflatten(structure, [arrays[name] for name in wanted])


def read_arrays(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """Read the arrays of one checkpoint or weights folder, by their dotted names.

    Raises:
        InputError: the folder is missing, incomplete or damaged.
    """
    folder = pathlib.Path(folder).absolute()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; a checkpoint or a folder of weights was expected")
    with reading(folder, "cannot be read, it is damaged or incomplete", "copy it again"):
        # Orbax reads all arrays concurrently, and after the first failure each other read prints a traceback.
        # Reading them one by one beforehand reports a damaged file as a single error.
        store = tensorstore.KvStore.open({"driver": "ocdbt", "base": f"file://{folder}/"}).result()
        for key in store.list().result():
            store.read(key).result()
        with quiet_orbax(), this_process_alone() as reader:
            stored = reader.restore(folder)
        arrays = {name: np.asarray(value) for name, value in stored.items()}
        damaged = int(arrays.pop(CHECKSUM)) != _checksum(arrays)
    if damaged:
        raise InputError(f"{folder}: its checksum does not match, the files were damaged; copy it again")
    return arrays


def this_process_options() -> ocp.options.MultiprocessingOptions:
    """Orbax options that keep this process from waiting for the others of a run on several hosts."""
    process = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=process, active_processes={process}, barrier_sync_key_prefix=f"process{process}"
    )


def this_process_alone() -> ocp.Checkpointer:
    """A checkpointer that reads and writes folders without synchronizing with other processes."""
    options = this_process_options()
    return ocp.Checkpointer(
        ocp.StandardCheckpointHandler(multiprocessing_options=options), multiprocessing_options=options
    )


def with_checksum(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add the checksum that `read_arrays` verifies."""
    return {**arrays, CHECKSUM: np.asarray(_checksum(arrays), np.int64)}


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Suppress Orbax's log, which repeats with tracebacks the errors that it raises; other logging is unaffected."""
    log = logging.getLogger("absl")
    log.addFilter(_not_of_orbax)
    try:
        yield
    finally:
        log.removeFilter(_not_of_orbax)


@contextlib.contextmanager
def late_writes_ignored() -> Iterator[None]:
    """Suppress the tracebacks of all but the first of several failed writes; wrap only the statement that writes.

    The first failure ends Orbax's event loop and is raised. TensorStore reports each of the others to the closed loop,
    where they cannot be raised, so Python prints a traceback for each through `sys.unraisablehook`, the only place to
    suppress them. The hook is replaced only inside the block, and the replacement passes everything else on.
    """
    hook = sys.unraisablehook

    def others_only(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = others_only
    try:
        yield
    finally:
        sys.unraisablehook = hook


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return f"{os.sep}orbax{os.sep}" not in record.pathname


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    checksum = 0
    for name in sorted(arrays):
        checksum = zlib.crc32(np.ascontiguousarray(arrays[name]).tobytes(), zlib.crc32(name.encode(), checksum))
    return checksum

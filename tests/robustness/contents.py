"""What the outputs of commands hold, so that two of them can be compared bit for bit."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from converters.torch_files import read_torch_file
from vidcomp_jax.storage.arrays import read_arrays
from vidcomp_jax.storage.atomic import is_temporary
from vidcomp_jax.storage.checkpoint import WEIGHTS
from vidcomp_jax.storage.folders import MARKER
from vidcomp_jax.storage.steps import ARRAYS, CHECKPOINTS, steps_in
from vidcomp_jax.storage.untrusted import read_npz

_SPEED = ("steps_per_second", "data_wait")


def unfinished(folder: Path) -> list[str]:
    """Names of the files and folders below `folder` that something is still writing, or was when it was killed."""
    found = []
    for _, folders, files in os.walk(folder):
        found += [name for name in (*folders, *files) if is_temporary(name) or "orbax-checkpoint-tmp" in name]
    return sorted(found)


def content(folder: Path) -> dict[str, Any]:
    """What the outputs of a job below `folder` hold, without what differs from run to run, such as speeds and times."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        steps = f"{CHECKPOINTS}/" in f"{name}/" or f"{WEIGHTS}/" in f"{name}/" or "tensorboard" in name
        if path.name == CHECKPOINTS:
            found[name] = {step: _digests(read_arrays(path / str(step) / ARRAYS)) for step in steps_in(path)[-1:]}
        elif path.name == WEIGHTS:
            found[name] = _digests(read_arrays(path))
        elif path.is_file() and not steps and not is_temporary(path.name) and path.name not in (MARKER, ".lock"):
            found[name] = _content(path)
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".npz":
        arrays = read_npz(path, "damaged")
        return _digests({name: x for name, x in arrays.items() if not name.endswith("/seconds")})
    if path.suffix == ".tar":
        return _digests(_flat(read_torch_file(path)))
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{name: value for name, value in line.items() if name not in _SPEED} for line in lines]
    if path.name == "manifest.json":  # its settings name the output
        return {name: value for name, value in json.loads(path.read_text()).items() if name != "settings"}
    if path.name == "config.json":
        return {
            name: value for name, value in json.loads(path.read_text()).items() if name not in ("workdir", "config")
        }
    shown_with_speeds = path.stem in ("table", "metrics", "report") or "curves" in path.name
    if shown_with_speeds or path.parent.name == "plots":
        return path.stat().st_size > 0
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _digests(arrays: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for name, value in arrays.items():
        array = np.asarray(value)
        data = repr(value).encode() if array.dtype == object else array.tobytes()
        found[name] = f"{array.dtype}{array.shape} {hashlib.sha256(data).hexdigest()}"
    return found


def differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """Names of up to three entries that differ; empty if none does."""
    names = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    return ", ".join(names[:3])

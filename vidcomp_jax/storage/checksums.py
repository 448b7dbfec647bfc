"""Checksums of files and of folders of weights, by which results say what they were computed with."""

import hashlib
from pathlib import Path
from typing import Literal

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.checkpoint import WEIGHTS
from vidcomp_jax.storage.folders import MARKER
from vidcomp_jax.storage.steps import CHECKPOINTS, best_step, latest_step


def checksum_of(path: Path) -> str:
    """Sixteen hexadecimal digits that change with the contents of a file, or of any file in a folder."""
    files = (
        sorted(file for file in path.rglob("*") if file.is_file() and file.name != MARKER) if path.is_dir() else [path]
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as opened:
            while chunk := opened.read(2**20):
                digest.update(chunk)
    return digest.hexdigest()[:16]


def checksum_of_weights(directory: Path, which: Literal["latest", "best"] = "latest") -> str:
    """The checksum of the weights that a model folder, or a checkpoint of a training run, holds.

    Raises:
        InputError: the folder holds neither.
    """
    if (directory / WEIGHTS).is_dir():
        return checksum_of(directory / WEIGHTS)
    run = directory / CHECKPOINTS
    step = best_step(run) if which == "best" else latest_step(run)
    if step is None:
        raise InputError(f"{directory}: holds neither {WEIGHTS}/ (a model) nor {CHECKPOINTS}/ (a training run)")
    return checksum_of(run / str(step))

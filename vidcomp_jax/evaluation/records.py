"""Keeps the scores of every batch of clips in a folder, so that an interrupted evaluation goes on from them.

The folder `clips` of the output holds `config.json`, with every choice that changes a number, and one `.npz` file for
each batch of clips. Each file appears whole or not at all.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.scores import Arrays
from vidcomp_jax.storage.atomic import check_output, new_file, remove_all_leftovers, remove_any
from vidcomp_jax.storage.config import CONFIG_FILE, claim_workdir
from vidcomp_jax.storage.folders import MARKER, mark, marker_of, problem_of_replacing
from vidcomp_jax.storage.untrusted import read_npz

METRICS_FILE = "metrics.json"
"""Written last: a folder that has it holds a finished evaluation."""
CLIPS = "clips"
_REPLACED, _MOVING = ".replaced", ".replaced-partly"


@dataclasses.dataclass(frozen=True)
class Records:
    """The scores that an output folder holds; see `open_records`.

    Attributes:
        folder: the folder of the batches.
    """

    folder: Path

    def has(self, number: int) -> bool:
        """Whether batch `number` is there."""
        return self._path(number).is_file()

    def save(self, number: int, arrays: Arrays) -> None:
        """Write the scores of a batch; a full disk raises an `OSError` and leaves no partial file."""
        with new_file(self._path(number)) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # NumPy's own argument is among the keywords

    def load(self, number: int) -> Arrays:
        """Read the scores of a batch; raises an `InputError` if the file is damaged."""
        return read_npz(self._path(number), "damaged", "delete it, and the same command scores it again")

    def batches(self, count: int) -> Iterator[Arrays]:
        """The scores of the first `count` batches, one at a time."""
        return (self.load(number) for number in range(count))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.npz"


def check_folder(output: Path, *, overwrite: bool = False) -> None:
    """Raise an `InputError` if a folder cannot be written, or holds something else or a finished evaluation.

    Args:
        output: the folder; its parent must exist.
        overwrite: allow an evaluation that is there, finished or not. Other contents are never allowed.
    """
    check_output(output, overwrite=True)
    if output.exists() and not output.is_dir():
        raise InputError(f"`output` is {output}: a file; a folder is written")
    if not output.exists() or not any(output.iterdir()):
        return
    marker = marker_of(output)
    # Evaluations of an earlier version have no marker; they go on, but are not replaced.
    if not (marker.kind == "evaluation" if marker is not None else (output / CLIPS / CONFIG_FILE).is_file()):
        raise InputError(f"`output` is {output}: holds other things than an evaluation; it is left as it is")
    if overwrite and (problem := problem_of_replacing(output, "evaluation")):
        raise InputError(f"`output` is {output}: {problem}; it is not replaced, give another folder")
    if (output / METRICS_FILE).exists() and not overwrite:
        raise InputError(
            f"`output` is {output}: holds a finished evaluation; give another folder, or `overwrite` to replace it"
        )


def open_records(output: Path, settings: Any, *, overwrite: bool = False) -> Records:
    """Open an output folder for a new evaluation, or for one that was interrupted.

    Args:
        output: the folder; it is made if it does not exist.
        settings: dataclass with every choice that changes a number. An interrupted evaluation goes on only with the
            same ones.
        overwrite: replace an evaluation that is there, finished or not; a finished one is kept aside, in the folder
            `.replaced`, until `finish_records`.

    Raises:
        InputError: see `check_folder`; or the folder holds an evaluation with other settings.
    """
    check_folder(output, overwrite=overwrite)
    output.mkdir(exist_ok=True)
    if overwrite or (output / _MOVING).exists():
        _move_aside(output)
    mark(output, "evaluation", growing=True)
    remove_all_leftovers(output)
    remove_all_leftovers(output / CLIPS)
    claim_workdir(output / CLIPS, settings)
    return Records(output / CLIPS)


def finish_records(output: Path) -> None:
    """Delete what a finished evaluation has replaced."""
    remove_any(output / _REPLACED)


def _move_aside(output: Path) -> None:
    """Move a finished evaluation into a folder beside its files, and delete an unfinished one."""
    if (output / METRICS_FILE).exists() or (output / _MOVING).exists():
        remove_any(output / _REPLACED)
        (output / _MOVING).mkdir(exist_ok=True)
        # The file that says that it is finished goes last, so that a process that is killed here can go on with this.
        entries = [entry for entry in output.iterdir() if entry.name not in (_MOVING, MARKER)]
        for entry in sorted(entries, key=lambda entry: entry.name == METRICS_FILE):
            entry.rename(output / _MOVING / entry.name)
        (output / _MOVING).rename(output / _REPLACED)
    else:
        for entry in output.iterdir():
            if entry.name not in (_REPLACED, MARKER):
                remove_any(entry)

"""Finds the checkpoints of a training run, tells whole ones from damaged ones, and reads their scores.

A run keeps them as `RUN/checkpoints/STEP/`, with the arrays in `arrays/` and the score in `metrics/metrics`.
"""

import itertools
import json
import logging
import math
import pathlib
import shutil
import time
from typing import Literal

import numpy as np

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.arrays import read_arrays
from vidcomp_jax.storage.atomic import new_file

CHECKPOINTS = "checkpoints"
ARRAYS = "arrays"
Which = Literal["latest", "best"]
_METADATA_FILE = "_CHECKPOINT_METADATA"
_SCORE_FILE = pathlib.Path("metrics", "metrics")
_log = logging.getLogger(__name__)


def set_damaged_aside(directory: pathlib.Path, aside: pathlib.Path) -> int | None:
    """Move the newest checkpoints that cannot be read out of the way, and those that hold no arrays.

    Args:
        directory: the checkpoints of a run.
        aside: folder that the damaged ones are moved to, under their numbers; nothing is deleted.

    Returns:
        Step of the newest checkpoint that can be read, or None if there are no checkpoints.

    Raises:
        InputError: none of them can be read; all of them stay where they are.
    """
    good, damaged = None, {}
    for step in reversed(steps_in(directory)):
        try:
            if good is None:
                read_arrays(directory / str(step) / ARRAYS)
                good = step
            elif not (directory / str(step) / ARRAYS).is_dir():
                raise InputError(f"{directory / str(step)}: holds no arrays")
        except InputError as error:
            damaged[step] = str(error).rpartition(";")[0] or str(error)
    if damaged and good is None:
        raise InputError(f"{directory}: none of the checkpoints {', '.join(map(str, damaged))} can be read")
    for step, reason in damaged.items():
        aside.mkdir(exist_ok=True)
        free = next(name for i in itertools.count() if not (name := aside / f"{step}{f'-{i}' * bool(i)}").exists())
        (directory / str(step)).rename(free)
        _log.warning("%s; it was moved to %s", reason, free)
    return good


def latest_step(directory: pathlib.Path) -> int | None:
    """Step of the newest finished checkpoint in `directory`, or None if there is none."""
    return max(steps_in(directory), default=None)


def best_step(directory: pathlib.Path) -> int:
    """Step of the checkpoint with the lowest score in `directory`.

    Raises:
        InputError: no checkpoint there has a score.
    """
    scores = {step: _stored_score(directory / str(step)) for step in steps_in(directory)}
    best = min(scores, key=lambda step: scores[step], default=None)
    if best is None or scores[best] == math.inf:
        raise InputError(f"{directory}: no checkpoint there was evaluated; use the latest")
    return best


def steps_in(directory: pathlib.Path) -> list[int]:
    """The steps of the checkpoints in `directory`, in order, whole or not."""
    if not directory.is_dir():
        return []
    names = [path.name for path in directory.iterdir() if path.is_dir()]
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def chosen_folder(run: pathlib.Path, which: Which) -> pathlib.Path:
    """The folder of the arrays of the latest or best checkpoint in `run`; `InputError` if there is none."""
    return step_folder(run, best_step(run) if which == "best" else latest_step(run))


def step_folder(directory: pathlib.Path, step: int | None) -> pathlib.Path:
    """The folder of the arrays of checkpoint `step`; `InputError` if there is no such checkpoint."""
    if step is None or not (directory / str(step)).is_dir():
        found = ", ".join(map(str, steps_in(directory))) or "none"
        raise InputError(f"{directory}: no checkpoint {'' if step is None else f'of step {step} '}there; found {found}")
    return directory / str(step) / ARRAYS


def read_step(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """The arrays of a checkpoint; an error says what works to go on without it."""
    try:
        return read_arrays(folder)
    except InputError as error:
        raise InputError(f"{str(error).rpartition(';')[0]}; {advice(folder)}") from error


def advice(folder: pathlib.Path) -> str:
    """What to do about a damaged checkpoint, whose arrays are in `folder`."""
    return (
        "to go on from the checkpoint before it, train with `from_last_good`, which moves damaged ones aside, or move "
        f"{folder.parent} away"
    )


def remove_unfinished(directory: pathlib.Path) -> None:
    """Delete what Orbax had not finished writing."""
    for path in directory.glob("*.orbax-checkpoint-tmp*"):
        # After an error, other threads of Orbax may still write into the folder for a moment.
        for _ in range(50):
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
            time.sleep(0.1)


def _stored_score(step_folder: pathlib.Path) -> float:
    """The score of a checkpoint; infinity if it has none, or it cannot be read."""
    score = _readable_score(step_folder)
    return math.inf if score is None or math.isnan(score) else score


def _readable_score(step_folder: pathlib.Path) -> float | None:
    try:
        return float(json.loads((step_folder / _SCORE_FILE).read_bytes())["score"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _is_whole_metadata(content: bytes) -> bool:
    try:
        metadata = json.loads(content)
    except (ValueError, RecursionError):
        return False
    parts = ("item_handlers", "metrics", "performance_metrics", "custom_metadata")
    times = ("init_timestamp_nsecs", "commit_timestamp_nsecs")
    return (
        isinstance(metadata, dict)
        and all(isinstance(metadata.get(name, {}), dict) for name in parts)
        and all(type(metadata.get(name, 0)) is int and 0 <= metadata.get(name, 0) < 2**62 for name in times)
    )


def mend_side_files(directory: pathlib.Path) -> None:
    """Mend what Orbax reads of all checkpoints before it writes another one, so that it cannot fail.

    A score that cannot be read becomes that of a checkpoint that was not evaluated. Metadata that cannot be read are
    deleted: they say when and by what a checkpoint was written, and nothing needs them.
    """
    for step in steps_in(directory):
        folder = directory / str(step)
        metadata = folder / _METADATA_FILE
        if metadata.is_file() and not _is_whole_metadata(metadata.read_bytes()):
            metadata.unlink()
            _log.warning("%s: its metadata cannot be read; it does without", folder)
        if (folder / ARRAYS).is_dir() and _readable_score(folder) is None:
            (folder / _SCORE_FILE).parent.mkdir(exist_ok=True)
            with new_file(folder / _SCORE_FILE) as temporary:
                temporary.write_text(json.dumps({"score": math.inf}))
            _log.warning("%s: its score cannot be read; it counts as not evaluated", folder)

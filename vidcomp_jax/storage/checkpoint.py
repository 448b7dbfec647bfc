"""Writes checkpoints of training runs and model folders with Orbax, and reads them back strictly.

Input: trees of arrays (a training state, or the variables of a model). Output: `RUN/checkpoints/STEP/`, written in the
background, of which the last few and the best are kept; or a model folder, `DIR/config.json` and `DIR/weights/`.
Every array is stored under its dotted path, such as `params.generator.first.conv.kernel`.
"""

import contextlib
import math
import pathlib
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from flax import nnx
from orbax.checkpoint import checkpoint_managers

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.arrays import (
    fit_arrays,
    flatten,
    late_writes_ignored,
    quiet_orbax,
    read_arrays,
    this_process_alone,
    this_process_options,
    with_checksum,
)
from vidcomp_jax.storage.atomic import full_disk_named
from vidcomp_jax.storage.config import CONFIG_FILE, save_config
from vidcomp_jax.storage.folders import new_folder
from vidcomp_jax.storage.steps import (
    ARRAYS,
    CHECKPOINTS,
    Which,
    advice,
    chosen_folder,
    latest_step,
    mend_side_files,
    read_step,
    remove_unfinished,
    step_folder,
    steps_in,
)

WEIGHTS = "weights"

Tree = TypeVar("Tree")
Config = TypeVar("Config")
Model = TypeVar("Model", bound=nnx.Module)


class Checkpoints:
    """The checkpoints of one run, `directory/STEP/`, written in the background; the last few and the best are kept.

    Use it as a context manager: leaving the block waits until everything is on disk. Only one process of a run may
    open it, process 0.

    Args:
        directory: folder for the step folders; created if missing.
        keep_last: number of latest checkpoints to keep.

    Raises:
        InputError: a checkpoint holds no arrays; or, from `save`, `wait` and `close`, the disk is full, and earlier
            checkpoints are not affected.
    """

    def __init__(self, directory: pathlib.Path, keep_last: int = 3):
        self.directory = pathlib.Path(directory).absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.directory)
        for step in steps_in(self.directory):
            if not (folder := step_folder(self.directory, step)).is_dir():
                raise InputError(f"{folder}: no such folder; {advice(folder)}")
        mend_side_files(self.directory)
        self._quiet = quiet_orbax()
        self._quiet.__enter__()
        policies = [
            checkpoint_managers.LatestN(keep_last),
            checkpoint_managers.BestN(get_metric_fn=_score, reverse=True, n=1),
        ]
        self._manager = ocp.CheckpointManager(
            self.directory,
            item_names=(ARRAYS,),
            options=ocp.CheckpointManagerOptions(
                best_fn=_score,
                best_mode="min",
                create=False,
                preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
                multiprocessing_options=this_process_options(),
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, error_type, error, traceback):
        with contextlib.suppress(InputError) if error_type else contextlib.nullcontext():
            self.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest finished checkpoint, or None if there is none."""
        return latest_step(self.directory)

    def save(self, step: int, tree: Any, score: float = math.inf) -> None:
        """Copy `tree` to the host and write it in the background as checkpoint `step`, unless it exists.

        Args:
            step: training step, which names the folder.
            tree: any tree of arrays; each is stored under its dotted path.
            score: lower is better, and the checkpoint with the lowest is kept; one that is not finite is never best.
        """
        if step in steps_in(self.directory):
            return
        arrays = flatten(tree)
        score = score if math.isfinite(score) else math.inf
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(**{ARRAYS: ocp.args.StandardSave(with_checksum(arrays))}),
                metrics={"score": float(score)},
                force=True,
            )

    def restore(self, tree: Tree, step: int | None = None) -> Tree:
        """Read checkpoint `step` (the latest if None) into the structure of `tree`, as NumPy arrays.

        Raises:
            InputError: the checkpoint does not exist, cannot be read, or does not fit `tree`.
        """
        self.wait()
        step = self.latest if step is None else step
        folder = step_folder(self.directory, step)
        return fit_arrays(read_step(folder), tree, folder)

    def wait(self) -> None:
        """Block until everything saved so far is on disk."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for pending writes, and release the background threads."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # closing repeats the error that `wait` raised
                self._manager.close()
            self._quiet.__exit__(None, None, None)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with full_disk_named(self.directory), late_writes_ignored():
            try:
                yield
            except Exception:
                remove_unfinished(self.directory)
                raise


def save_model(directory: pathlib.Path, model: nnx.Module, config: Any, *, replace: bool = False) -> None:
    """Write `directory/config.json` and `directory/weights/` (parameters and running statistics of `model`).

    The folder appears whole or not at all; an existing one is replaced only if `replace` is set.

    Raises:
        InputError: `directory` exists and `replace` is not set, or the disk is full.
    """
    directory = pathlib.Path(directory).absolute()
    if directory.exists() and not replace:
        raise InputError(f"{directory}: exists; give a new folder, or remove this one")
    with full_disk_named(directory), new_folder(directory, "model", replace=replace) as partial:
        save_config(partial / CONFIG_FILE, config)
        with quiet_orbax(), late_writes_ignored(), this_process_alone() as writer:
            writer.save(partial / WEIGHTS, with_checksum(flatten(_weights(model))))


def load_weights(
    model: nnx.Module,
    directory: pathlib.Path,
    *,
    which: Which = "latest",
    prefix: str = "",
    optional: Collection[str] = (),
) -> list[str]:
    """Replace the parameters and running statistics of `model` with those in `directory`.

    Args:
        model: changed in place, and only if everything fits. `Constant` variables keep their values.
        directory: a model folder, or the folder of a training run.
        which: for a training run, the latest checkpoint or the one with the best score.
        prefix: dotted path within the stored model of the submodule to load, such as "generator"; all of it if empty.
        optional: names of submodules of `model` that keep their weights if the stored ones are missing or do not fit.

    Returns:
        The optional submodules that kept their weights.

    Raises:
        InputError: the weights are missing, cannot be read, or do not fit.
    """
    directory = pathlib.Path(directory).absolute()
    if (directory / WEIGHTS).is_dir():
        folder = directory / WEIGHTS
    elif (directory / CHECKPOINTS).is_dir():
        folder = chosen_folder(directory / CHECKPOINTS, which)
    else:
        raise InputError(f"{directory}: holds neither {WEIGHTS}/ (a model) nor {CHECKPOINTS}/ (a training run)")
    kinds = {f"{kind}.{prefix}." if prefix else f"{kind}.": f"{kind}." for kind in ("params", "batch_stats")}
    arrays = {}
    for name, value in (read_step(folder) if folder.name == ARRAYS else read_arrays(folder)).items():
        for stored, plain in kinds.items():
            if name.startswith(stored):
                arrays[plain + name.removeprefix(stored)] = value
    wanted, kept = _weights(model), []
    for name in optional:
        own = {kind: {name: leaves.pop(name)} for kind, leaves in wanted.items() if name in leaves}
        held = {path: arrays.pop(path) for path in list(arrays) if path.split(".")[1] == name}
        try:
            part = fit_arrays(held, own, folder)
        except InputError:
            kept.append(name)
            continue
        for kind, leaves in part.items():
            wanted[kind] |= leaves
        arrays |= held
    weights = jax.tree.map(jnp.asarray, fit_arrays(arrays, wanted, folder))
    nnx.update(model, weights["params"], weights["batch_stats"])
    return kept


def load_checkpoint(tree: Tree, directory: pathlib.Path, which: Which = "latest") -> Tree:
    """Read a checkpoint of a training run into the structure of `tree`, as NumPy arrays; changes nothing there.

    Raises:
        InputError: there is no checkpoint, or it cannot be read or does not fit `tree`.
    """
    folder = chosen_folder(pathlib.Path(directory).absolute() / CHECKPOINTS, which)
    return fit_arrays(read_step(folder), tree, folder)


def _weights(model: nnx.Module) -> dict[str, dict]:
    return {
        "params": nnx.to_pure_dict(nnx.state(model, nnx.Param)),
        "batch_stats": nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)),
    }


def _score(metrics: dict[str, float]) -> float:
    return metrics["score"]

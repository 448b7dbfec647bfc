"""The folder of a training run: its configuration, log, panels and checkpoints.

If a run has several processes, only process 0 accesses the folder.
"""

import contextlib
import fcntl
import math
import pathlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vidcomp_jax.devices import host_copy
from vidcomp_jax.errors import InputError, TrainingError
from vidcomp_jax.storage.atomic import full_disk_named, problem_of_place, remove_all_leftovers
from vidcomp_jax.storage.checkpoint import WEIGHTS, Checkpoints
from vidcomp_jax.storage.config import CONFIG_FILE, claim_workdir
from vidcomp_jax.storage.folders import mark, marker_of
from vidcomp_jax.storage.steps import CHECKPOINTS, latest_step, set_damaged_aside
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.run_log import METRICS, PANELS, RunLog
from vidcomp_jax.training.step import Batch, TrainState

DAMAGED = "damaged"
_LOCK = ".lock"


def check_workdir(workdir: pathlib.Path) -> None:
    """Raise an `InputError` unless `workdir` is new or empty, or holds a run: a marked one, or an earlier version's."""
    if problem := problem_of_place(workdir) if workdir.absolute().parent.is_dir() else "":
        raise InputError(f"{workdir}: {problem}")
    if not workdir.is_dir():
        return
    names = sorted(path.name for path in workdir.iterdir() if path.name != _LOCK)
    marker = marker_of(workdir)
    if marker is not None:
        ours = marker.kind == "run"
    else:
        # A run of an earlier version has a lock, or, where it was copied without hidden files, checkpoints.
        checkpoints = workdir / CHECKPOINTS
        ours = {CONFIG_FILE, CHECKPOINTS} <= {*names} and not (workdir / WEIGHTS).exists()
        ours = ours and (latest_step(checkpoints) is not None or (workdir / _LOCK).exists())
    if names and not ours:
        shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
        raise InputError(
            f"{workdir}: holds other things than a training run ({shown}); give a new or an empty folder to train in"
        )


class RunFolder:
    """Claims a run folder, restores its latest checkpoint and writes its reports. A context manager.

    Args:
        workdir: path of the run folder, which is created if missing.
        config: settings of the training loop.
        panels, evaluate, best: see `vidcomp_jax.training.loop.fit`.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        config: TrainConfig,
        panels: Callable[[Any], Any] | None = None,
        evaluate: Callable[[Any], Mapping[str, float]] | None = None,
        best: str | None = None,
    ):
        self.workdir = pathlib.Path(workdir)
        self._config = config
        self._panels = panels
        self._evaluate = evaluate
        self._best = best
        self._stack = contextlib.ExitStack()
        self._log: RunLog | None = None

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *error):
        return self._stack.__exit__(*error)

    def open(self, run_config: Any) -> int:
        """Claim the folder for `run_config` and return the step of its latest checkpoint, or 0 if there is none.

        Raises:
            InputError: the folder is in use, holds other things than a run, or a run that is longer or has other
                settings.
        """
        check_workdir(self.workdir)
        directory = self.workdir / CHECKPOINTS
        latest = latest_step(directory) or 0
        if latest > self._config.num_steps:
            raise InputError(
                f"`num_steps` is {self._config.num_steps}; {self.workdir} holds a run of {latest} steps: give at least "
                f"{latest}, or another folder"
            )
        self._lock()
        log = self.workdir / METRICS
        if not latest and not (log.is_file() and log.stat().st_size):
            # Nothing was trained yet, so a run that failed at the start may be repeated with other settings.
            (self.workdir / CONFIG_FILE).unlink(missing_ok=True)
        mark(self.workdir, "run", growing=True)
        for folder in (self.workdir, self.workdir / PANELS):
            remove_all_leftovers(folder)
        claim_workdir(self.workdir, run_config)
        if self._config.from_last_good:
            latest = set_damaged_aside(directory, self.workdir / DAMAGED) or 0
        self._checkpoints = self._stack.enter_context(Checkpoints(directory, self._config.keep_last))
        return latest

    def restore(self, state: TrainState) -> TrainState:
        """Load the latest checkpoint as NumPy arrays in the structure of `state`."""
        return self._checkpoints.restore(state)

    def begin(self, start: int) -> None:
        """Open the log for the steps after `start`."""
        self._log = self._stack.enter_context(RunLog(self.workdir, start, self._config.num_steps))
        if start == self._config.num_steps:
            self._log.say(f"{self.workdir} is already trained to step {start}; a larger number of steps continues it")
        elif start:
            self._log.say(f"continuing from step {start} of {self.workdir}")

    def advance(self, step: int) -> None:
        """Move the progress bar to `step`."""
        if self._log is not None:
            self._log.advance(step)

    def report(
        self,
        step: int,
        due: set[str],
        metrics: Mapping[str, float],
        pace: "Pace",
        state: TrainState,
        evaluation_model: Callable[[], Any],
        stopped: int | None,
    ) -> None:
        """Do what is due after `step`: log `metrics`, evaluate, draw panels and save `state`.

        If a signal stopped the run (`stopped` is its number), only log and save.

        Raises:
            TrainingError: a weight to be saved is not finite.
            InputError: the disk is full.
        """
        with full_disk_named(self.workdir):
            self._report(step, due, metrics, pace, state, evaluation_model, stopped)

    def _report(
        self,
        step: int,
        due: set[str],
        metrics: Mapping[str, float],
        pace: "Pace",
        state: TrainState,
        evaluation_model: Callable[[], Any],
        stopped: int | None,
    ) -> None:
        if "log" in due:
            self._running_log.progress(step, metrics, *pace.measure(step))
        score = math.inf
        save = stopped is not None or "checkpoint" in due
        if stopped is None and (due & {"evaluate", "panel"}) and (self._evaluate or self._panels):
            model = evaluation_model()
            if self._evaluate is not None and "evaluate" in due:
                score, save = self._evaluated(step, self._evaluate(model)), True
            if self._panels is not None and "panel" in due:
                images = self._panels(model)
                self._running_log.images(step, images if isinstance(images, Mapping) else {"panel": images})
        if save:
            self._save(step, state, score)
        if stopped is not None:
            self._checkpoints.wait()
            self._running_log.say(
                f"stopped by {signal.Signals(stopped).name} after step {step} and saved in {self.workdir}; "
                "run the same command again to continue"
            )

    @property
    def _running_log(self) -> RunLog:
        assert self._log is not None, "`begin` comes before the first report"
        return self._log

    def _lock(self) -> None:
        if self.workdir.exists() and not self.workdir.is_dir():
            raise InputError(f"{self.workdir}: is a file; a work folder was expected")
        self.workdir.mkdir(parents=True, exist_ok=True)
        lock = self._stack.enter_context((self.workdir / _LOCK).open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{self.workdir}: another run is using this folder; stop it, or use another") from error
        except OSError:  # some network file systems do not support locks; train without one
            return

    def _evaluated(self, step: int, numbers: Mapping[str, float]) -> float:
        log = self._running_log
        log.scalars(step, {f"evaluation/{name}": value for name, value in numbers.items()})
        log.say(f"step {step} evaluation  " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
        return math.inf if self._best is None else float(numbers[self._best])

    def _save(self, step: int, state: TrainState, score: float) -> None:
        state = host_copy(state)
        for path, value in jax.tree_util.tree_leaves_with_path((state.params, state.batch_stats)):
            if not np.isfinite(value).all():
                name = jax.tree_util.keystr(path[1:], simple=True, separator=".")
                raise TrainingError(
                    f"step {step}: {name} is not finite; training stopped, the checkpoints written before are kept"
                )
        self._checkpoints.save(step, state, score)


class Pace:
    """Measures steps per second and the fraction of time spent waiting for data."""

    def __init__(self):
        self._since: tuple[int, float] | None = None
        self._waited = 0.0

    def wait_for(self, data: Iterator[Batch], step: int) -> Batch:
        """Return the next batch of `data`, for step `step`.

        Raises:
            InputError: there are no more batches.
        """
        start = time.perf_counter()
        batch = next(data, None)
        if batch is None:
            raise InputError(f"the data ended before step {step}; batches must go on for all steps")
        self._waited += time.perf_counter() - start
        return batch

    def restart(self, step: int) -> None:
        """Start measuring from the end of `step`."""
        self._since, self._waited = (step, time.perf_counter()), 0.0

    def measure(self, step: int) -> tuple[float, float]:
        """Return steps per second and the fraction of time spent waiting since `restart`; NaN if not known yet."""
        if self._since is None or step == self._since[0]:  # the first step is mostly compilation
            return math.nan, math.nan
        elapsed = time.perf_counter() - self._since[1]
        return (step - self._since[0]) / elapsed, min(1.0, self._waited / elapsed)


def due_after(step: int, start: int, config: TrainConfig) -> set[str]:
    """What is due after `step` of a run that began at `start`: "log", "evaluate", "panel", "checkpoint".

    All processes must agree on it, so it depends only on the arguments.
    """
    every = {
        "log": config.log_every,
        "evaluate": config.evaluate_every,
        "panel": config.panel_every,
        "checkpoint": config.checkpoint_every,
    }
    due = {
        name
        for name, period in every.items()
        if step == config.num_steps or (period is not None and step % period == 0)
    }
    return due | {"log"} if step == start + 1 else due

"""The training loop.

Input: a module, an objective and batches. Output: the trained module, and the run folder.

The loop decides when to log, evaluate, draw panels, save and stop, and resumes a run from its latest checkpoint. The
steps themselves are run by `vidcomp_jax.training.step` on all devices of all hosts.
"""

import collections
import contextlib
import dataclasses
import functools
import logging
import math
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import optax
from flax import nnx

from vidcomp_jax.devices import (
    BatchShare,
    all_devices,
    from_process_0,
    host_copy,
    largest_of_all,
    replicate,
    shard,
    single_copy,
)
from vidcomp_jax.errors import InputError, LostProcessError, TrainingError, one_line
from vidcomp_jax.storage.untrusted import check_memory
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.interrupt import StopSignal
from vidcomp_jax.training.prefetch import Prefetch
from vidcomp_jax.training.profile import Profile
from vidcomp_jax.training.run_folder import Pace, RunFolder, due_after
from vidcomp_jax.training.step import (
    SKIPPED,
    Batch,
    DeviceStep,
    Objective,
    gradient_step,
    init_state,
    map_over_devices,
)

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class FitResult:
    """The result of `fit`.

    Attributes:
        model: the module that was passed in, now with the trained weights and in training mode.
        step: number of steps completed.
        metrics: metrics of the last step; empty if the run was already complete.
        signal: number of the signal that stopped the run, or None if the run is complete.
    """

    model: nnx.Module
    step: int
    metrics: dict[str, float]
    signal: int | None = None

    @property
    def interrupted(self) -> bool:
        """Whether a signal stopped the run before its last step."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """Exit code of the process: 0, or 128 plus the signal (130 for Ctrl-C, 143 for SIGTERM)."""
        return 0 if self.signal is None else 128 + self.signal


def fit(
    model: nnx.Module,
    *,
    tx: optax.GradientTransformation,
    batches: Callable[[BatchShare], Iterator[Batch]],
    config: TrainConfig,
    workdir: pathlib.Path,
    objective: Objective | None = None,
    step: DeviceStep | None = None,
    run_config: Any = None,
    panels: Callable[[Any], Any] | None = None,
    evaluate: Callable[[Any], dict[str, float]] | None = None,
    best: str | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> FitResult:
    """Train `model` for `config.num_steps` steps in all, resuming from the latest checkpoint in `workdir`.

    A resumed run gives bit for bit the results of an uninterrupted one. After Ctrl-C or SIGTERM, the current step is
    completed and saved before `fit` returns; a second Ctrl-C aborts. With several processes, all of them call `fit`,
    but only process 0 reads and writes `workdir`, prints, evaluates and draws panels.

    Args:
        model: module in training mode with `nnx.Param`, `nnx.BatchStat` and `vidcomp_jax.nn.layers.Constant`
            variables only. It is updated in place.
        tx: the optimizer; `tx.init(params)` initializes `TrainState.opt_state`.
        batches: function from a `BatchShare` to an iterator over this process's shares of all batches after
            `start_step`: NumPy arrays of `config.batch_size / process_count` examples.
        config: how long to train and how often to report.
        workdir: folder for `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/` and `panels/`.
        objective: function to minimize with `tx`.
        step: complete training step to use instead of `objective`, for several optimizers or updates per batch.
        run_config: dataclass to store in `workdir`, which must be the same when the run is resumed; `config` if None.
        panels: function from the module, in evaluation mode on one device, to a uint8 image [h, w, c] or a dict of
            images.
        evaluate: function from the same module to a dict of numbers to log.
        best: name of the number from `evaluate` whose smallest value marks the best checkpoint; None marks none.
        devices: devices to train on; None for all of them.

    Raises:
        InputError: the batch size does not divide over the devices, `workdir` belongs to another run, a checkpoint is
            damaged, or a device has too little memory.
        TrainingError: a metric or weight is not finite; the checkpoints saved before are kept.
        LostProcessError: another process has ended; the checkpoints saved before are kept.
        ValueError: neither or both of `objective` and `step` are given.
    """
    if step is None and objective is not None:
        step = gradient_step(tx, objective, accumulate=config.accumulate)
    elif step is None or objective is not None:
        raise ValueError("fit needs either an objective or a step")
    elif config.accumulate > 1:
        raise InputError(f"`accumulate` is {config.accumulate}; this training does not compute steps in parts, give 1")
    devices = all_devices() if devices is None else list(devices)
    check_batch_size(config.batch_size, len(devices), accumulate=config.accumulate)
    process, processes = jax.process_index(), jax.process_count()
    graphdef, constants, state = init_state(model, tx, devices)
    train_step = map_over_devices(graphdef, step, devices, skip_nonfinite=config.skip_nonfinite > 0)
    guard = _Guard(config.skip_nonfinite)
    key = replicate(jax.random.key(config.seed), devices)

    def evaluation_model() -> nnx.Module:
        trained = nnx.merge(graphdef, *single_copy((state.params, state.batch_stats, constants)))
        trained.eval()
        return trained

    with contextlib.ExitStack() as stack:
        stack.enter_context(_errors_of_devices(processes))
        stop = stack.enter_context(StopSignal())
        folder = stack.enter_context(RunFolder(workdir, config, panels, evaluate, best))
        start = from_process_0(lambda: folder.open(run_config or config), 0)
        if start:
            state = replicate(from_process_0(lambda: folder.restore(state), host_copy(state)), devices)
        from_process_0(lambda: folder.begin(start), None)
        share = config.batch_size // processes
        data = Prefetch(batches(BatchShare(start, process, processes)), lambda batch: shard(batch, share, devices))
        stack.enter_context(data)
        profile = stack.enter_context(Profile(config.profile))
        pace, stopped = Pace(), None
        values: dict[str, float] = {}
        pending: collections.deque[tuple[int, Any]] = collections.deque()
        for number in range(start + 1, config.num_steps + 1):
            profile.begin_round(state)
            state, metrics = train_step(state, constants, pace.wait_for(data, number), key)
            pending.append((number, metrics))
            due = due_after(number, start, config)
            heeded = bool(due) if processes > 1 else bool(due or stop.received)
            # Reading the metrics one step late keeps the devices busy while the host waits for them.
            while len(pending) > (0 if heeded else 1):
                values = guard.finite(*pending.popleft()) or values
            folder.advance(number)
            if heeded:
                stopped = _signal_of_any(stop) if number < config.num_steps else None
                report = functools.partial(folder.report, number, due, values, pace, state, evaluation_model, stopped)
                from_process_0(report, None)
                pace.restart(number)
            if stopped is not None:
                break
    nnx.update(model, *single_copy((state.params, state.batch_stats)))
    return FitResult(model, int(state.step), values, stopped)


def check_weights(build: Callable[[], nnx.Module]) -> None:
    """Raise an `InputError` if a model, with gradients and two moments, takes more memory than there is.

    Args:
        build: makes the model; only shapes are computed.
    """
    leaves = jax.tree.leaves(nnx.state(nnx.eval_shape(build)))
    num_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
    check_memory(4 * num_bytes, "the weights with gradients and the state of the optimizer; a smaller width")


def check_batch_size(batch_size: int, num_devices: int | None = None, *, accumulate: int = 1) -> None:
    """Raise an `InputError` unless `batch_size` divides over the devices, by default all of them, and their parts."""
    count = jax.device_count() if num_devices is None else num_devices
    if batch_size % count:
        raise InputError(f"`batch_size` is {batch_size}; it must be a multiple of the number of devices, {count}")
    if batch_size % (count * accumulate):
        raise InputError(
            f"`accumulate` is {accumulate}; `batch_size`, which is {batch_size}, must be a multiple of "
            f"{count * accumulate}: that many parts on each of {count} devices"
        )


def _signal_of_any(stop: StopSignal) -> int | None:
    """Number of a signal that any process has received, or None. No signal has the number 0."""
    return largest_of_all(stop.received or 0) or None


_STATUS_OF_XLA = re.compile("(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|RESOURCE_EXHAUSTED|UNAVAILABLE|UNKNOWN): ")


@contextlib.contextmanager
def _errors_of_devices(processes: int) -> Iterator[None]:
    """Explain in one line why devices cannot go on: too little memory, or another process that has ended."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        # JAX raises the errors of collectives as a ValueError where it runs the program in the thread that called it.
        if isinstance(error, ValueError) and not _STATUS_OF_XLA.match(str(error)):
            raise
        if "RESOURCE_EXHAUSTED" in str(error):
            raise InputError(
                f"a device has too little memory ({one_line(error)}); lower the batch size or the sizes of the networks"
            ) from error
        if processes > 1:
            raise LostProcessError(
                f"another process of this run does not answer ({one_line(error)}); start all of them again, and "
                "they go on from the last checkpoint"
            ) from error
        raise


class _Guard:
    """Fetches the metrics of each step, and stops training when they are not finite.

    Args:
        most: number of steps in a row that may be skipped.
    """

    def __init__(self, most: int):
        self._most, self._in_a_row, self._total = most, 0, 0

    def finite(self, step: int, metrics: dict[str, jax.Array]) -> dict[str, float]:
        """The metrics of `step`, all finite; none if the step was skipped.

        Raises:
            TrainingError: a metric is not finite, or as many steps in a row as may be skipped were.
        """
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        if not bad and not values.get(SKIPPED):
            self._in_a_row = 0
            return values | ({SKIPPED: float(self._total)} if self._most else {})
        terms = ", ".join(f"{name} is {value}" for name, value in bad.items()) or "a weight or statistic is not finite"
        self._in_a_row, self._total = self._in_a_row + 1, self._total + 1
        if self._in_a_row <= self._most:
            _log.warning("step %d: %s; skipped, %d in a row, %d in all", step, terms, self._in_a_row, self._total)
            return {}
        after = f" after {self._most} skipped steps" if self._most else ""
        raise TrainingError(f"step {step}: {terms}; training stopped{after}, the checkpoints written before are kept")

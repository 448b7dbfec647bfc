"""Supports several devices and hosts: the mapped axis, replication, sharding, and work that only process 0 does."""

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from vidcomp_jax.errors import InputError, TrainingError, one_line

AXIS = "devices"
"""Name of the axis that training maps over with `jax.pmap`. Use it in your own `pmap`, or in `shard_map` with
`check_vma=False`: with the check, JAX adds the gradients of replicated weights up by itself, and they would be too
large."""

TIMEOUT_SECONDS = 100
"""Seconds after which the other processes end when one of a run does not answer any more."""

Tree = TypeVar("Tree")
Result = TypeVar("Result")


def inside_device_axis() -> bool:
    """Whether the code being traced is mapped over `AXIS`."""
    try:
        jax.lax.axis_size(AXIS)
    except NameError:
        return False
    return True


def mean_over_devices(tree: Tree) -> Tree:
    """Average every array of `tree` over the devices of `AXIS`; outside of it, return `tree` unchanged.

    A single device returns it unchanged as well: XLA would keep the reductions, and fuse nothing across them.
    """
    return jax.lax.pmean(tree, AXIS) if inside_device_axis() and jax.lax.axis_size(AXIS) > 1 else tree


def initialize_distributed(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    timeout: int = TIMEOUT_SECONDS,
) -> None:
    """Join the processes of a run on several hosts. Call it before any other use of JAX.

    Without arguments, JAX detects the cluster from its environment (Slurm, Open MPI, Cloud TPU); outside a cluster,
    nothing happens and the run has one process.

    Args:
        coordinator: HOST:PORT of process 0, the same for all processes.
        num_processes: number of processes.
        process_id: index of this process, from 0.
        timeout: seconds to wait for the other processes, at the start and, later, for a sign that they still run.

    Raises:
        InputError: only some of the arguments are given, or one of them is invalid; or process 0 does not answer.
    """
    if coordinator is not None:
        if num_processes is None or process_id is None or not 0 <= process_id < num_processes:
            raise InputError(
                f"`coordinator` is {coordinator}, `num_processes` {num_processes} and `process_id` {process_id}; give "
                "the number of processes, and this one's number from 0"
            )
        if not coordinator.rpartition(":")[2].isdecimal():
            raise InputError(f"`coordinator` is {coordinator}; it must be the HOST:PORT of process 0")
        if process_id:
            _wait_for(coordinator, timeout)
        with _joining(coordinator):
            jax.distributed.initialize(
                coordinator,
                num_processes,
                process_id,
                initialization_timeout=timeout,
                heartbeat_timeout_seconds=timeout,
            )
        return
    if num_processes is not None or process_id is not None:
        raise InputError(
            f"`num_processes` is {num_processes} and `process_id` {process_id}, but there is no `coordinator`; give "
            "the HOST:PORT of process 0 as well"
        )
    try:
        jax.distributed.initialize()
    except ValueError as error:
        if "should be defined" not in str(error):  # JAX's message when it detects no cluster
            raise


def _wait_for(coordinator: str, timeout: int) -> None:
    """Wait until something listens at HOST:PORT; JAX itself would wait as long without a word, and then abort."""
    host, _, port = coordinator.rpartition(":")
    end, said, reason = time.monotonic() + timeout, False, "no answer"
    while time.monotonic() < end:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except (OSError, OverflowError) as error:
            reason = one_line(error)
        if not said:
            print(f"waiting up to {timeout} s for process 0 at {coordinator} ({reason})", file=sys.stderr, flush=True)
            said = True
        time.sleep(1)
    raise InputError(
        f"`coordinator` is {coordinator}: nothing answers there after {timeout} s ({reason}); start process 0 first, "
        "with the same HOST:PORT, and check that the port is open"
    )


@contextlib.contextmanager
def _joining(coordinator: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"`coordinator` is {coordinator}: the processes cannot be joined ({one_line(error)})"
        ) from error


def all_devices() -> list[jax.Device]:
    """The devices of all processes, in the order of their shares of the batch."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


class BatchShare(NamedTuple):
    """The part of an endless stream of batches that one process generates.

    Attributes:
        start_step: step of the first batch.
        process_index: index of this process, from 0.
        process_count: number of processes; each generates an equal number of rows of every batch.
    """

    start_step: int = 0
    process_index: int = 0
    process_count: int = 1

    def rows(self, batch_size: int) -> range:
        """The rows of a batch that belong to this process.

        Raises:
            InputError: `batch_size` is not a positive multiple of the number of processes, or `process_index` is not
                below that number.
        """
        if batch_size < 1 or batch_size % self.process_count:
            raise InputError(
                f"`batch_size` is {batch_size}; it must be a positive multiple of the number of processes, "
                f"{self.process_count}"
            )
        if not 0 <= self.process_index < self.process_count:
            raise InputError(
                f"`process_index` is {self.process_index}; it must be at least 0 and below the number of processes, "
                f"{self.process_count}"
            )
        rows = batch_size // self.process_count
        return range(self.process_index * rows, (self.process_index + 1) * rows)


def filled_up(examples: np.ndarray | jax.Array, count: int) -> np.ndarray:
    """Pad `examples` [n, ...] to `count` by repeating the last, so that one compiled program serves all n."""
    return np.concatenate([examples, np.repeat(examples[-1:], count - len(examples), axis=0)])


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Copy the arrays of `tree` to each of this process's devices."""
    return jax.device_put(tree, NamedSharding(_local_mesh(devices), PartitionSpec()), may_alias=False)


def shard(batch: Tree, share: int, devices: Sequence[jax.Device]) -> Tree:
    """Split this process's `share` of a batch over its devices: [share, ...] becomes [d, share / d, ...].

    Raises:
        ValueError: an array of the batch does not have `share` examples.
    """
    mesh = _local_mesh(devices)
    sizes = {x.shape[0] for x in jax.tree.leaves(batch)}
    if sizes != {share}:
        raise ValueError(f"a batch of {sorted(sizes)} examples; this process's share is {share}")
    split = jax.tree.map(lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), batch)
    return jax.device_put(split, NamedSharding(mesh, PartitionSpec(AXIS)))


def host_copy(tree: Tree) -> Tree:
    """Copy replicated arrays to the host, as NumPy arrays that own their memory."""
    return jax.tree.map(np.array, tree)  # np.asarray would share memory that the next step's donation reuses


def single_copy(tree: Tree) -> Tree:
    """Copy replicated arrays to this process's default device."""
    return jax.tree.map(jnp.asarray, host_copy(tree))


def from_process_0(work: Callable[[], Result], like: Result) -> Result:
    """Run `work` on process 0 alone and return its result, a tree of the same structure as `like`, on every process.

    Raises:
        Exception: on process 0, whatever `work` raised.
        TrainingError: on the other processes in that case, so that they exit instead of waiting.
    """
    if jax.process_count() == 1:
        return work()
    result, error = like, None
    if jax.process_index() == 0:
        try:
            result = work()
        except Exception as raised:
            error = raised
    failed = bool(multihost_utils.broadcast_one_to_all(np.int32(error is not None)))
    if error is not None:
        raise error
    if failed:
        raise TrainingError("process 0 failed; its output says why")
    received: Any = jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(result))
    if isinstance(like, int):
        received = int(received)
    return received


def largest_of_all(value: int) -> int:
    """The largest `value` among the processes."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def _local_mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh([device for device in devices if device.process_index == jax.process_index()], (AXIS,))

"""One training step on all devices of all hosts: a module and an objective in, a compiled step out.

The step is mapped over the batch with `jax.pmap`; the state is one copy of everything, the same on each device.
Gradients, metrics and batch statistics are averaged over the devices inside of the step, and each example draws
from its own random key, so that N devices compute what one device would. Nothing else places arrays on devices.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key

from vidcomp_jax.devices import AXIS, mean_over_devices
from vidcomp_jax.errors import InputError
from vidcomp_jax.nn.layers import Constant


class TrainingError(InputError):
    """Training cannot go on, for example because a loss is not finite."""


class TrainState(NamedTuple):
    """Everything that training changes, as plain dicts of arrays.

    Attributes:
        step: number of steps done.
        params: the module's `nnx.Param`s.
        batch_stats: its `nnx.BatchStat`s.
        opt_state: what `tx.init(params)` returned, updated.
    """

    step: Int[Array, ""]
    params: dict
    batch_stats: dict
    opt_state: Any


Tree = TypeVar("Tree")
Result = TypeVar("Result")
Batch = Any
"""A tuple or NamedTuple of arrays, or one array, with the examples along the first axis."""
Metrics = dict[str, Float[Array, ""]]
Objective = Callable[[Any, Batch, Key[Array, " b"]], tuple[Float[Array, ""], Metrics]]
"""`(module, batch, keys) -> (loss, metrics)` on one device's share of the batch, with one key an example."""
DeviceStep = Callable[[Any, TrainState, dict, Batch, Key[Array, " b"]], tuple[TrainState, Metrics]]
"""`(graphdef, state, constants, batch, keys) -> (state, metrics)` on one device's share of the batch. It averages
its gradients itself (`mean_over_devices`); the counting of steps, and the averaging of metrics and batch
statistics, is done around it."""


def initialize_distributed(coordinator: str = "", num_processes: int = 0, process_id: int = -1) -> None:
    """Join the processes of a run on several hosts. Call it before anything else touches JAX.

    Without arguments the cluster's environment (Slurm, Open MPI, Cloud TPU) is asked; outside of one, nothing
    happens and the run has one process.

    Args:
        coordinator: HOST:PORT of process 0, the same for all.
        num_processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        InputError: if a coordinator is given without the other two, or they do not fit.
    """
    if coordinator:
        if num_processes < 1 or not 0 <= process_id < num_processes:
            raise InputError(
                f"coordinator {coordinator} with num_processes {num_processes} and process_id {process_id}: give the "
                "number of processes, and this one's number from 0"
            )
        if not coordinator.rpartition(":")[2].isdecimal():
            raise InputError(f"coordinator is {coordinator}; it must be the HOST:PORT of process 0")
        jax.distributed.initialize(coordinator, num_processes, process_id)
        return
    if num_processes or process_id >= 0:
        raise InputError(
            f"num_processes is {num_processes} and process_id {process_id}, but there is no coordinator; give "
            "--coordinator=HOST:PORT of process 0 as well"
        )
    try:
        jax.distributed.initialize()
    except ValueError as error:
        if "should be defined" not in str(error):  # JAX's words for "no cluster found"
            raise


def all_devices() -> list[jax.Device]:
    """The devices of all processes, in the order of their shares of the batch."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def init_state(
    model: nnx.Module, tx: optax.GradientTransformation, devices: Sequence[jax.Device]
) -> tuple[nnx.GraphDef, dict, TrainState]:
    """Split `model` into its structure, its constants and a state at step 0, copied to each of this process's devices.

    Raises:
        ValueError: from NNX, if `model` holds variables other than `Param`, `BatchStat` and `Constant`.
    """
    graphdef, *states = nnx.split(model, nnx.Param, nnx.BatchStat, Constant)
    params, batch_stats, constants = map(nnx.to_pure_dict, states)
    state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params))
    return graphdef, replicate(constants, devices), replicate(state, devices)


def gradient_step(tx: optax.GradientTransformation, objective: Objective) -> DeviceStep:
    """One optimiser step on the gradient of `objective`; adds `loss` and `grad_norm` to its metrics."""

    def step(graphdef, state, constants, batch, keys):
        def loss_fn(params):
            model = nnx.merge(graphdef, params, state.batch_stats, constants)
            loss, metrics = objective(model, batch, keys)
            return loss, (nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), {"loss": loss, **metrics})

        grads, (batch_stats, metrics) = jax.grad(loss_fn, has_aux=True)(state.params)
        grads = mean_over_devices(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # A loss can be finite where its gradient is not, and then only the next loss would show it.
        metrics = {**metrics, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step, params, batch_stats, opt_state), metrics

    return step


def map_over_devices(graphdef: nnx.GraphDef, step: DeviceStep, devices: Sequence[jax.Device]) -> Callable:
    """Compile `step` for `devices` (those of all processes).

    Returns:
        `(state, constants, batch, key) -> (state, metrics)`. `state` is donated: use the returned one. `batch` is
        this process's share as `shard` returns it. Example j of the whole batch gets the key
        `fold_in(fold_in(key, state.step), j)`, however many devices share the batch.
    """

    def mapped(state, constants, batch, key):
        share = jax.tree.leaves(batch)[0].shape[0]
        examples = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, state.step), examples)
        new, metrics = step(graphdef, state, constants, batch, keys)
        # A mean makes floats of integers; counters move in step on all devices anyway.
        batch_stats = jax.tree.map(lambda x: x if x.dtype.kind in "iub" else mean_over_devices(x), new.batch_stats)
        return new._replace(step=state.step + 1, batch_stats=batch_stats), mean_over_devices(metrics)

    return jax.pmap(
        mapped, AXIS, in_axes=(None, None, 0, None), out_axes=(None, None), donate_argnums=0, devices=devices
    )


def make_train_step(
    graphdef: nnx.GraphDef,
    tx: optax.GradientTransformation,
    objective: Objective,
    devices: Sequence[jax.Device],
) -> Callable:
    """The compiled step of `gradient_step(tx, objective)`; see `map_over_devices`."""
    return map_over_devices(graphdef, gradient_step(tx, objective), devices)


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """Copy the arrays of `tree` to each of this process's devices."""
    return jax.device_put(tree, NamedSharding(_local_mesh(devices), PartitionSpec()), may_alias=False)


def shard(batch: Batch, share: int, devices: Sequence[jax.Device]) -> Batch:
    """Split this process's `share` of a batch over its devices: [share, ...] on the host to [d, share / d, ...]."""
    mesh = _local_mesh(devices)
    sizes = {x.shape[0] for x in jax.tree.leaves(batch)}
    if sizes != {share}:
        raise ValueError(f"a batch of {sorted(sizes)} examples; this process's share is {share}")
    split = jax.tree.map(lambda x: x.reshape(mesh.size, -1, *x.shape[1:]), batch)
    return jax.device_put(split, NamedSharding(mesh, PartitionSpec(AXIS)))


def host_copy(tree: Tree) -> Tree:
    """Copy replicated arrays to the host, as NumPy arrays of their own memory."""
    return jax.tree.map(np.array, tree)  # np.asarray would share memory that the next step's donation reuses


def single_copy(tree: Tree) -> Tree:
    """Copy replicated arrays to this process's default device."""
    return jax.tree.map(jnp.asarray, host_copy(tree))


def from_process_0(work: Callable[[], Result], like: Result) -> Result:
    """Run `work` on process 0 alone and return its result, a tree shaped as `like`, on every process.

    Raises:
        Exception: on process 0, what `work` raised.
        TrainingError: on the others, if it raised, so that they end too instead of waiting.
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
    result = jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(result))
    return int(result) if isinstance(like, int) else result


def largest_of_all(value: int) -> int:
    """The largest `value` among the processes."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def _local_mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh([device for device in devices if device.process_index == jax.process_index()], (AXIS,))

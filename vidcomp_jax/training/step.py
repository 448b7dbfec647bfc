"""One training step on all devices of all hosts.

Input: a module and an objective. Output: the compiled step.

The step is mapped over the batch with `jax.pmap`; the state is one copy of everything, the same on each device.
Gradients, metrics and batch statistics are averaged over the devices inside of the step, and each example draws
from its own random key, so that N devices compute what one device would.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from vidcomp_jax.devices import AXIS, mean_over_devices, replicate
from vidcomp_jax.nn.layers import Constant


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


Batch = Any
"""A tuple or NamedTuple of arrays, or one array, with the examples along the first axis."""
Metrics = dict[str, Float[Array, ""]]
Objective = Callable[[Any, Batch, Key[Array, " b"]], tuple[Float[Array, ""], Metrics]]
"""`(module, batch, keys) -> (loss, metrics)` on one device's share of the batch, with one key an example."""
DeviceStep = Callable[[Any, TrainState, dict, Batch, Key[Array, " b"]], tuple[TrainState, Metrics]]
"""`(graphdef, state, constants, batch, keys) -> (state, metrics)` on one device's share of the batch. It averages
its gradients itself (`mean_over_devices`); the counting of steps, and the averaging of metrics and batch
statistics, is done around it."""


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
    """One optimizer step on the gradient of `objective`; adds `loss` and `grad_norm` to its metrics."""

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
        this process's share as `vidcomp_jax.devices.shard` returns it. Example j of the whole batch gets the key
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

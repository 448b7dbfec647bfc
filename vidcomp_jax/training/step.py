"""One training step on all devices of all hosts.

Input: a module and an objective. Output: the compiled step.

`jax.pmap` maps the step over shares of the batch, and each device holds an identical copy of the state. Gradients,
metrics and batch statistics are averaged over the devices within the step, and each example has its own random key,
so that N devices compute what one device would.
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
    """Everything that training updates, as plain pytrees of arrays.

    Attributes:
        step: number of steps completed.
        params: `nnx.Param` variables of the module.
        batch_stats: `nnx.BatchStat` variables of the module.
        opt_state: state of the optimizer, initialized by `tx.init(params)`.
    """

    step: Int[Array, ""]
    params: dict
    batch_stats: dict
    opt_state: Any


SKIPPED = "skipped"
"""Name of the metric that is 1 for a step that was skipped, and 0 for others."""

Batch = Any
"""An array, or a tuple or NamedTuple of arrays, with the examples along the first axis."""
Metrics = dict[str, Float[Array, ""]]
Objective = Callable[[Any, Batch, Key[Array, " b"]], tuple[Float[Array, ""], Metrics]]
"""`(module, batch, keys) -> (loss, metrics)` on one device's share of the batch, with one key per example."""
DeviceStep = Callable[[Any, TrainState, dict, Batch, Key[Array, " b"]], tuple[TrainState, Metrics]]
"""`(graphdef, state, constants, batch, keys) -> (state, metrics)` on one device's share of the batch. It must
average its gradients itself (`mean_over_devices`); `unmapped_step` counts the steps and averages metrics and batch
statistics."""


def init_state(
    model: nnx.Module, tx: optax.GradientTransformation, devices: Sequence[jax.Device]
) -> tuple[nnx.GraphDef, dict, TrainState]:
    """Split `model` into structure, constants and a state at step 0, both copied to all of this process's devices.

    Raises:
        ValueError: `model` has variables other than `Param`, `BatchStat` and `Constant`.
    """
    graphdef, *states = nnx.split(model, nnx.Param, nnx.BatchStat, Constant)
    # Copied, because a step overwrites the state, and so no two arrays of it may share memory as those of a model may.
    params, batch_stats, constants = (jax.tree.map(jnp.copy, nnx.to_pure_dict(x)) for x in states)
    state = TrainState(jnp.zeros((), jnp.int32), params, batch_stats, tx.init(params))
    return graphdef, replicate(constants, devices), replicate(state, devices)


def gradient_step(tx: optax.GradientTransformation, objective: Objective, *, accumulate: int = 1) -> DeviceStep:
    """A step that updates with the gradient of `objective` and adds `loss` and `grad_norm` to its metrics.

    With `accumulate`, each device computes its share of the batch in so many parts, one after another, and updates
    with the mean of their gradients; the memory is that of one part. The metrics are means as well. The parts have the
    keys of the whole batch. Batch norm normalizes each by its own statistics, and updates the running ones each time.
    """

    def step(graphdef, state, constants, batch, keys):
        def gradient(batch_stats, batch, keys):
            def loss_fn(params):
                model = nnx.merge(graphdef, params, batch_stats, constants)
                loss, metrics = objective(model, batch, keys)
                return loss, (nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), {"loss": loss, **metrics})

            grads, (batch_stats, metrics) = jax.grad(loss_fn, has_aux=True)(state.params)
            return batch_stats, grads, metrics

        if accumulate == 1:
            batch_stats, grads, metrics = gradient(state.batch_stats, batch, keys)
        else:
            batch_stats, grads, metrics = _in_parts(gradient, accumulate, state, batch, keys)
        grads = mean_over_devices(grads)
        with jax.named_scope("optimizer"):
            updates, opt_state = tx.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
        # The gradient may be non-finite although the loss is finite; the norm shows it one step earlier than the loss.
        metrics = {**metrics, "grad_norm": optax.tree.norm(grads)}
        return TrainState(state.step, params, batch_stats, opt_state), metrics

    return step


def _in_parts(gradient: Callable, count: int, state: TrainState, batch: Batch, keys: Key[Array, " b"]) -> tuple:
    """Batch statistics after all parts of the batch, and the means of their gradients and metrics."""

    def one(carry, part):
        batch_stats, grads, metrics = gradient(carry[0], *part)
        return (batch_stats, jax.tree.map(jnp.add, carry[1], grads)), metrics

    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), (batch, keys))
    none = state.batch_stats, jax.tree.map(jnp.zeros_like, state.params)
    (batch_stats, total), metrics = jax.lax.scan(one, none, parts)
    mean = jax.tree.map(lambda x: x / count, total), jax.tree.map(lambda x: x.mean(0), metrics)
    return batch_stats, *mean


def unmapped_step(graphdef: nnx.GraphDef, step: DeviceStep, *, skip_nonfinite: bool = False) -> Callable:
    """The whole step on one device's share of the batch, to be mapped over the axis `AXIS` of all devices.

    `map_over_devices` maps it with `jax.pmap`; with a mesh that has the axis `AXIS`, map it with `jax.shard_map` and
    `check_vma=False` (see `AXIS`) under `jax.jit`, which computes the same to the last bit. State, constants, key and
    metrics are the same on all devices, and the batch is split along its first axis.

    With `skip_nonfinite`, a step after which a metric, a weight, a batch statistic or the optimizer's state is not
    finite keeps the state from before it, and only counts as a step.

    Returns:
        A function `(state, constants, batch, key) -> (state, metrics)`. Example j of the whole batch gets the key
        `fold_in(fold_in(key, state.step), j)` for any number of devices.
    """

    def unmapped(state, constants, batch, key):
        share = jax.tree.leaves(batch)[0].shape[0]
        examples = jax.lax.axis_index(AXIS) * share + jnp.arange(share)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, state.step), examples)
        new, metrics = step(graphdef, state, constants, batch, keys)
        # A mean would convert integers to floats, and counters are equal on all devices anyway.
        batch_stats = jax.tree.map(lambda x: x if x.dtype.kind in "iub" else mean_over_devices(x), new.batch_stats)
        metrics = mean_over_devices(metrics)
        new = new._replace(step=state.step, batch_stats=batch_stats)
        if skip_nonfinite:
            finite = _all_finite((new, metrics))
            new = jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, state)
            metrics = {**metrics, SKIPPED: 1.0 - finite}
        return new._replace(step=state.step + 1), metrics

    return unmapped


def map_over_devices(
    graphdef: nnx.GraphDef, step: DeviceStep, devices: Sequence[jax.Device], *, skip_nonfinite: bool = False
) -> Callable:
    """Compile `step` for `devices`, which are those of all processes.

    Returns:
        A function `(state, constants, batch, key) -> (state, metrics)`, see `unmapped_step`. `state` is donated and
        must not be used again. `batch` is this process's share, as returned by `vidcomp_jax.devices.shard`.
    """
    mapped = unmapped_step(graphdef, step, skip_nonfinite=skip_nonfinite)
    return jax.pmap(
        mapped, AXIS, in_axes=(None, None, 0, None), out_axes=(None, None), donate_argnums=0, devices=devices
    )


def _all_finite(tree: Any) -> jax.Array:
    floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in floats]))


def make_train_step(
    graphdef: nnx.GraphDef,
    tx: optax.GradientTransformation,
    objective: Objective,
    devices: Sequence[jax.Device],
) -> Callable:
    """Compile the step `gradient_step(tx, objective)`; see `map_over_devices`."""
    return map_over_devices(graphdef, gradient_step(tx, objective), devices)

"""Steps in parts and recomputed activations take less memory and compute the same."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import train_fomm
from tests.support import toy_training
from tests.support.tiny_fomm import tiny
from vidcomp_jax import FirstOrderMotionModel, InputError
from vidcomp_jax.devices import replicate, shard
from vidcomp_jax.fomm.losses import TrainingNetworks, fomm_objective
from vidcomp_jax.nn.layers import BatchNorm
from vidcomp_jax.nn.remat import recomputed
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.loop import fit
from vidcomp_jax.training.step import gradient_step, init_state, map_over_devices


def after_steps(model, count: int, *, accumulate: int) -> tuple:
    """The state after two steps of the toy training, and the metrics of the last."""
    devices, tx = jax.devices()[:count], optax.adam(1e-2)
    graphdef, constants, state = init_state(model, tx, devices)
    step = map_over_devices(graphdef, gradient_step(tx, toy_training.objective, accumulate=accumulate), devices)
    for i in range(2):
        batch = shard(toy_training.batch_of(i), 8, devices)
        state, metrics = step(state, constants, batch, replicate(jax.random.key(3), devices))
    return jax.tree.map(np.asarray, (state, metrics))


def test_parts_equal_the_whole_where_batches_do_not_matter():
    model = toy_training.Toy()
    model.eval()  # batch norm by running statistics
    whole = after_steps(model, 1, accumulate=1)
    for devices, parts in ((1, 2), (1, 4), (2, 2)):
        for expected, found in zip(
            *map(jax.tree.leaves, (whole, after_steps(model, devices, accumulate=parts))), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_parts_move_the_statistics_of_batches_in_turn():
    state, _ = after_steps(toy_training.Toy(), 1, accumulate=4)
    assert int(state.batch_stats["norm"]["num_batches"]) == 8
    norm, model = BatchNorm(5), toy_training.Toy()
    # The first step's weights are those of the start, so its parts can be followed by hand.
    for part in np.split(toy_training.batch_of(0).inputs, 4):
        norm(model.layers[0](jnp.asarray(part) * 2.0))
    tx = optax.sgd(0.0)
    graphdef, constants, begun = init_state(model, tx, jax.devices()[:1])
    step = map_over_devices(graphdef, gradient_step(tx, toy_training.objective, accumulate=4), jax.devices()[:1])
    batch = shard(toy_training.batch_of(0), 8, jax.devices()[:1])
    after, _ = step(begun, constants, batch, jax.random.key(0))
    for name in ("mean", "var"):
        np.testing.assert_allclose(after.batch_stats["norm"][name], getattr(norm, name)[...], rtol=1e-5, atol=1e-6)


def test_numbers_of_parts_that_cannot_be(tmp_path):
    run = functools.partial(fit, toy_training.Toy(), tx=optax.sgd(0.1), batches=toy_training.batches, workdir=tmp_path)
    with pytest.raises(InputError, match="`accumulate` is 3; `batch_size`, which is 8, must be a multiple of 6"):
        run(config=TrainConfig(batch_size=8, accumulate=3), objective=toy_training.objective, devices=jax.devices()[:2])
    with pytest.raises(InputError, match="`accumulate` is 2; this training"):
        run(config=TrainConfig(batch_size=8, accumulate=2), step=lambda *_: None)
    with pytest.raises(InputError, match="accumulate"):
        TrainConfig(accumulate=0)
    assert not any(tmp_path.iterdir())


def test_recomputation_keeps_less_and_computes_the_same():
    config = tiny()
    frames = tuple(jnp.asarray(np.random.default_rng(0).uniform(size=(2, 4, 32, 32, 1)), jnp.float32))
    keys = jax.random.split(jax.random.key(0), 4)
    results, kept = [], []
    for change in (lambda networks: networks, recomputed):
        networks = change(TrainingNetworks(FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0)), config.loss))
        graphdef, *states = nnx.split(networks, nnx.Param, ...)
        params, rest = map(nnx.to_pure_dict, states)

        def loss(params, rest, graphdef=graphdef):
            networks = nnx.merge(graphdef, params, rest)
            total, _ = fomm_objective(networks, frames, keys)
            return total, nnx.to_pure_dict(nnx.state(networks, nnx.BatchStat))

        results.append(jax.jit(jax.value_and_grad(loss, has_aux=True))(params, rest))
        residuals = jax.eval_shape(lambda p, r, loss=loss: jax.vjp(lambda p: loss(p, r)[0], p)[1], params, rest)
        kept.append(sum(x.size for x in jax.tree.leaves(residuals)))
    for ours, expected in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)
    assert kept[1] < 0.7 * kept[0]


def test_a_run_with_both_needs_its_parts_to_go_on(tmp_path):
    train = dataclasses.replace(tiny().train, num_steps=2, accumulate=2)
    config = tiny(workdir=tmp_path, train=train, remat=True)
    assert train_fomm.train(config) == 0
    with pytest.raises(InputError, match=r"train.accumulate is 2 there, 1 now"):
        train_fomm.train(dataclasses.replace(config, train=dataclasses.replace(train, accumulate=1), remat=False))

"""The PyTorch side of the benchmark of flow matching is the same network and the same loss."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

from benchmarks.torch_flow import FlowTraining, OffsetNetwork
from converters.weight_map import dump_state
from tests.support.motion import statistics_of, vectors_of
from vidcomp_jax.motion.flow import FlowConfig, FlowMotion
from vidcomp_jax.motion.flow_training import flow_objective
from vidcomp_jax.motion.known import neighbors
from vidcomp_jax.motion.synthetic import turning_bodies
from vidcomp_jax.motion.vectors import measure_limits


def test_predictions_loss_and_gradient_norm_equal_those_of_pytorch():
    config = FlowConfig(width=16, num_layers=2, num_heads=2, feed_forward=24, random_known=0.0)
    clips = turning_bodies(6, 7, 3)
    motion = FlowMotion(
        config,
        3,
        num_frames=7,
        limits=measure_limits(clips.jacobian),
        statistics=statistics_of(clips),
        rngs=nnx.Rngs(0),
    )
    leaves, structure = jax.tree.flatten(nnx.state(motion.network))
    rng = np.random.default_rng(1)
    shaken = [x + 0.2 * jnp.asarray(rng.standard_normal(x.shape), x.dtype) for x in leaves]
    nnx.update(motion.network, jax.tree.unflatten(structure, shaken))
    vectors = jnp.asarray(vectors_of(clips))
    keys = jax.random.split(jax.random.key(3), 6)
    graphdef, params, rest = nnx.split(motion, nnx.Param, ...)

    @jax.jit
    def inputs(params, rest, vectors):
        motion = nnx.merge(graphdef, params, rest)
        known = jnp.zeros((6, 7), bool).at[:, jnp.array([0, -1])].set(True)
        around = neighbors(vectors, known)
        offsets, context = motion.to_offsets(vectors, around), motion.context(around, known)
        # The draws of the objective, by its own rule.
        single = jax.vmap(lambda key: jax.random.split(jax.random.split(key, 1)[0], 3))(keys)
        level = jax.nn.sigmoid(jax.vmap(lambda k: jax.random.normal(k[0], ()))(single))
        noise = jax.vmap(lambda k: jax.random.normal(k[1], offsets.shape[1:]))(single)
        return offsets, context, level, noise

    offsets, context, level, noise = inputs(params, rest, vectors)
    network = OffsetNetwork(18 + context.shape[-1], 18, 16, 2, 2, 24)
    network.load_state_dict({name: torch.from_numpy(np.array(x)) for name, x in dump_state(motion.network).items()})
    tensors = [torch.from_numpy(np.array(x)) for x in (offsets, context, level, noise)]
    loss = FlowTraining(network, 1e-3, 0.0, 0.9, "cpu").loss(*tensors)
    loss.backward()
    norm = torch.sqrt(sum(p.grad.square().sum() for p in network.parameters()))

    @jax.jit
    @jax.value_and_grad
    def objective(params, rest, vectors):
        return flow_objective(nnx.merge(graphdef, params, rest), vectors[:, None], keys)[0]

    ours, gradient = objective(params, rest, vectors)
    np.testing.assert_allclose(ours, loss.item(), rtol=1e-4)
    squares = [jnp.square(x).sum() for x in jax.tree.leaves(nnx.to_pure_dict(gradient)["network"])]
    np.testing.assert_allclose(jnp.sqrt(sum(squares)), norm.item(), rtol=1e-3)

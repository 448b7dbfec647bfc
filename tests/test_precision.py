"""In bfloat16, networks stay close to float32, keep their weights in float32, and train as well."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from experiments import train_fomm
from tests.support import golden
from tests.support.tiny_fomm import tiny
from vidcomp_jax import FirstOrderMotionModel, InputError, load_fomm
from vidcomp_jax.data import open_clips, pairs
from vidcomp_jax.fomm.discriminator import DiscriminatorConfig
from vidcomp_jax.fomm.losses import FOMMLossConfig, TrainingNetworks, fomm_objective
from vidcomp_jax.fomm.perceptual import VGG19
from vidcomp_jax.fomm.reconstruction import reconstruction_error
from vidcomp_jax.inbetween.losses import Inbetween, InbetweenLossConfig, objective
from vidcomp_jax.inbetween.networks import InbetweenConfig
from vidcomp_jax.nn.layers import freeze
from vidcomp_jax.nn.precision import in_precision
from vidcomp_jax.training.step import TrainState, gradient_step, init_state, make_train_step

INBETWEEN = InbetweenConfig(num_frames=8, frame_size=16, width=4, num_stages=1, noise_size=8, discriminator_width=2)


@pytest.mark.parametrize("name", ["tiny-gray", "kth-128"])
def test_golden_forwards_within_their_tolerance(name):
    model = golden.fomm(name)
    model.eval()
    expected = golden.arrays(f"forward-{name}")
    source, driving = (golden.images(expected[part]) for part in ("source", "driving"))
    keypoints = model.detect(source), jax.tree.map(lambda x: x[:, None], model.detect(driving))
    exact, rounded = (in_precision(model, kind).render(source, *keypoints) for kind in ("float32", "bfloat16"))

    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(rounded))
    size = source.shape[1]
    difference = jax.tree.map(lambda a, b: np.abs(a - b), exact, rounded)
    assert difference.deformation.max() * (size - 1) / 2 < 0.15, "pixels"
    assert difference.masks.max() < 0.01 and difference.occlusion_map.max() < 0.01
    assert 0 < difference.prediction.mean() < 0.01
    for a, b in zip(model.detect(driving), in_precision(model, "bfloat16").detect(driving), strict=True):
        np.testing.assert_array_equal(a, b)


def networks(*, gan: bool = False, vgg: bool = False) -> TrainingNetworks:
    config = tiny()
    fomm = dataclasses.replace(
        config.fomm, discriminator=DiscriminatorConfig(width=4, max_width=8, num_blocks=2, spectral_norm=gan)
    )
    loss = FOMMLossConfig(scales=(1.0,), generator_gan=float(gan), feature_matching=(10.0, 10.0))
    frozen = None
    if vgg:
        frozen = VGG19(rngs=nnx.Rngs(1))
        freeze(frozen)
    return TrainingNetworks(FirstOrderMotionModel(fomm, rngs=nnx.Rngs(0)), loss, frozen)


def operands(jaxpr) -> list[np.dtype]:
    """Types of the images of all convolutions, those of inner programs included."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            found.append(np.dtype(equation.invars[0].aval.dtype))
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            found += operands(inner) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize(
    "module, run, shapes, least",
    [
        (lambda: networks(gan=True, vgg=True), fomm_objective, [(4, 32, 32, 1)] * 2, 0.6),
        (
            lambda: Inbetween(INBETWEEN, rngs=nnx.Rngs(0)),
            functools.partial(objective, config=InbetweenLossConfig()),
            [(4, 8, 16, 16, 1)],
            0.9,
        ),
    ],
)
def test_convolutions_are_bfloat16_and_the_state_is_float32(module, run, shapes, least):
    tx = optax.adam(1e-3)
    batch = tuple(jnp.full(shape, 0.5) for shape in shapes)
    batch = batch if len(batch) > 1 else batch[0]
    keys = jax.random.split(jax.random.key(0), 4)
    shares = {}
    for kind in ("float32", "bfloat16"):
        graphdef, constants, state = init_state(in_precision(module(), kind), tx, jax.devices()[:1])
        one = jax.make_jaxpr(gradient_step(tx, run), static_argnums=0, return_shape=True)
        traced, (after, metrics) = one(graphdef, state, constants, batch, keys)
        types = operands(traced.jaxpr)
        shares[kind] = types.count(np.dtype(jnp.bfloat16)) / len(types)
        assert isinstance(after, TrainState)
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(metrics))
        names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)}
        shares[f"names, {kind}"] = names
    assert shares["float32"] == 0 and shares["bfloat16"] >= least
    assert shares["names, float32"] == shares["names, bfloat16"]


def test_training_in_bfloat16_is_as_good():
    config, devices = tiny(), jax.devices()[:1]
    clips = open_clips(config.data, "train")
    errors = {}
    for kind in ("float32", "bfloat16"):
        model = FirstOrderMotionModel(config.fomm, rngs=nnx.Rngs(0))
        trained = in_precision(TrainingNetworks(model, config.loss), kind)
        tx = optax.adam(5e-3)
        graphdef, constants, state = init_state(trained, tx, devices)
        step = make_train_step(graphdef, tx, fomm_objective, devices)
        stream = pairs(clips, batch_size=4, seed=0)
        for _ in range(60):
            source, driving = next(stream)
            batch = jax.tree.map(lambda x: x[None].astype(np.float32) / 255, (source, driving))
            state, _ = step(state, constants, batch, jax.random.key(0))
        nnx.update(trained, state.params, state.batch_stats)
        errors[kind] = reconstruction_error(trained.model, open_clips(config.data, "test"))
    assert errors["bfloat16"] != errors["float32"]
    assert errors["bfloat16"] < 1.05 * errors["float32"]


def test_a_run_in_bfloat16_is_a_model_for_both(tmp_path):
    config = tiny(workdir=tmp_path / "run", precision="bfloat16")
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=2))
    assert train_fomm.train(config) == 0
    with pytest.raises(InputError, match="precision is 'bfloat16' there, 'float32' now"):
        train_fomm.train(dataclasses.replace(config, precision="float32"))
    frames = jnp.full((1, 32, 32, 1), 0.5)
    exact, rounded = (load_fomm(config.workdir, precision=kind) for kind in ("float32", "bfloat16"))
    for a, b in zip(*(jax.tree.leaves(nnx.state(model)) for model in (exact, rounded)), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert exact.generator.encode(frames).dtype == jnp.float32
    assert rounded.generator.encode(frames).dtype == jnp.bfloat16

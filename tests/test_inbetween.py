"""The networks and the objective of 3D-convolution in-betweening."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from vidcomp_jax.data import ArrayClips
from vidcomp_jax.devices import shard
from vidcomp_jax.errors import InputError
from vidcomp_jax.inbetween.generation import InbetweenModel, inbetween_errors
from vidcomp_jax.inbetween.losses import (
    AdversarialLosses,
    Inbetween,
    InbetweenLossConfig,
    active_networks,
    adversarial_losses,
    draw_noise,
    gradient_difference,
    objective,
    optimizer,
    pausing,
)
from vidcomp_jax.inbetween.networks import FusionStage, InbetweenConfig, LatentVideo, fuse
from vidcomp_jax.training.step import init_state, make_train_step

TINY = InbetweenConfig(num_frames=8, frame_size=16, width=4, num_stages=1, noise_size=8, discriminator_width=2)
LOSS = InbetweenLossConfig()


def rngs():
    """Return seeds for XLA's own generator, which compiles several times faster than the default one."""
    return nnx.Rngs(jax.random.key(0, impl="rbg"))


@pytest.fixture(scope="module")
def initial():
    return nnx.split(Inbetween(TINY, rngs=rngs()))


@pytest.fixture
def model(initial):
    definition, state = initial
    return nnx.merge(definition, jax.tree.map(jnp.copy, state))


@pytest.fixture(scope="module")
def clips():
    """Clips of a bright square that crosses a gray background in eight frames, in either direction."""
    frames = np.full((4, 8, 16, 16, 1), 0.2, np.float32)
    for clip in range(4):
        for t in range(8):
            left = t + 1 if clip % 2 else 8 - t
            frames[clip, t, 3 + 2 * clip : 8 + 2 * clip, left : left + 6] = 0.9
    return frames


def keys(count):
    return jax.random.split(jax.random.key(1), count)


def count(module):
    return sum(value.size for value in jax.tree.leaves(nnx.state(module, nnx.Param)))


def test_full_configuration_has_the_published_shapes_and_sizes():
    config = InbetweenConfig()
    model = nnx.eval_shape(lambda: Inbetween(config, rngs=rngs()))
    generator = model.generator
    frame, noise = jax.ShapeDtypeStruct((2, 64, 64, 1), jnp.float32), jax.ShapeDtypeStruct((2, 128), jnp.float32)

    def shapes(definition, state, first, last, noise):
        generator = nnx.merge(definition, state)
        start, end = generator.encoder(first), generator.encoder(last)
        latent = generator.latent(start, end, noise)
        return start, latent, generator(first, last, noise)

    out = jax.eval_shape(shapes, *nnx.split(generator), frame, frame, noise)
    assert [x.shape for x in out] == [(2, 8, 8, 64), (2, 16, 8, 8, 64), (2, 16, 64, 64, 1)]
    assert [stage.num_frames for stage in generator.latent.stages] == [4] * 8 + [8] * 8 + [16] * 8
    assert count(generator.encoder) == 1_580_864
    assert count(generator.latent) == 8_050_176
    assert count(generator.decoder) == 4_736_641
    assert count(model.video_discriminator) == 11_148_097
    assert count(model.image_discriminator) == 3_713_165


def set_gates(stage: FusionStage, start: float, end: float):
    """Fix the gates of a stage at sigmoid(start) and sigmoid(end), with nothing added."""
    third = stage.mix.bias.shape[0] // 3
    stage.mix.kernel[...] = jnp.zeros_like(stage.mix.kernel[...])
    stage.mix.bias[...] = jnp.concatenate([jnp.full(third, start), jnp.full(third, end), jnp.zeros(third)])


def test_open_start_gate_makes_the_latent_video_the_start_frames():
    latent = LatentVideo(TINY, rngs=rngs())
    start, end = jax.random.uniform(jax.random.key(0), (2, 3, 2, 2, 4))
    noise = jax.random.normal(jax.random.key(1), (3, 8))
    run = jax.jit(lambda definition, state: nnx.merge(definition, state)(start, end, noise), static_argnums=0)
    for stage in latent.stages:
        set_gates(stage, 200.0, -200.0)  # 1 and 0 in float32
    expected = jnp.broadcast_to(start[:, None], (3, 8, 2, 2, 4))
    np.testing.assert_array_equal(run(*nnx.split(latent)), expected)
    for stage in latent.stages:
        set_gates(stage, -200.0, 200.0)
    np.testing.assert_array_equal(run(*nnx.split(latent))[:, 3], end)


def test_fusion_keeps_what_the_gates_leave():
    start, end, previous = jnp.full((1, 1, 1, 1), 2.0), jnp.full((1, 1, 1, 1), 4.0), jnp.full((1, 2, 1, 1, 1), 8.0)
    start_gate, end_gate = jnp.array([[[0.25], [0.75]]]), jnp.array([[[0.25], [0.5]]])
    additive = jnp.array([[[0.0], [1.0]]])
    fused = fuse(start, end, previous, start_gate, end_gate, additive)
    np.testing.assert_allclose(fused.ravel(), [0.5 + 1 + 4, 1.5 + 2 + 0 + 1])


def test_noise_makes_clips_differ_and_leaves_the_ends(model, clips):
    definition, state = nnx.split(nnx.view(model.generator, use_running_average=True))
    first, last = (jnp.asarray(clips[:1, t].repeat(3, 0)) for t in (0, -1))
    noise = draw_noise(keys(2), TINY.noise_size)[jnp.array([0, 1, 0])]
    generated = jax.jit(lambda state, *inputs: nnx.merge(definition, state)(*inputs))(state, first, last, noise)
    np.testing.assert_array_equal(generated[:, 0], first)
    np.testing.assert_array_equal(generated[:, -1], last)
    assert abs(generated[0, 1:-1] - generated[1, 1:-1]).mean() > 1e-3
    np.testing.assert_allclose(generated[2], generated[0], atol=1e-6)
    assert generated.min() >= 0 and generated.max() <= 1


class Judge(nnx.Module):
    def __init__(self):
        self.weight = nnx.Param(jnp.full(3, 0.5))

    def __call__(self, x):
        return x @ self.weight[...]


def test_each_loss_reaches_its_own_network_only():
    real, generated = jax.random.normal(jax.random.key(0), (2, 4, 3))
    definition, state = nnx.split(Judge())

    @jax.jit
    def gradients(state, generated):
        return jax.jacrev(
            lambda state, generated: adversarial_losses(nnx.merge(definition, state), real, generated), (0, 1)
        )(state, generated)

    by_loss = gradients(nnx.to_pure_dict(state), generated)
    for term, trains_discriminator in (("real", True), ("fake", True), ("generator", False)):
        own, others = getattr(by_loss, term)
        assert bool(abs(own["weight"]).max() > 0) == trains_discriminator
        assert bool(abs(others).max() > 0) != trains_discriminator


@pytest.mark.parametrize(
    ("video", "image", "expected"),
    [
        ((0.6, 0.6), (0.6, 0.6), (1, 1, 1)),  # neither discriminator is ahead
        ((0.2, 0.6), (0.6, 0.6), (1, 0, 1)),  # the video discriminator is ahead and pauses
        ((0.6, 0.6), (0.6, 0.8), (0, 1, 1)),  # the image discriminator is behind, so the generator pauses
        ((0.2, 0.6), (0.8, 0.6), (0, 0, 1)),
        ((0.2, 0.8), (0.1, 0.1), (1, 1, 1)),  # all would pause, so none does
    ],
)
def test_margin_decides_who_moves(video, image, expected):
    losses = [AdversarialLosses(jnp.float32(real), jnp.float32(fake), jnp.float32(0)) for real, fake in (video, image)]
    assert tuple(map(int, active_networks(*losses, 0.3))) == expected


def test_paused_network_keeps_its_weights_and_moments():
    parameters = {name: {"w": jnp.ones(2)} for name in ("generator", "video_discriminator", "image_discriminator")}
    tx = optimizer(LOSS)
    gradients = jax.tree.map(jnp.ones_like, parameters)
    _, state = tx.update(gradients, tx.init(parameters), parameters)
    updates, after = tx.update(gradients | {"video_discriminator": {"w": jnp.zeros(2)}}, state, parameters)
    np.testing.assert_array_equal(updates["video_discriminator"]["w"], 0)
    assert (updates["generator"]["w"] != 0).all()
    same = jax.tree.map(lambda a, b: bool((a == b).all()), state.inner_states, after.inner_states)
    assert all(jax.tree.leaves(same["video_discriminator"]))
    assert not any(jax.tree.leaves(same["generator"]))
    # Without the pause, Adam would continue to move by its first moment.
    moved, _ = optax.adam(1e-4).update(jnp.zeros(2), optax.adam(1e-4).update(jnp.ones(2), optax.adam(1e-4).init(0))[1])
    assert (moved != 0).all()


def test_pausing_lets_non_finite_gradients_through():
    tx = pausing(optax.sgd(1.0))
    updates, _ = tx.update(jnp.array([jnp.nan, 0.0]), tx.init(jnp.zeros(2)))
    assert jnp.isnan(updates[0])


def test_gradient_difference_sees_edges_and_not_brightness():
    ramp = jnp.arange(4.0)[None, None, None, :, None] * jnp.ones((1, 1, 3, 1, 1))
    assert gradient_difference(ramp, ramp + 5) == 0
    assert gradient_difference(ramp, 3 * ramp) == 2


def take_steps(model, tx, devices, clips, num_steps, config=LOSS):
    definition, constants, state = init_state(model, tx, devices)
    step = make_train_step(definition, tx, functools.partial(objective, config=config), devices)
    history = []
    for _ in range(num_steps):
        state, metrics = step(state, constants, shard(clips, len(clips), devices), jax.random.key(3))
        history.append({name: float(value) for name, value in metrics.items()})
    return jax.tree.map(np.asarray, state), history


def test_two_devices_equal_one(model, initial, clips):
    # With nonzero heads, the discriminators' losses, and thus the pauses, differ from the first step on.
    for discriminator in (model.video_discriminator, model.image_discriminator):
        kernel = discriminator.head.kernel
        kernel[...] = jax.random.normal(jax.random.key(5), kernel.shape) * 0.1
    tx = optax.sgd(0.05)
    definition, state = nnx.split(model)
    copies = [nnx.merge(definition, jax.tree.map(jnp.copy, state)) for _ in range(2)]
    one, first = take_steps(copies[0], tx, jax.devices()[:1], clips, 2)
    two, second = take_steps(copies[1], tx, jax.devices()[:2], clips, 2)
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, abs=2e-5, rel=1e-4)
    assert {first[0][f"active_{name}"] for name in ("generator", "video_discriminator")} <= {0.0, 1.0}
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    for a, b in zip(jax.tree.leaves(one.batch_stats), jax.tree.leaves(two.batch_stats), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_learns_a_batch_by_heart(model, clips):
    config = InbetweenLossConfig(learning_rate=0.01, adversarial_weight=0.0, gradient_weight=0.1)
    _, history = take_steps(model, optimizer(config), jax.devices()[:1], clips, 240, config)
    blend = np.linspace(0, 1, 8, dtype=np.float32)[None, 1:-1, None, None, None]
    blended = clips[:, :1] * (1 - blend) + clips[:, -1:] * blend
    assert history[-1]["l1"] < 0.35 * abs(blended - clips[:, 1:-1]).mean()
    assert all(np.isfinite(list(metrics.values())).all() for metrics in history)


def test_recomputing_activations_changes_no_number_and_keeps_less(clips):
    """Checks the forward pass of all networks and the residuals it stores; the backward pass is not compiled."""
    results, kept, clips = [], [], jnp.asarray(clips)
    for remat in (False, True):
        config = dataclasses.replace(TINY, remat=remat)
        definition, params, stats = nnx.split(Inbetween(config, rngs=rngs()), nnx.Param, nnx.BatchStat)
        params, stats = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)

        def run(params, stats, clips, definition=definition):
            model = nnx.merge(definition, params, stats)
            loss, _ = objective(model, clips, keys(4), config=LOSS)
            return loss, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        results.append(jax.jit(run)(params, stats, clips))
        _, backward, _ = jax.eval_shape(
            lambda params, stats, run=run: jax.vjp(lambda params: run(params, stats, clips), params, has_aux=True),
            params,
            stats,
        )
        kept.append(sum(leaf.size for leaf in jax.tree.leaves(backward)))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    moved = results[1][1]["generator"]["decoder"]["blocks"][0]["norm"]["mean"]
    assert abs(moved).max() > 0  # the running statistics are updated in the recomputed part
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 14}, "`num_frames` is 14; it must be a multiple of 4"),
        ({"num_frames": 0}, "`num_frames` is 0; it must be at least 1"),
        ({"frame_size": 72}, "`frame_size` is 72; it must be a positive multiple of 16"),
        ({"num_channels": 2}, "`num_channels` is 2; it must be 1 or 3"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        InbetweenConfig(**options)


def test_impossible_loss_options_are_refused():
    with pytest.raises(InputError, match=r"`margin` is 0\.5; it must be at least 0 and below 0\.5"):
        InbetweenLossConfig(margin=0.5)
    with pytest.raises(InputError, match=r"`learning_rate` is 0\.0; it must be above 0"):
        InbetweenLossConfig(learning_rate=0.0)


def test_frames_that_eight_does_not_divide_are_refused(model):
    frame = jnp.zeros((1, 20, 16, 1))
    with pytest.raises(InputError, match=r"that 8 divides, found \(20, 16\)"):
        model.generator(frame, frame, jnp.zeros((1, 8)))


def test_errors_are_measured_on_clips_spread_over_all(model):
    frames = np.zeros((9 * 8, 16, 16, 1), np.uint8)
    frames[-7:] = 255  # only the last clip has any motion
    trained = InbetweenModel(model.generator, TINY)
    errors = inbetween_errors(trained, ArrayClips(frames, [8] * 9), max_clips=3)
    assert errors["l1_first_frame"] == pytest.approx(1 / 3)

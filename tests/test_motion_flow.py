"""Flow matching over keypoint motion: what an untrained and a trained model draw, and that training is what it says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tests.support.motion import CPUS, statistics_of, straight_lines, trained, training, two_ways, windows_of
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion import flow_training
from vidcomp_jax.motion.evaluation import draw_samples
from vidcomp_jax.motion.fill import fill
from vidcomp_jax.motion.flow import FlowConfig, FlowMotion
from vidcomp_jax.motion.flow_training import draw_known, flow_objective, flow_optimizer, flow_step
from vidcomp_jax.motion.linear import LinearMotion, interpolate
from vidcomp_jax.motion.synthetic import turning_bodies
from vidcomp_jax.motion.vectors import measure_limits, measure_statistics
from vidcomp_jax.storage.arrays import read_arrays
from vidcomp_jax.training.config import TrainConfig
from vidcomp_jax.training.loop import fit

SMALL = FlowConfig(width=16, num_layers=1, num_heads=2, feed_forward=32, warmup_steps=5, decay_steps=300)
LINES = straight_lines(64)
WAYS = two_ways(32)


def model_of(motion: Keypoints, config: FlowConfig = SMALL) -> FlowMotion:
    num_keypoints, num_frames = motion.position.shape[2], motion.position.shape[1]
    return FlowMotion(
        config,
        num_keypoints,
        num_frames=num_frames,
        limits=measure_limits(motion.jacobian),
        statistics=statistics_of(motion),
        rngs=nnx.Rngs(0),
    )


def learned(motion: Keypoints, config: FlowConfig, num_steps: int) -> FlowMotion:
    tx = flow_optimizer(config)
    batches = windows_of(motion, motion.position.shape[1], batch_size=32, seed=0)()
    return trained(model_of(motion, config), tx, flow_step(config, tx), batches, num_steps)[0]


def shaken(motion: FlowMotion) -> FlowMotion:
    """The model with random weights in place of the zeros that make it a straight line."""
    state = nnx.state(motion, nnx.BatchStat)
    keys = iter(jax.random.split(jax.random.key(7), 999))
    average = jax.tree.map(
        lambda x: x + 0.2 * jax.random.normal(next(keys), x.shape), nnx.to_pure_dict(state)["average"]
    )
    nnx.update(motion, nnx.State({"average": average}))
    return motion


@pytest.fixture(scope="module")
def ways():
    """A model that was trained on motion that goes one of two ways."""
    config = FlowConfig(width=32, num_layers=2, num_heads=2, feed_forward=64, warmup_steps=20, decay_steps=400)
    return learned(two_ways(256), config, 400)


@pytest.mark.parametrize("baseline", ["line", "none"])
def test_an_untrained_model_draws_the_straight_line_or_the_mean(baseline):
    motion = model_of(LINES, dataclasses.replace(SMALL, baseline=baseline))
    known, times = Keypoints(*(x[:4, [0, 3, 7]] for x in LINES)), (0, 3, 7)
    found = fill(motion, known, times, 8, jax.random.split(jax.random.key(0), 4))
    if baseline == "line":
        expected = interpolate(known, np.array(times), 8)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    else:
        np.testing.assert_allclose(found.position[:, 1], LINES.position.mean((0, 1))[None].repeat(4, 0), atol=1e-5)


@pytest.mark.parametrize("times", [(0, 7), (2, 5), (0, 1, 2, 6), tuple(range(8))])
@pytest.mark.parametrize("baseline", ["line", "none"])
def test_known_keypoints_are_kept_exactly_and_others_are_drawn(times, baseline):
    motion = shaken(model_of(WAYS, dataclasses.replace(SMALL, baseline=baseline)))
    known = Keypoints(*(x[:3, list(times)] for x in WAYS))
    draws = [fill(motion, known, times, 8, jax.random.split(jax.random.key(seed), 3)) for seed in (0, 0, 1)]
    unknown = np.setdiff1d(np.arange(8), times)
    for x, again, given in zip(*draws[:2], known, strict=True):
        np.testing.assert_array_equal(x[:, list(times)], given)
        np.testing.assert_array_equal(x, again)
    if len(unknown):
        assert np.abs(draws[0].position - draws[2].position)[:, unknown].max() > 1e-2


def test_one_sample_does_not_depend_on_the_others_of_a_batch():
    motion = shaken(model_of(WAYS))
    known, keys = Keypoints(*(x[:4, [0, 7]] for x in WAYS)), jax.random.split(jax.random.key(3), 4)
    together = fill(motion, known, (0, 7), 8, keys)
    alone = fill(motion, Keypoints(*(x[2:3] for x in known)), (0, 7), 8, keys[2:3])
    np.testing.assert_allclose(together.position[2:3], alone.position, atol=1e-5)


@pytest.mark.parametrize("num_frames", [2, 3, 5])
def test_shorter_sequences_are_the_first_part_of_a_window(num_frames):
    motion = shaken(model_of(WAYS))
    known, keys = Keypoints(*(x[:3, [0, num_frames - 1]] for x in WAYS)), jax.random.split(jax.random.key(3), 3)
    short = fill(motion, known, (0, num_frames - 1), num_frames, keys)
    whole = fill(motion, known, (0, num_frames - 1), 8, keys)
    np.testing.assert_allclose(short.position, whole.position[:, :num_frames], atol=1e-6)


def test_long_sequences_have_no_jumps_where_pieces_meet(ways):
    ends = Keypoints(*(x[:6, [0, -1]] for x in two_ways(6, seed=1)))
    steps = {}
    for num_frames in (8, 29):
        keys = jax.random.split(jax.random.key(0), 6)
        position = np.asarray(fill(ways, ends, (0, num_frames - 1), num_frames, keys).position)
        np.testing.assert_array_equal(position[:, [0, -1]], ends.position)
        steps[num_frames] = np.linalg.norm(np.diff(position, axis=1), axis=-1).max()
    # Four times as many frames: the largest step shrinks to about a quarter, and a jump would not shrink.
    assert steps[29] < 0.6 * steps[8], steps


def test_samples_go_both_ways(ways):
    truth = two_ways(40, seed=2)
    samples = draw_samples(ways, truth, num_samples=5)
    heights = samples[:, :, 1:-1, 0, 1].mean(-1)
    share = (heights > 0).mean()
    assert 0.3 < share < 0.7, share
    # Almost every sample is on one of the two half circles; their mean, the straight line, is 0.6 away from both.
    distance = np.abs(np.linalg.norm(samples[:, :, 1:-1, 0], axis=-1) - 0.6).mean((-1,))
    assert np.median(distance) < 0.1 and (distance < 0.2).mean() > 0.8, np.sort(distance.ravel())[-20:]


def test_straight_motion_stays_straight_after_training():
    motion, held_out = learned(LINES, SMALL, 60), straight_lines(8, seed=1)
    found = draw_samples(motion, held_out, num_samples=2)
    np.testing.assert_allclose(found, np.repeat(held_out.position[:, None], 2, 1), atol=1e-3)


def test_training_on_two_devices_is_training_on_one():
    # AdamW would magnify rounding errors where gradients are almost zero.
    motion, tx = turning_bodies(32, 8, 2), optax.sgd(1e-2)
    results = []
    for devices in (CPUS[:1], CPUS[:2]):
        batches = windows_of(motion, 8, batch_size=8, seed=0)()
        model, metrics = trained(model_of(motion), tx, flow_step(SMALL, tx), batches, 3, devices)
        results.append((jax.tree.leaves(nnx.state(model)), metrics))
    for a, b in zip(*(leaves for leaves, _ in results), strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6)
    for a, b in zip(*(metrics for _, metrics in results), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_a_resumed_run_is_the_uninterrupted_one_and_the_average_is_saved(tmp_path):
    motion, tx = two_ways(16), flow_optimizer(SMALL)
    windows = windows_of(motion, 8)

    def run(name, num_steps):
        config = TrainConfig(num_steps=num_steps, batch_size=4, log_every=2)
        fit(
            model_of(motion),
            tx=tx,
            step=flow_step(SMALL, tx),
            batches=lambda share: windows(batch_size=4, seed=0, share=share),
            config=config,
            workdir=tmp_path / name,
            devices=CPUS[:2],
        )

    run("whole", 4)
    run("parts", 2)
    run("parts", 4)
    whole, parts = (read_arrays(tmp_path / name / "checkpoints" / "4" / "arrays") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name], err_msg=name)
    weight, average = (whole[f"{kind}.transformer.embed.kernel"] for kind in ("params.network", "batch_stats.average"))
    assert 0 < np.abs(weight - average).max() < 0.1


def test_the_average_is_that_of_the_weights_of_all_steps():
    motion, tx = turning_bodies(64, 8, 2), flow_optimizer(SMALL)

    def kernel(weights):
        return np.array(weights["transformer"]["embed"]["kernel"])

    average = kernel(nnx.to_pure_dict(nnx.state(model_of(motion).network)))
    batches = windows_of(motion, 8, batch_size=32, seed=0)()
    steps = training(model_of(motion), tx, flow_step(SMALL, tx), batches)
    for num_steps, (state, _) in zip(range(1, 4), steps, strict=False):
        decay = min(SMALL.average_decay, num_steps / (9 + num_steps))
        average = decay * average + (1 - decay) * kernel(state.params["network"])
        np.testing.assert_allclose(kernel(state.batch_stats["average"]), average, atol=1e-6)


def test_which_frames_are_known_follows_the_stated_odds():
    draw = jax.jit(jax.vmap(draw_known, (0, None, None)), static_argnums=(1, 2))
    masks = np.asarray(draw(jax.random.split(jax.random.key(0), 4000), 8, 0.4))
    counts = masks.sum(1)
    ends = np.zeros(8, bool)
    ends[[0, -1]] = True
    only_ends = (masks == ends).all(1)
    assert abs(only_ends.mean() - 0.6) < 0.03
    assert counts.min() == 2 and counts.max() == 6  # up to half of the frames, and the two ends
    others = masks[~only_ends]
    assert 0.87 < (others[:, 0] & others[:, -1]).mean() < 0.95  # nine of ten, and some by chance
    assert others[:, 1:-1].mean(0).min() > 0.25 and np.ptp(others[:, 1:-1].mean(0)) < 0.08
    assert (draw(jax.random.split(jax.random.key(0), 4000), 8, 0.0) == ends).all()


@pytest.mark.parametrize("predict", ["offset", "velocity"])
def test_the_objective_is_the_error_over_unknown_frames(predict, monkeypatch):
    config = dataclasses.replace(SMALL, random_known=0.0, difference_weight=0.5, predict=predict)
    motion = model_of(two_ways(16), config)
    batch = jnp.asarray(next(windows_of(two_ways(16), 8, batch_size=4, seed=0)()))
    keys = jax.random.split(jax.random.key(0), 4)
    graphdef, state = nnx.split(motion)
    objective = jax.jit(lambda state: flow_objective(nnx.merge(graphdef, state), batch, keys))
    loss, metrics = objective(state)
    # Before training the network predicts zero: for `offset`, the error is the offset itself.
    if predict == "offset":
        vectors = np.asarray(batch)[:, 0]
        line = np.linspace(0, 1, 8)[:, None] * (vectors[:, -1:] - vectors[:, :1]) + vectors[:, :1]
        offsets = (vectors - line)[:, 1:-1] / np.asarray(motion.spread[...])[-1]
        np.testing.assert_allclose(metrics["offset_mse"], np.square(offsets).mean(), rtol=1e-4)
        padded = np.pad(offsets, ((0, 0), (1, 1), (0, 0)))
        difference = np.square(np.diff(padded, axis=1)).sum(1).mean() / 6  # per unknown frame
        np.testing.assert_allclose(metrics["difference_mse"], difference, rtol=1e-4)
        np.testing.assert_allclose(loss, metrics["offset_mse"] + 0.5 * metrics["difference_mse"], rtol=1e-5)
    assert np.isfinite(loss)
    # In a window of up to four frames, all may be known.
    monkeypatch.setattr(flow_training, "draw_known", lambda key, num_frames, share: jnp.ones(num_frames, bool))
    assert flow_objective(motion, batch, keys)[0] == 0


def test_statistics_are_those_of_a_brownian_path():
    """Between two frames that are g apart, a Brownian path has variance i (g - i) / g at frame i, and d over time d."""
    rng = np.random.default_rng(0)
    paths = rng.normal(size=(2000, 9, 3)).cumsum(1).astype(np.float32)
    found = measure_statistics(paths.reshape(-1, 3), np.arange(2000) * 9, 9)
    for gap in range(2, 9):
        i = np.arange(1, gap)
        np.testing.assert_allclose(found.spread[gap], np.sqrt((i * (gap - i) / gap).mean()), rtol=0.05)
    for distance in range(1, 9):
        np.testing.assert_allclose(found.drift[distance], np.sqrt(distance), rtol=0.05)
    np.testing.assert_allclose(found.mean, paths.mean((0, 1)), atol=1e-4)
    np.testing.assert_allclose(found.deviation, paths.std((0, 1)), rtol=1e-4)
    still = measure_statistics(np.ones((18, 3), np.float32), np.array([0, 9]), 9)
    assert min(map(float, (still.spread.min(), still.drift.min(), still.deviation.min()))) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": 20, "num_heads": 4}, "`width` is 20; it must be an even multiple of `num_heads`"),
        ({"decay_steps": 100}, "`decay_steps` is 100; it must be above `warmup_steps`, 100"),
        ({"random_known": 1.5}, r"`random_known` is 1.5; it must be in \[0, 1\]"),
        ({"sampler_steps": 0}, "`sampler_steps` is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, "`learning_rate` is 0.0; it must be above 0"),
        ({"average_decay": 1.0}, "`average_decay` is 1.0"),
    ],
)
def test_wrong_settings_get_one_line(changes, says):
    with pytest.raises(InputError, match=says):
        FlowConfig(**changes)


def test_the_baseline_of_all_models_is_exact_on_straight_motion():
    found = draw_samples(LinearMotion(), LINES)
    np.testing.assert_allclose(found[:, 0], LINES.position, atol=1e-6)

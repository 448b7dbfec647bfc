"""The autoregressive model against golden values: one prediction, both rollouts, and how they are joined."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from converters.weight_map import load_state
from tests.support import golden
from tools.make_checkpoint import recipe_state
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.autoregressive import (
    AutoregressiveConfig,
    AutoregressiveMotion,
    NextFrame,
    next_frame_objective,
)
from vidcomp_jax.motion.fill import fill
from vidcomp_jax.motion.motion_file import MotionClips, sorted_frames
from vidcomp_jax.motion.vectors import measure_limits, to_keypoints, to_vectors

VALUES = golden.arrays("motion-autoregressive")
MOTION = jnp.asarray(VALUES["motion"])


def recipe_motion() -> AutoregressiveMotion:
    motion = AutoregressiveMotion(AutoregressiveConfig(share_directions=True), 10, rngs=nnx.Rngs(0))
    load_state(motion.model, recipe_state("autoregressive")["model"])
    return motion


def test_prediction_after_fifteen_frames():
    out = nnx.jit(lambda motion, x: motion.model(x, x[:, 0]))(recipe_motion(), MOTION[:, :15])
    np.testing.assert_allclose(out[:, -1:], VALUES["next_after_15"], atol=1e-5)


def test_roll_outs_and_meeting_frame():
    joined = recipe_motion().join(MOTION[:, 0], MOTION[:, -1], 16)
    np.testing.assert_allclose(joined.forward, VALUES["forward"], atol=1e-4)
    np.testing.assert_allclose(joined.backward, VALUES["backward"], atol=1e-4)
    np.testing.assert_allclose(joined.distance, VALUES["frame_mse"], atol=1e-4)
    np.testing.assert_array_equal(joined.meeting_frame, VALUES["meeting_frame"])
    for clip, meeting in enumerate(VALUES["meeting_frame"]):
        np.testing.assert_allclose(joined.vectors[clip, :meeting], VALUES["forward"][clip, :meeting], atol=1e-4)
        np.testing.assert_allclose(joined.vectors[clip, meeting:], VALUES["backward"][clip, meeting:], atol=1e-4)


def test_ends_are_kept_exactly():
    motion, (key,) = recipe_motion(), jax.random.split(jax.random.key(0), 1)
    first, last = (
        Keypoints(jax.random.normal(k, (3, 10, 2)), jax.random.normal(k, (3, 10, 2, 2))) for k in jax.random.split(key)
    )
    for num_frames in (2, 3, 16):
        known = Keypoints(*(jnp.stack(x, 1) for x in zip(first, last, strict=True)))
        out = fill(motion, known, (0, num_frames - 1), num_frames, jax.random.split(key, 3))
        assert out.position.shape == (3, num_frames, 10, 2)
        for part, a, b in zip(out, first, last, strict=True):
            np.testing.assert_array_equal(part[:, 0], a)
            np.testing.assert_array_equal(part[:, -1], b)


class OneMore(NextFrame):
    """Predicts that every component increases by one."""

    def __init__(self):
        """No weights."""

    def __call__(self, vectors, far_end):
        return vectors + 1


def test_objective_is_the_error_of_both_directions_of_time():
    motion = recipe_motion()
    motion.model = OneMore()
    counting = jnp.arange(5.0)[:, None] * jnp.ones(60)  # each frame increases by one
    batch = jnp.stack([counting, counting + 3])[:, None]
    loss, metrics = next_frame_objective(motion, batch, jax.random.split(jax.random.key(0), 2))
    # The prediction is exact forward in time, and off by two backward, where the values decrease.
    assert (float(loss), float(metrics["next_frame_mse"])) == (2.0, 2.0)
    assert float(metrics["copy_last_mse"]) == 1.0


def test_video_completion_predicts_the_last_frame_from_those_before():
    config = AutoregressiveConfig(hidden=4, variant="video-completion")
    assert (config.share_directions, config.order) == (True, "jacobian-first")
    motion = AutoregressiveMotion(config, 10, rngs=nnx.Rngs(0))
    assert motion.scaling.lower.shape == (40,)
    vectors = jax.random.normal(jax.random.key(0), (3, 1, 7, 60))
    loss, _ = next_frame_objective(motion, vectors, jax.random.split(jax.random.key(0), 3))
    predicted = motion.model.roll_out(vectors[:, 0, 0], vectors[:, 0, 0], 2)[:, 1]
    two, _ = next_frame_objective(motion, vectors[:, :, :2], jax.random.split(jax.random.key(0), 3))
    np.testing.assert_allclose(two, jnp.square(predicted - vectors[:, 0, 1]).mean(), rtol=1e-5)
    last = motion.model(vectors[:, 0, :-1], vectors[:, 0, 0])[:, -1]
    np.testing.assert_allclose(loss, jnp.square(last - vectors[:, 0, -1]).mean(), rtol=1e-5)


def test_random_frames_are_in_order_and_of_one_quarter():
    lengths = np.array([40, 9, 5])
    keypoints = Keypoints(np.zeros((54, 1, 2), np.float32), np.zeros((54, 1, 2, 2), np.float32))
    clips = MotionClips(("a", "b", "c"), lengths, keypoints, 25.0, "0", "train")
    numbers = np.arange(54, dtype=np.float32)[:, None]
    stream = sorted_frames(numbers, clips, num_frames=6, batch_size=50, seed=0)
    drawn = np.concatenate([next(stream) for _ in range(20)])[:, 0, :, 0]
    assert drawn.shape == (1000, 6) and (np.diff(drawn) >= 0).all() and (np.diff(drawn) == 0).any()
    parts = drawn[:, 0].astype(int)
    quarter = np.where(parts < 40, parts // 10, 4)  # four quarters of the first clip, and the second one as a whole
    for part, low, high in ((0, 0, 10), (3, 30, 40), (4, 40, 49)):
        frames = drawn[quarter == part]
        assert frames.min() == low and frames.max() == high - 1  # the third clip is too short
    counts = np.bincount(quarter, minlength=5)
    assert (abs(counts - 200) < 60).all()
    again = sorted_frames(numbers, clips, num_frames=6, batch_size=50, seed=0, share=BatchShare(19))
    np.testing.assert_array_equal(next(again)[:, 0, :, 0], drawn[950:])


def test_each_entry_is_scaled_by_its_own_range():
    rng = np.random.default_rng(0)
    jacobian = rng.uniform(-1, 1, (30, 2, 2, 2)).astype(np.float32) * np.arange(1, 9, dtype=np.float32).reshape(2, 2, 2)
    jacobian[:, 0, 0, 0] = 3.0
    keypoints = Keypoints(rng.uniform(-1, 1, (30, 2, 2)).astype(np.float32), jacobian)
    limits = measure_limits(jacobian, per_entry=True)
    vectors = to_vectors(keypoints, limits, "jacobian-first")
    np.testing.assert_allclose(vectors[:, 1:8].min(0), -1, atol=1e-6)
    np.testing.assert_allclose(vectors[:, 1:8].max(0), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[:, 0], -1)
    np.testing.assert_allclose(to_keypoints(vectors, limits, "jacobian-first").jacobian, jacobian, atol=1e-5)

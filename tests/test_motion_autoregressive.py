"""The autoregressive model against golden values: one prediction, both rollouts, and how they are joined."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from converters.weight_map import load_state
from tests.support import golden
from tools.make_checkpoint import recipe_state
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.autoregressive import (
    AutoregressiveConfig,
    AutoregressiveMotion,
    NextFrame,
    next_frame_objective,
)
from vidcomp_jax.motion.fill import fill

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

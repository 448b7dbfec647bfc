"""Known frames at any times: neighbors, linear interpolation, checks, and sequences longer than a window."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support.motion import straight_lines
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion
from vidcomp_jax.motion.fill import fill, keyframes, windows
from vidcomp_jax.motion.known import neighbors
from vidcomp_jax.motion.linear import LinearMotion
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig


def keypoints(count: int, b: int = 2, k: int = 3, seed: int = 0) -> Keypoints:
    rng = np.random.default_rng(seed)
    return Keypoints(
        rng.uniform(-1, 1, (b, count, k, 2)).astype(np.float32), rng.normal(size=(b, count, k, 2, 2)).astype(np.float32)
    )


def keys(count: int, seed: int = 0):
    return jax.random.split(jax.random.key(seed), count)


def test_neighbors_are_those_a_loop_finds():
    rng = np.random.default_rng(0)
    known = rng.random((20, 9)) < 0.35
    known[np.arange(20), rng.integers(9, size=20)] = True
    times = np.cumsum(rng.uniform(0.5, 2, (20, 9)), 1).astype(np.float32)
    values = rng.normal(size=(20, 9, 2)).astype(np.float32)
    found = jax.tree.map(np.asarray, neighbors(*map(jnp.asarray, (values, known, times))))
    for clip in range(20):
        there = np.flatnonzero(known[clip])
        for t in range(9):
            before = max([i for i in there if i <= t], default=there[0])
            after = min([i for i in there if i >= t], default=there[-1])
            gap = times[clip, after] - times[clip, before]
            fraction = (times[clip, t] - times[clip, before]) / gap if after > before else 0
            np.testing.assert_array_equal(found.before[clip, t], values[clip, before])
            np.testing.assert_array_equal(found.after[clip, t], values[clip, after])
            np.testing.assert_allclose(found.gap[clip, t, 0], gap, atol=1e-6)
            np.testing.assert_allclose(found.fraction[clip, t, 0], fraction, atol=1e-6)
            outside = abs(times[clip, t] - times[clip, before]) if after == before else 0
            np.testing.assert_allclose(found.beyond[clip, t, 0], outside, atol=1e-6)


@pytest.mark.parametrize("times", [(0, 6), (0, 2, 6), (1, 4), (0, 1, 2, 3, 4, 5, 6)])
def test_linear_motion_is_numpys_interpolation_and_exact_where_frames_are_known(times):
    known = keypoints(len(times))
    out = fill(LinearMotion(), known, times, 7, keys(2))
    for x, given in zip(out, known, strict=True):
        np.testing.assert_array_equal(x[:, list(times)], given)
        flat, expected = np.asarray(x).reshape(2, 7, -1), given.reshape(2, len(times), -1)
        for clip in range(2):
            for entry in range(flat.shape[-1]):
                line = np.interp(np.arange(7), times, expected[clip, :, entry])
                np.testing.assert_allclose(flat[clip, :, entry], line, atol=1e-6)


@pytest.mark.parametrize(
    ("times", "count", "says"),
    [
        ((0, 4, 2), 3, "`times` is 0, 4, 2; frame numbers must be in ascending order"),
        ((0, 2, 2), 3, "ascending order, each given once"),
        ((0, 7), 2, "`times` is 0, 7; a clip of 7 frames has frames 0 to 6"),
        ((-1, 3), 2, "frames 0 to 6"),
        ((3,), 1, "`times` is 3; at least two frames must be known"),
        ((), 0, "`times` is empty; at least two"),
        ((0, 3), 3, "3 known frames, but `times` holds 2"),
    ],
)
def test_wrong_times_get_one_line(times, count, says):
    with pytest.raises(InputError, match=says) as error:
        fill(LinearMotion(), keypoints(count), times, 7, keys(2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("times", [(0, 3, 6), (1, 6), (0, 5)])
def test_models_of_two_ends_say_so(times):
    gan = MotionGAN(WGANConfig(hidden=4, noise=2, encoding=2), 3, rngs=nnx.Rngs(0))
    following = AutoregressiveMotion(AutoregressiveConfig(hidden=4), 3, rngs=nnx.Rngs(0))
    for motion in (gan, following):
        with pytest.raises(InputError, match=r"needs two known frames, the first and the last: 0, 6"):
            fill(motion, keypoints(len(times)), times, 7, keys(2))
    with pytest.raises(InputError, match="the motion model is for 3 keypoints, the keypoint model has 2"):
        fill(gan, keypoints(2, k=2), (0, 6), 7, keys(2))


class FiveFrames(LinearMotion):
    """Interpolates over the clock, records its calls, and accepts at most five frames at once."""

    num_frames = 5

    def __init__(self):
        self.calls = []

    def generate(self, known, times, num_frames, keys=None, clock=None):
        assert num_frames == len(clock) == known.position.shape[1] == 5 and np.all(np.diff(clock) > 0)
        self.calls.append((times, clock))
        at, first = np.unique(times, return_index=True)
        flat = known.position[:, first].reshape(len(keys), len(at), -1)
        flat = [[np.interp(clock, clock[at], entries) for entries in clip.T] for clip in flat]
        position = np.moveaxis(np.array(flat, np.float32), 1, 2).reshape(len(keys), 5, *known.position.shape[2:])
        return Keypoints(position, np.zeros((*position.shape, 2), np.float32))


@pytest.mark.parametrize(
    ("num_frames", "times"), [(6, (0, 5)), (23, (0, 22)), (40, (3, 4, 31)), (61, (58, 60)), (30, tuple(range(9, 22)))]
)
def test_long_sequences_pass_through_known_frames_and_keyframes(num_frames, times):
    motion, known = FiveFrames(), keypoints(len(times), k=1)
    out = fill(motion, known, times, num_frames, keys(2))
    for x, given in zip(out, known, strict=True):
        np.testing.assert_array_equal(x[:, list(times)], given)
    line = fill(LinearMotion(), known, times, num_frames, keys(2)).position
    chosen = keyframes(num_frames, times, 5)
    np.testing.assert_allclose(out.position[:, chosen], line[:, chosen], atol=1e-5)
    for found, clock in motion.calls:
        assert clock[found.max()] <= 4 + 1e-5  # known frames lie no further apart than the ends of a window


def test_keyframes_and_windows_reach_everything():
    for num_frames, times in ((17, (0, 16)), (64, (0, 63)), (64, (5, 6, 40)), (300, (0, 10, 20, 299))):
        found = keyframes(num_frames, times, 16)
        assert set(times) | {0, num_frames - 1} <= set(found) and 14 <= len(found) <= 16
        assert np.diff(found).max() <= -(-(num_frames - 1) // 10)
    assert len(keyframes(64, range(30), 16)) == 31  # more than a window, because so many are known
    for count in (3, 16, 17, 61):
        pieces = windows(np.arange(count), 16)
        assert set(np.concatenate(pieces)) == set(range(count))
        assert all(len(np.intersect1d(a, b)) >= 3 for a, b in itertools.pairwise(pieces))
        assert {len(piece) for piece in pieces} == {count if count <= 16 else 14}


def test_between_keyframes_motion_is_smooth():
    class Circle(LinearMotion):
        num_frames = 9

        def generate(self, known, times, num_frames, keys=None, clock=None):
            angle = np.pi * np.asarray(clock) / 4
            position = np.stack([np.cos(angle), np.sin(angle)], -1)[None, :, None].repeat(len(keys), 0)
            return Keypoints(position.astype(np.float32), np.zeros((*position.shape, 2), np.float32))

    first = Keypoints(
        np.array([[[[1.0, 0.0]]] * 2], np.float32).reshape(1, 2, 1, 2), np.zeros((1, 2, 1, 2, 2), np.float32)
    )
    position = np.asarray(fill(Circle(), first, (0, 64), 65, keys(1)).position)[0, :, 0]
    np.testing.assert_allclose(np.linalg.norm(position[8:-8], axis=-1), 1, atol=0.03)
    step = np.linalg.norm(np.diff(position, axis=0), axis=-1)[8:-8]
    assert step.max() < 1.3 * step.min(), step  # a corner at every keyframe would not shrink so


def test_a_straight_motion_stays_straight_between_any_known_frames():
    motion = straight_lines(3, num_frames=9)
    known = Keypoints(*(x[:, [0, 3, 8]] for x in motion))
    out = fill(LinearMotion(), known, (0, 3, 8), 9, keys(3))
    for x, expected in zip(out, motion, strict=True):
        np.testing.assert_allclose(x, expected, atol=1e-6)

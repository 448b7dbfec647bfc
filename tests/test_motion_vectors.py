"""Motion vectors, motion files and the windows drawn from them."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from vidcomp_jax.errors import InputError
from vidcomp_jax.keypoints import Keypoints
from vidcomp_jax.motion.clips import MotionClips, motion_windows
from vidcomp_jax.motion.linear import interpolate
from vidcomp_jax.motion.synthetic import turning_bodies
from vidcomp_jax.motion.vectors import JacobianLimits, measure_limits, to_keypoints, to_vectors

KEYPOINTS = turning_bodies(4, 5, num_keypoints=3)
LIMITS = JacobianLimits(jnp.float32(-2), jnp.float32(4))


def motion_clips(lengths, num_keypoints=3, **changes):
    rng, frames = np.random.default_rng(0), sum(lengths)
    keypoints = Keypoints(
        rng.standard_normal((frames, num_keypoints, 2)).astype(np.float32),
        rng.standard_normal((frames, num_keypoints, 2, 2)).astype(np.float32),
    )
    names = tuple(f"clip{i}" for i in range(len(lengths)))
    fields = {"fps": 25.0, "fingerprint": "0123", "split": "train"} | changes
    return MotionClips(names=names, lengths=np.array(lengths), keypoints=keypoints, **fields)


def test_entries_stand_in_the_stated_order():
    position = np.arange(4, dtype=np.float32).reshape(1, 2, 2) / 10
    jacobian = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    limits = JacobianLimits(jnp.float32(0), jnp.float32(8))
    first = to_vectors(Keypoints(position, jacobian), limits)
    np.testing.assert_allclose(first[0], [0, 0.1, 0.2, 0.3, -1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75], atol=1e-6)
    second = to_vectors(Keypoints(position, jacobian), limits, "jacobian-first")
    np.testing.assert_array_equal(second[0], jnp.concatenate([first[0, 4:], first[0, :4]]))


@pytest.mark.parametrize("order", ["position-first", "jacobian-first"])
def test_vectors_and_back(order):
    vectors = to_vectors(KEYPOINTS, LIMITS, order)
    assert vectors.shape == (4, 5, 18)
    for found, expected in zip(to_keypoints(vectors, LIMITS, order), KEYPOINTS, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_limits_are_the_smallest_and_largest_entry():
    limits = measure_limits(KEYPOINTS.jacobian)
    scaled = to_vectors(KEYPOINTS, limits)[..., 6:]
    np.testing.assert_allclose([scaled.min(), scaled.max()], [-1, 1], atol=1e-6)
    measure_limits(np.broadcast_to(np.eye(2, dtype=np.float32), (3, 2, 2, 2)))  # a model without Jacobians
    with pytest.raises(InputError, match="two different"):
        measure_limits(np.ones((3, 2, 2, 2), np.float32))
    with pytest.raises(InputError, match="finite"):
        measure_limits(np.full((3, 2, 2, 2), np.nan, np.float32))


def test_every_start_within_a_clip_is_possible_and_no_other():
    clips = motion_clips([5, 2, 4, 3])
    np.testing.assert_array_equal(clips.window_starts(3), [0, 1, 2, 7, 8, 11])
    assert clips.too_short(3) == 1
    vectors = np.arange(14, dtype=np.float32)[:, None]
    batches = motion_windows(vectors, clips.window_starts(3), num_frames=3, batch_size=4, seed=0)
    drawn = np.concatenate(list(itertools.islice(batches, 30)))[..., 0]
    assert set(drawn[:, 0]) == {0, 1, 2, 7, 8, 11}
    np.testing.assert_array_equal(np.diff(drawn), 1)
    with pytest.raises(InputError, match="the longest of 4 clips has 5"):
        clips.window_starts(6)


def test_a_batch_depends_on_seed_and_step_alone():
    arguments = {"num_frames": 2, "batch_size": 4, "per_example": 3}
    vectors, starts = np.random.default_rng(0).random((30, 6), np.float32), np.arange(29)
    whole = list(itertools.islice(motion_windows(vectors, starts, seed=1, **arguments), 4))
    assert whole[0].shape == (4, 3, 2, 6)
    resumed = next(motion_windows(vectors, starts, seed=1, start_step=3, **arguments))
    np.testing.assert_array_equal(resumed, whole[3])
    shares = [
        next(motion_windows(vectors, starts, seed=1, process_index=i, process_count=2, **arguments)) for i in (0, 1)
    ]
    np.testing.assert_array_equal(np.concatenate(shares), whole[0])
    assert not np.array_equal(whole[0], next(motion_windows(vectors, starts, seed=2, **arguments)))


def test_linear_motion_is_straight_and_keeps_the_ends():
    first, last = (Keypoints(*(x[:, i] for x in KEYPOINTS)) for i in (0, -1))
    for num_frames in (2, 3, 7):
        moved = interpolate(Keypoints(*map(jnp.asarray, first)), Keypoints(*map(jnp.asarray, last)), num_frames)
        for x, a, b in zip(moved, first, last, strict=True):
            np.testing.assert_array_equal(x[:, 0], a)
            np.testing.assert_array_equal(x[:, -1], b)
            np.testing.assert_allclose(np.diff(x, axis=1), np.broadcast_to(
                ((b - a) / (num_frames - 1))[:, None], x[:, 1:].shape), atol=1e-6)  # fmt: skip


def test_motion_files_hold_everything(tmp_path):
    preview = (np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8),)
    clips = motion_clips([3, 5], preview=preview)
    clips.save(tmp_path / "new" / "motion.npz")
    read = MotionClips.load(tmp_path / "new" / "motion.npz")
    assert (read.names, read.fps, read.fingerprint, read.split) == (clips.names, 25.0, "0123", "train")
    for a, b in zip(
        (read.lengths, *read.keypoints, *read.preview), (clips.lengths, *clips.keypoints, *preview), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["motion.npz"]


def test_files_that_are_no_motion_are_named(tmp_path):
    def check(message):
        with pytest.raises(InputError, match=message) as error:
            MotionClips.load(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)

    path = tmp_path / "motion.npz"
    check("no such file")
    path.write_bytes(b"PK nonsense")
    check("not a motion file")
    np.savez(path, names=np.zeros(1))
    check("it lacks lengths")
    motion_clips([3, 5]).save(path)
    path.write_bytes(path.read_bytes()[:-200])
    check("not a motion file")
    clips = motion_clips([4])
    clips.keypoints.position[1, 0, 0] = np.nan
    clips.save(path)
    check("not finite")

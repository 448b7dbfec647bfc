"""Motion vectors, motion files and the windows drawn from them."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.support.tiny_fomm import tiny
from vidcomp_jax.data.clips import ArrayClips, spread
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion import panels
from vidcomp_jax.motion.linear import LinearMotion, interpolate
from vidcomp_jax.motion.motion_file import MotionClips, extract_motion, motion_windows
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
    with pytest.raises(InputError, match="two different values"):
        measure_limits(np.ones((3, 2, 2, 2), np.float32))
    with pytest.raises(InputError, match="finite"):
        measure_limits(np.full((3, 2, 2, 2), np.nan, np.float32))


def test_every_start_within_a_clip_is_possible_and_no_other():
    clips = motion_clips([5, 2, 4, 3])
    np.testing.assert_array_equal(clips.window_starts(3), [0, 1, 2, 7, 8, 11])
    assert clips.too_short(3) == 1
    vectors = np.arange(14, dtype=np.float32)[:, None]
    batches = motion_windows(vectors, clips.window_starts(3), num_frames=3, batch_size=4, seed=0)
    drawn = np.concatenate(list(itertools.islice(batches, 30)))[:, 0, :, 0]
    assert set(drawn[:, 0]) == {0, 1, 2, 7, 8, 11}
    np.testing.assert_array_equal(np.diff(drawn), 1)
    with pytest.raises(InputError, match="the longest of 4 clips has 5"):
        clips.window_starts(6)


def test_a_batch_depends_on_seed_and_step_alone():
    arguments = {"num_frames": 2, "batch_size": 4, "per_example": 3}
    vectors, starts = np.random.default_rng(0).random((30, 6), np.float32), np.arange(29)
    whole = list(itertools.islice(motion_windows(vectors, starts, seed=1, **arguments), 4))
    assert whole[0].shape == (4, 3, 2, 6)
    resumed = next(motion_windows(vectors, starts, seed=1, share=BatchShare(3), **arguments))
    np.testing.assert_array_equal(resumed, whole[3])
    shares = [next(motion_windows(vectors, starts, seed=1, share=BatchShare(0, i, 2), **arguments)) for i in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(shares), whole[0])
    assert not np.array_equal(whole[0], next(motion_windows(vectors, starts, seed=2, **arguments)))


def test_linear_motion_is_straight_and_keeps_the_ends():
    first, last = (Keypoints(*(x[:, i] for x in KEYPOINTS)) for i in (0, -1))
    for num_frames in (2, 3, 7):
        known = Keypoints(*(np.stack(ends, 1) for ends in zip(first, last, strict=True)))
        moved = interpolate(known, np.array([0, num_frames - 1]), num_frames)
        for x, a, b in zip(moved, first, last, strict=True):
            np.testing.assert_array_equal(x[:, 0], a)
            np.testing.assert_array_equal(x[:, -1], b)
            np.testing.assert_allclose(np.diff(x, axis=1), np.broadcast_to(
                ((b - a) / (num_frames - 1))[:, None], x[:, 1:].shape), atol=1e-6)  # fmt: skip


def test_motion_files_hold_everything(tmp_path):
    preview = (np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8),)
    clips = motion_clips([3, 5], preview=preview, preview_clips=(1,))
    clips.save(tmp_path / "new" / "motion.npz")
    read = MotionClips.load(tmp_path / "new" / "motion.npz")
    assert (read.names, read.fps, read.fingerprint, read.split) == (clips.names, 25.0, "0123", "train")
    for a, b in zip(
        (read.lengths, *read.keypoints, *read.preview), (clips.lengths, *clips.keypoints, *preview), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert read.preview_clips == (1,)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["motion.npz"]


def test_files_without_the_numbers_of_their_previews_show_the_first_clips(tmp_path):
    preview = tuple(np.zeros((3, 8, 8, 1), np.uint8) for _ in range(2))
    motion_clips([3, 5, 4], preview=preview, preview_clips=(0, 2)).save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as file:
        arrays = dict(file)
    assert arrays.pop("preview_clips").tolist() == [0, 2]
    np.savez(tmp_path / "old.npz", **arrays)
    assert MotionClips.load(tmp_path / "old.npz").preview_clips == (0, 1)
    np.savez(tmp_path / "bad.npz", **arrays, preview_clips=[0, 3])
    with pytest.raises(InputError, match=r"2 previews of the clips \[0, 3\]"):
        MotionClips.load(tmp_path / "bad.npz")


def test_shown_and_evaluated_clips_are_spread_over_all():
    clips = motion_clips([3, 5, 5, 2, 5, 5, 5, 5])
    np.testing.assert_array_equal(clips.spread_clips(5, 3), [1, 4, 7])
    np.testing.assert_array_equal(clips.spread_clips(5, 99), [1, 2, 4, 5, 6, 7])
    windows = clips.first_windows(5, np.array([4, 7]))
    np.testing.assert_array_equal(windows.position, np.stack([clips.keypoints.position[i : i + 5] for i in (15, 30)]))
    for count, most in itertools.product(range(1, 40), range(1, 12)):
        chosen = spread(count, most)
        assert len(set(chosen)) == min(count, most) and chosen[0] == 0 and (most == 1 or chosen[-1] == count - 1)


def test_previews_are_spread_and_the_panel_shows_those_clips(monkeypatch):
    frames = np.repeat(np.arange(10, dtype=np.uint8), 3)[:, None, None, None] * np.ones((32, 32, 1), np.uint8)
    model = FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0))
    clips = extract_motion(model, ArrayClips(frames, [3] * 10), "train", chunk=12)
    assert clips.preview_clips == (0, 3, 6, 9)
    assert [int(x.max()) for x in clips.preview] == [0, 3, 6, 9]
    seen = []
    monkeypatch.setattr(
        panels,
        "render_between",
        lambda model, known, times, moved: seen.append((known[:, 0], moved)) or np.stack([known[:, 0]] * 3, 1),
    )
    panels.sample_panel(LinearMotion(), clips, 3, model=model)
    first, moved = seen[0]
    np.testing.assert_allclose(first.max((1, 2, 3)) * 255, [0, 3, 6, 9], atol=1e-4)
    np.testing.assert_allclose(moved.position[:, 0], clips.keypoints.position[[0, 9, 18, 27]], atol=1e-5)


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

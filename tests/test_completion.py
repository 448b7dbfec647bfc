"""Completion of clips: exact ends, no jumps, chunks, batches, any number of frames, and invalid inputs."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.support.tiny_fomm import tiny
from vidcomp_jax.completion.complete import complete, complete_known
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion.autoregressive import AutoregressiveConfig, AutoregressiveMotion
from vidcomp_jax.motion.linear import interpolate
from vidcomp_jax.motion.wgan import MotionGAN, WGANConfig

MODEL = FirstOrderMotionModel(tiny().fomm, rngs=nnx.Rngs(0))
MODEL.eval()
FIVE_FRAMES = 5 * 3 * 32 * 32
FIRST, LAST = np.random.default_rng(0).random((2, 3, 32, 32, 1), np.float32)


def small_gan(num_keypoints=3):
    return MotionGAN(WGANConfig(hidden=8, noise=4, encoding=4), num_keypoints, rngs=nnx.Rngs(0))


def small_autoregressive():
    return AutoregressiveMotion(AutoregressiveConfig(hidden=8), 3, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("motion", [None, small_gan(), small_autoregressive()], ids=["linear", "wgan", "next-frame"])
def test_ends_are_the_given_frames_and_the_detected_keypoints(motion):
    clips = complete(MODEL, FIRST, LAST, 5, motion=motion, key=jax.random.key(1))
    assert clips.frames.shape == (3, 5, 32, 32, 1)
    assert 0 <= clips.frames.min() <= clips.frames.max() <= 1
    np.testing.assert_array_equal(clips.frames[:, 0], FIRST)
    np.testing.assert_array_equal(clips.frames[:, -1], LAST)
    for i, frames in ((0, FIRST), (-1, LAST)):
        for found, detected in zip(clips.keypoints, MODEL.detect(frames), strict=True):
            np.testing.assert_allclose(found[:, i], detected, atol=1e-6)


def test_no_jump_when_time_is_cut_finer():
    coarse = complete(MODEL, FIRST, LAST, 5).frames
    fine = complete(MODEL, FIRST, LAST, 41, max_pixels=FIVE_FRAMES).frames
    assert fine.shape[1] == 41
    steps = [np.abs(np.diff(frames, axis=1)).mean((0, 2, 3, 4)).max() for frames in (coarse, fine)]
    assert steps[1] < 0.3 * steps[0]  # steps are a tenth as long, but a jump would not shrink


def test_rendering_from_the_first_frame_alone_is_plain_animation():
    clips = complete(MODEL, FIRST, LAST, 5, render="first")
    ends = [MODEL.detect(frames) for frames in (FIRST, LAST)]
    known = Keypoints(*(np.stack(x, 1) for x in zip(*ends, strict=True)))
    expected = MODEL.render(FIRST, ends[0], interpolate(known, np.array([0, 4]), 5)).prediction
    np.testing.assert_allclose(clips.frames, expected, atol=1e-5)


def test_integer_frames_give_the_clips_of_their_floats():
    first, last = ((frames * 255).round().astype(np.uint8) for frames in (FIRST, LAST))
    clips = complete(MODEL, first, last, 3)
    expected = complete(MODEL, first.astype(np.float32) / 255, last.astype(np.float32) / 255, 3)
    np.testing.assert_allclose(clips.frames, expected.frames, atol=1e-5)
    with pytest.raises(InputError, match=r"floats must be in \[0, 1\]"):
        complete(MODEL, 255 * FIRST, 255 * LAST, 3)


def test_chunks_change_nothing():
    whole = complete(MODEL, FIRST, LAST, 9)
    chunked = complete(MODEL, FIRST, LAST, 9, max_pixels=FIVE_FRAMES)  # five frames, then four and one of padding
    np.testing.assert_allclose(chunked.frames, whole.frames, atol=1e-5)


def test_clips_one_after_the_other_change_nothing():
    motion, key = small_gan(), jax.random.key(3)
    whole = complete(MODEL, FIRST, LAST, 5, motion=motion, key=key)
    alone = complete(MODEL, FIRST, LAST, 5, motion=motion, key=key, max_pixels=32 * 32)
    np.testing.assert_allclose(alone.frames, whole.frames, atol=1e-5)
    np.testing.assert_allclose(alone.keypoints.position, whole.keypoints.position, atol=1e-5)


def test_clips_of_a_batch_do_not_mix():
    straight, turned = (complete(MODEL, FIRST[order], LAST[order], 5) for order in ([0, 1, 2], [2, 0, 1]))
    np.testing.assert_allclose(straight.frames[[2, 0, 1]], turned.frames, atol=1e-5)


def test_samples_depend_on_the_key_alone():
    motion = small_gan()
    a, b, again = (complete(MODEL, FIRST, LAST, 5, motion=motion, key=jax.random.key(i)) for i in (1, 2, 1))
    np.testing.assert_array_equal(a.frames, again.frames)
    assert np.abs(a.keypoints.position - b.keypoints.position)[:, 1:-1].max() > 1e-3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"last": LAST[:, :16]}, "shape"),
        ({"first": FIRST[0], "last": LAST[0]}, "shape"),
        ({"num_frames": 1}, "`num_frames` is 1"),
        ({"motion": small_gan(4)}, "4 keypoints"),
    ],
)
def test_misfits_are_named(change, message):
    with pytest.raises(InputError, match=message):
        complete(**{"model": MODEL, "first": FIRST, "last": LAST, "num_frames": 4} | change)


KNOWN = np.random.default_rng(1).random((2, 3, 32, 32, 1), np.float32)


@pytest.mark.parametrize("times", [(0, 3, 8), (2, 4, 6)])
@pytest.mark.parametrize("max_pixels", [2**22, 2 * 2 * 32 * 32])
def test_known_frames_and_their_keypoints_come_out_exactly(times, max_pixels):
    clips = complete_known(MODEL, KNOWN, times, 9, max_pixels=max_pixels)
    np.testing.assert_array_equal(clips.frames[:, list(times)], KNOWN)
    assert np.isfinite(clips.frames).all() and 0 <= clips.frames.min() <= clips.frames.max() <= 1
    for i, time in enumerate(times):
        for found, detected in zip(clips.keypoints, MODEL.detect(KNOWN[:, i]), strict=True):
            np.testing.assert_allclose(found[:, time], detected, atol=1e-6)


def test_a_gap_between_known_frames_is_completed_as_a_clip_of_its_own():
    clips = complete_known(MODEL, KNOWN, (0, 4, 8), 9)
    for part, first in ((slice(0, 5), 0), (slice(4, 9), 1)):
        alone = complete(MODEL, KNOWN[:, first], KNOWN[:, first + 1], 5)
        np.testing.assert_allclose(clips.frames[:, part], alone.frames, atol=1e-5)
        np.testing.assert_allclose(clips.keypoints.position[:, part], alone.keypoints.position, atol=1e-6)


def test_known_frames_do_not_jump_where_they_are_put_in_place():
    fine = complete_known(MODEL, KNOWN, (0, 40, 80), 81).frames
    steps = np.abs(np.diff(fine, axis=1)).mean((0, 2, 3, 4))
    assert steps[[0, 39, 40, 79]].max() < 3 * np.median(steps), steps


def test_outside_of_the_known_frames_the_nearest_one_stays():
    clips = complete_known(MODEL, KNOWN, (2, 4, 6), 9)
    np.testing.assert_allclose(clips.frames[:, :2], np.repeat(KNOWN[:, :1], 2, 1), atol=1e-5)
    np.testing.assert_allclose(clips.frames[:, 7:], np.repeat(KNOWN[:, 2:], 2, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("frames", "times", "message"),
    [
        (KNOWN, (0, 8, 4), "`times` is 0, 8, 4; frame numbers must be in ascending order"),
        (KNOWN, (0, 4, 9), "`times` is 0, 4, 9; a clip of 9 frames has frames 0 to 8"),
        (KNOWN, (0, 4), "3 known frames, but `times` holds 2"),
        (KNOWN[:, :1], (0,), "at least two frames must be known"),
        (KNOWN[0], (0, 4, 8), r"known frames of shape \(3, 32, 32, 1\); they must be \[b, n, h, w, c\]"),
        (255 * KNOWN, (0, 4, 8), r"floats must be in \[0, 1\]"),
    ],
)
def test_known_frames_that_do_not_fit_are_named(frames, times, message):
    with pytest.raises(InputError, match=message):
        complete_known(MODEL, frames, times, 9)

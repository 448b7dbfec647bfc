"""Synthetic clips: reproducible, with a constant background, and drawn at the true joints."""

import subprocess
import sys

import numpy as np
import pytest

from vidcomp_jax.data import Clips, DataConfig, SyntheticConfig, open_clips
from vidcomp_jax.data.synthetic import walker
from vidcomp_jax.data.synthetic.drawing import draw_capsule
from vidcomp_jax.errors import InputError

SCENES = [("walker", 1), ("robot", 3)]


def clips(scene="walker", channels=1, split="train", size=64, **settings):
    config = SyntheticConfig(scene=scene, **settings)
    return open_clips(DataConfig(name="synthetic", size=size, num_channels=channels, synthetic=config), split)


@pytest.mark.parametrize(("scene", "channels"), SCENES)
def test_shapes_and_attributes(scene, channels):
    data = clips(scene, channels, num_train=3, length=5, size=32)
    assert isinstance(data, Clips)
    assert data.frames(2, range(5)).shape == (5, 32, 32, channels) == (5, *data.frame_shape)
    assert data.frames(2, [4, 0]).dtype == np.uint8
    assert data.joints(0).shape == (5, len(data.joint_names), 2)
    assert data.lengths.tolist() == [5, 5, 5] and len(set(data.names)) == 3
    with pytest.raises(IndexError):
        data.frames(0, [5])


@pytest.mark.parametrize(("scene", "channels"), SCENES)
def test_a_clip_depends_on_seed_split_and_number_only(scene, channels):
    everything = range(16)
    first = clips(scene, channels).frames(7, everything)
    np.testing.assert_array_equal(first, clips(scene, channels, num_train=8).frames(7, everything))
    for other in (
        clips(scene, channels).frames(6, everything),
        clips(scene, channels, split="test").frames(7, everything),
        clips(scene, channels, seed=1).frames(7, everything),
    ):
        assert (first != other).any()


@pytest.mark.parametrize(("scene", "channels"), SCENES)
def test_something_moves_before_a_still_background(scene, channels):
    data = clips(scene, channels)
    for number in range(12):
        frames = data.frames(number, range(16)).astype(float)
        spread = np.ptp(frames, axis=0).max(-1)
        assert (spread > 60).mean() > 0.02, f"clip {number} hardly moves"
        assert (spread == 0).mean() > 0.25, f"clip {number} has no still background"


def joint_contrast(data, number, names):
    """Return the brightness range in a small window around every joint inside the frame."""
    size = data.frame_shape[0]
    joints = data.joints(number)
    pixels = np.round((joints + 1) / 2 * (size - 1)).astype(int)
    columns = [data.joint_names.index(name) for name in names]
    for t, frame in enumerate(data.frames(number, range(16)).astype(int)):
        for x, y in pixels[t, columns]:
            yield np.ptp(frame[max(y - 3, 0) : y + 4, max(x - 3, 0) : x + 4], axis=(0, 1)).max()


def test_joints_lie_on_the_drawn_figure():
    data = clips(size=64)
    contrasts = [c for number in range(20) for c in joint_contrast(data, number, ("head", "near_hand", "near_foot"))]
    assert np.mean(np.array(contrasts) > 25) > 0.95


def test_dark_head_is_centred_on_its_joint():
    """The head is the topmost part of a walking figure: its columns in the frame follow the joint's x."""
    data = clips(size=128, num_train=60)
    found, true = [], []
    for number in range(60):
        frames, joints = data.frames(number, range(16)).astype(float), data.joints(number)
        if np.ptp(joints[:, 0, 0]) < 0.4:
            continue
        background = np.median(frames, 0)
        for frame, joint in zip(frames[..., 0], joints[:, 0], strict=True):
            row = round((joint[1] + 1) / 2 * 127)
            columns = np.flatnonzero(np.abs(frame[row] - background[row, :, 0]) > 20)
            if len(columns):
                found.append(np.median(columns) / 127 * 2 - 1)
                true.append(joint[0])
    assert len(found) > 100
    assert np.median(np.abs(np.array(found) - np.array(true))) < 0.03


def test_capsule_covers_its_area_without_steps():
    """The covered area of a disc is pi r^2 wherever its center falls between the pixels."""
    for shift in np.linspace(0, 2 / 63, 7):
        canvas = np.zeros((1, 64, 64, 1), np.float32)
        center = np.array([[0.1 + shift, -0.2 + shift / 2]])
        draw_capsule(canvas, center, center, 0.3, np.array([1.0]), shading=0.0)
        assert canvas.sum() * (2 / 63) ** 2 == pytest.approx(np.pi * 0.09, rel=5e-3)
        x = (canvas[0, ..., 0].sum(0) * np.linspace(-1, 1, 64)).sum() / canvas.sum()
        assert x == pytest.approx(center[0, 0], abs=1e-3)


def test_a_capsule_outside_paints_nothing_and_one_across_the_edge_is_cut():
    canvas = np.zeros((2, 16, 16, 1), np.float32)
    draw_capsule(canvas, np.full((2, 2), 3.0), np.full((2, 2), 4.0), 0.2, np.array([1.0]))
    assert not canvas.any()
    draw_capsule(canvas, np.full((2, 2), -2.0), np.full((2, 2), 2.0), 0.2, np.array([1.0]))
    assert (canvas[:, range(16), range(16)] > 0.99).all()


def test_channels_are_converted():
    gray, color = clips("robot", 1).frames(0, [0]), clips("robot", 3).frames(0, [0])
    np.testing.assert_allclose(gray[..., 0], color @ np.array([0.299, 0.587, 0.114]), atol=1.01)
    walker = clips("walker", 3).frames(0, [0])
    np.testing.assert_array_equal(walker[..., 0], walker[..., 2])


@pytest.mark.parametrize(
    "settings", [{"num_train": 0}, {"num_test": -1}, {"length": 1}, {"seed": -1}], ids=lambda s: next(iter(s))
)
def test_wrong_settings_are_named(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        SyntheticConfig(**settings)


@pytest.mark.parametrize("size", [63, 0, -4])
def test_a_size_not_divisible_by_4_is_named(size):
    with pytest.raises(InputError, match=f"`size` is {size}"):
        DataConfig(size=size)


def test_wrong_choices_are_named():
    """Configs are also built by code that no type checker has seen."""
    code = """
from vidcomp_jax.data import DataConfig
from vidcomp_jax.errors import InputError
for settings in ({"name": "imagenet"}, {"num_channels": 2}):
    try:
        DataConfig(**settings)
    except InputError as error:
        print(str(error).partition(";")[0])
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines() == ["`name` is 'imagenet'", "`num_channels` is 2"]


def test_bair_says_that_it_cannot_be_read():
    with pytest.raises(InputError, match="bair"):
        open_clips(DataConfig(name="bair"), "train")


def test_limbs_are_told_apart_by_side_and_never_lost():
    joints = open_clips(DataConfig(name="synthetic"), "train").joints(0)
    ordered = walker.left_first(joints)
    for kind in ("hand", "foot", "elbow", "knee"):
        near, far = (walker.JOINTS.index(f"{side}_{kind}") for side in ("near", "far"))
        swap = (joints[:, near, 0] > joints[:, far, 0])[:, None]
        np.testing.assert_array_equal(ordered[:, near], np.where(swap, joints[:, far], joints[:, near]))
        np.testing.assert_array_equal(ordered[:, far], np.where(swap, joints[:, near], joints[:, far]))
    np.testing.assert_array_equal(ordered[:, :3], joints[:, :3])
    mirrored = walker.left_first(joints[:, [0, 1, 2, 7, 8, 9, 10, 3, 4, 5, 6]])
    np.testing.assert_array_equal(mirrored, ordered)

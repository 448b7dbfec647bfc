"""Completes clips in one call, with one method or with several."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from vidcomp_jax.completion.completers import Completer, Completion, KeypointCompleter, KnownFrames, known_ends
from vidcomp_jax.fomm.between import MAX_PIXELS, Frames, Render
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion.linear import LinearMotion
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.nn.frames import unit_frames
from vidcomp_jax.replicas import Devices


def complete(
    model: FirstOrderMotionModel,
    first: Frames,
    last: Frames,
    num_frames: int = 16,
    *,
    motion: MotionModel | None = None,
    key: Key[Array, ""] | None = None,
    render: Render = "both",
    max_pixels: int = MAX_PIXELS,
    devices: Devices = None,
) -> Completion:
    """Generate the clips between first and last frames.

    Args:
        model: detects keypoints and renders frames.
        first: first frames [b, h, w, c]; floats in [0, 1], or integers, which are scaled by the range of their type.
        last: last frames, of the same shape.
        num_frames: number of frames of each clip, both ends included; at least 2.
        motion: fills in the keypoints between; linear interpolation if None.
        key: random key of a stochastic motion model; `jax.random.key(0)` if None.
        render: ends to render from; with `both`, clips start and end with exactly the given frames.
        max_pixels: maximum number of pixels to render at once, on all devices together; larger inputs are split into
            chunks.
        devices: devices of this process that share the clips or, of few clips, their frames; all of them if None.

    Returns:
        Frames [b, num_frames, h, w, c] and their keypoints [b, num_frames, k, ...].

    Raises:
        InputError: the frames differ in shape, floats are outside [0, 1], `num_frames` is below 2, or the motion model
            is for another number of keypoints.
    """
    known = known_ends(first, last, num_frames)
    options: dict[str, Any] = {"render": render, "max_pixels": max_pixels, "devices": devices}
    return complete_known(model, *known, num_frames, motion=motion, key=key, **options)


def complete_known(
    model: FirstOrderMotionModel,
    frames: Frames,
    times: Sequence[int],
    num_frames: int,
    *,
    motion: MotionModel | None = None,
    key: Key[Array, ""] | None = None,
    render: Render = "both",
    max_pixels: int = MAX_PIXELS,
    devices: Devices = None,
) -> Completion:
    """Generate clips of which some frames are known: two or more, at any times.

    Linear interpolation and `FlowMotion` accept any known frames; the other motion models need the first and the last.
    Known keypoints are kept exactly, and so are known frames with `render="both"`. Outside of the known frames, linear
    interpolation repeats the nearest one; `FlowMotion` continues the motion.

    Args:
        model: detects keypoints and renders frames.
        frames: known frames [b, n, h, w, c]; floats in [0, 1], or integers, which are scaled by the range of their
            type.
        times: index of each of the n known frames in its clip, from 0, in ascending order.
        num_frames: number of frames of each clip, the known ones included; at least 2.
        motion: fills in the keypoints between; linear interpolation if None.
        key: random key of a stochastic motion model; `jax.random.key(0)` if None.
        render: known frames to render from: the first one alone, or those on both sides of each frame.
        max_pixels: maximum number of pixels to render at once, on all devices together; larger inputs are split into
            chunks.
        devices: devices of this process that share the clips or, of few clips, their frames; all of them if None.

    Returns:
        Frames [b, num_frames, h, w, c] and their keypoints [b, num_frames, k, ...].

    Raises:
        InputError: frames and times do not fit each other, the clip or the motion model, floats are outside [0, 1],
            or the motion model is for another number of keypoints.
    """
    known = KnownFrames(np.asarray(unit_frames(frames)), tuple(times))
    options: dict[str, Any] = {"render": render, "max_pixels": max_pixels, "devices": devices}
    completer = KeypointCompleter(model, motion or LinearMotion(), **options)
    return completer.complete(known, num_frames, jax.random.key(0) if key is None else key)


def complete_by_all(
    completers: Mapping[str, Completer], known: KnownFrames, num_frames: int, *, num_samples: int = 1, seed: int = 0
) -> dict[str, Completion]:
    """Complete the same clips with each of several methods.

    Args:
        completers: methods by name.
        known: the given frames.
        num_frames: number of frames of each clip.
        num_samples: samples of each clip from a stochastic method; the others generate one.
        seed: seed of the random samples.

    Returns:
        Completed clips by title: the name of the method, with the sample number if it is stochastic (`wgan 1`).

    Raises:
        InputError: see `Completer.complete`.
    """
    results = {}
    for name, completer in completers.items():
        for sample in range(num_samples if completer.stochastic else 1):
            title = f"{name} {sample + 1}" if completer.stochastic else name
            key = jax.random.fold_in(jax.random.key(seed), sample)
            results[title] = completer.complete(known, num_frames, key)
    return results

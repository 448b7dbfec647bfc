"""The one call that joins it all: a first and a last frame in, the clip between them out.

Keypoints are detected in both frames, a motion model fills in those between, and the frames are rendered from one
end or from both.
"""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.between import MAX_PIXELS, Frames, Render, render_between
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion import MotionModel
from vidcomp_jax.motion.evaluation import generate
from vidcomp_jax.motion.linear import LinearMotion


class Completion(NamedTuple):
    """Completed clips, on the host.

    Attributes:
        frames: in [0, 1].
        keypoints: those of all frames, [b, t, k, ...]; at both ends the detected ones. None for clips made without.
    """

    frames: Float[np.ndarray, "b t h w c"]
    keypoints: Keypoints | None


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
) -> Completion:
    """Generate the clips between first and last frames.

    Args:
        model: keypoints and rendering.
        first: first frames, in [0, 1].
        last: last frames, of the same shape.
        num_frames: frames of each clip, both ends included; at least 2.
        motion: what moves the keypoints; linear interpolation if None.
        key: of a stochastic motion model's samples; another key gives other samples.
        render: with `both` a clip starts and ends with exactly the given frames.
        max_pixels: most pixels to render in one program; more are rendered in chunks of frames, then of clips.

    Raises:
        InputError: frames of different shapes, too few frames, or a motion model for other keypoints.
    """
    _check(model, first, last, num_frames, motion)
    b, height, width, _ = first.shape
    keys = jax.random.split(jax.random.key(0) if key is None else key, b)
    at_a_time = max(max_pixels // (height * width), 1)
    parts = []
    for i in range(0, b, at_a_time):
        share = slice(i, i + at_a_time)
        ends = first[share], last[share]
        keypoints = model.detect(np.concatenate(ends))
        start, end = (Keypoints(*x) for x in zip(*(np.split(np.asarray(x), 2) for x in keypoints), strict=True))
        moved = generate(motion or LinearMotion(), start, end, num_frames, keys[share])
        frames = render_between(model, *ends, moved, render=render, max_pixels=max_pixels)
        parts.append(Completion(frames, jax.tree.map(np.asarray, moved)))
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def _check(model, first, last, num_frames, motion) -> None:
    if first.shape != last.shape or first.ndim != 4:
        raise InputError(
            f"first frames of shape {first.shape}, last frames of shape {last.shape}; both must be [b, h, w, c], alike"
        )
    if num_frames < 2:
        raise InputError(f"num_frames is {num_frames}; a clip has at least its first and its last frame, 2")
    wanted = None if motion is None else motion.num_keypoints
    if wanted not in (None, model.config.num_keypoints):
        raise InputError(
            f"the motion model is for {wanted} keypoints, the keypoint model has {model.config.num_keypoints}; "
            "train one on motion that this keypoint model extracted"
        )

"""Rendering of the frames between a first and a last frame, from the first or from both.

Input: the two frames, and the keypoints of every frame. Output: all frames. Long clips are rendered in chunks.
"""

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Real

from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import EncodedSource, FirstOrderMotionModel
from vidcomp_jax.nn.geometry import coordinate_grid, resize_bilinear, warp

Render = Literal["first", "both"]
"""Which frames to render from: the first alone, as in the published method, or both, blending the results."""

MAX_PIXELS = 2**22
"""Default limit on the pixels rendered by one call of the compiled program: 64 clips of 16 frames at 64 x 64."""

Frames = Real[Array | np.ndarray, "..."]
"""[b, h, w, c], floats in [0, 1] or integers. The type allows any shape, so that a wrong one raises `InputError`."""


class _Ends(NamedTuple):
    """The frames to render from: the first frames of all clips, then, if both ends are used, the last frames.

    Attributes:
        encoded: the encoded frames.
        residual: difference between each frame and its rendering at its own keypoints.
        deformation: the deformation of that rendering, in which nothing moves.
    """

    encoded: EncodedSource
    residual: Float[Array, "e h w c"]
    deformation: Float[Array, "e h2 w2 2"]


def render_between(
    model: FirstOrderMotionModel,
    first: Frames,
    last: Frames,
    keypoints: Keypoints,
    *,
    render: Render = "both",
    max_pixels: int = MAX_PIXELS,
) -> Float[np.ndarray, "b t h w c"]:
    """Render clips from their first and last frames and the keypoints of every frame.

    With `both`, each frame is a blend of the renderings from the two ends. The weight of an end is proportional to its
    nearness in time and, at each pixel, to how much of it the generator could use there (its occlusion map). What
    an end loses when it is rendered at its own keypoints is warped along with the motion and added. So the clip starts
    with exactly the first frame, ends with exactly the last, and fades from the detail of one to that of the other.

    Args:
        model: a trained model.
        first, last: frames [b, h, w, c], floats in [0, 1], or integers, which are divided by the largest value of
            their type.
        keypoints: positions [b, t, k, 2] and Jacobians [b, t, k, 2, 2] of at least two frames. The first and the last
            must be those of `first` and `last`.
        render: which frames to render from.
        max_pixels: limit on the pixels rendered at a time; larger clips are rendered in chunks of frames.

    Returns:
        Frames in [0, 1], on the host.

    Raises:
        InputError: if shapes do not fit the model or each other, or floats are not in [0, 1].
    """
    num_frames = keypoints.position.shape[1]
    b, height, width, _ = first.shape
    length = int(np.clip(max_pixels // (b * height * width), 1, num_frames))
    num_chunks = -(-num_frames // length)
    length = -(-num_frames // num_chunks)
    network = nnx.split(nnx.view(model, use_running_average=True))
    own = [Keypoints(*(x[:, i] for x in keypoints)) for i in (0, -1)]
    ends = _prepare(*network, render, (first, own[0]), (last, own[1]))
    chunks = []
    for i in range(num_chunks):
        # The last chunk is padded by repeating its last frame, so that one compiled program serves all.
        times = np.minimum(np.arange(i * length, (i + 1) * length), num_frames - 1)
        part = Keypoints(*(x[:, times] for x in keypoints))
        fraction = np.float32(times / (num_frames - 1))
        chunks.append(np.asarray(_render(*network, render, ends, part, fraction)))
    return np.concatenate(chunks, axis=1)[:, :num_frames]


@functools.partial(jax.jit, static_argnums=(0, 2))
def _prepare(graphdef, state, render, first, last) -> _Ends:
    model = nnx.merge(graphdef, state)
    sources = first if render == "first" else jax.tree.map(lambda *x: jnp.concatenate(x), first, last)
    encoded = model.encode(*sources)
    still = model.render(encoded, None, encoded.keypoints)
    return _Ends(encoded, encoded.frame - still.prediction, still.deformation)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _render(graphdef, state, render, ends, keypoints, fraction) -> Float[Array, "b t h w c"]:
    model = nnx.merge(graphdef, state)
    if render == "first":
        return model.render(ends.encoded, None, keypoints).prediction
    rendered = model.render(ends.encoded, None, jax.tree.map(lambda x: jnp.concatenate([x, x]), keypoints))
    _, t, height, width, _ = rendered.prediction.shape
    offsets = resize_bilinear(rendered.deformation - ends.deformation[:, None], height, width)
    detail = warp(ends.residual, coordinate_grid(height, width) + offsets)
    nearness = jnp.stack([1 - fraction, fraction]).reshape(2, 1, t, 1, 1, 1)
    usable = resize_bilinear(rendered.occlusion_map, height, width).reshape(2, -1, t, height, width, 1)
    weight = nearness * (usable + 1e-3)
    ends_frames = (rendered.prediction + detail).reshape(2, -1, *rendered.prediction.shape[1:])
    return jnp.clip((weight * ends_frames).sum(0) / weight.sum(0), 0, 1)

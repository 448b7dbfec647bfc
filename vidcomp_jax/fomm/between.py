"""Rendering of clips from known frames: from the first alone, or each frame from the known frames around it.

Input: known frames and their times, and the keypoints of every frame. Output: all frames. Long clips are rendered in
chunks, and several devices share the clips or, of few clips, the frames.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import EncodedSource, FirstOrderMotionModel
from vidcomp_jax.nn.frames import unit_frames
from vidcomp_jax.nn.geometry import coordinate_grid, resize_bilinear, warp
from vidcomp_jax.replicas import Devices, Replicas

Render = Literal["first", "both"]
"""Which frames to render from: the first known one alone, as in the published method, or the known frames on both sides
of each frame, blending the results."""

MAX_PIXELS = 2**22
"""Default limit on the pixels rendered by one call of the compiled program: 64 clips of 16 frames at 64 x 64."""

Frames = Real[Array | np.ndarray, "..."]
"""Floats in [0, 1] or integers. The type allows any shape, so that a wrong one raises `InputError`."""


class _Ends(NamedTuple):
    """The frames to render from: the frames before all gaps, then, if both sides are used, the frames after them.

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
    known: Frames,
    times: Sequence[int],
    keypoints: Keypoints,
    *,
    render: Render = "both",
    max_pixels: int = MAX_PIXELS,
    devices: Devices = None,
) -> Float[np.ndarray, "b t h w c"]:
    """Render clips from their known frames and the keypoints of every frame.

    With `both`, each frame is a blend of the renderings from the known frames before and after it. The weight of a
    known frame is proportional to its nearness in time and, at each pixel, to how much of it the generator could use
    there (its occlusion map). What a known frame loses when it is rendered at its own keypoints is warped along with
    the motion and added, so that clips fade from the detail of one known frame to that of the next without a jump. The
    known frames themselves come out exactly. Frames before the first or after the last known frame are rendered from
    that frame.

    Args:
        model: a trained model.
        known: known frames [b, n, h, w, c], floats in [0, 1], or integers, which are divided by the largest value of
            their type.
        times: index of each of the n known frames in the clips, ascending.
        keypoints: positions [b, t, k, 2] and Jacobians [b, t, k, 2, 2] of all frames; at `times`, those of `known`.
        render: which frames to render from.
        max_pixels: limit on the pixels rendered at a time, on all devices together; larger clips are rendered in chunks
            of frames.
        devices: devices of this process that share the clips or, of few clips, their frames; all of them if None.

    Returns:
        Frames in [0, 1], on the host.

    Raises:
        InputError: if shapes do not fit the model or each other, or floats are not in [0, 1].
    """
    num_frames = keypoints.position.shape[1]
    known = np.asarray(known)
    b, _, height, width, channels = known.shape
    times = list(times)
    gaps = [(0, 0, range(num_frames))] if render == "first" else _gaps(times, num_frames)
    longest = max((len(inside) for _, _, inside in gaps), default=1)
    length = int(np.clip(max_pixels // (b * height * width), 1, longest))
    length = -(-longest // -(-longest // length))
    network = Replicas(model, devices)
    by_clip = _by_clip(b, length, network)
    if by_clip:
        known, keypoints = network.filled_up(known, b), Keypoints(*(network.filled_up(x, b) for x in keypoints))
    else:
        length = network.multiple(length)
    # Known frames are prepared where they are used: by the device of a clip, or by all.
    of_ends, of_keypoints, of_time = (0, 0, None) if by_clip else (None, 1, 0)
    frames = np.empty((b, num_frames, height, width, channels), np.float32)
    running: tuple[np.ndarray, Array] | None = None

    def fetch():
        if running is not None:
            inside, rendered = running
            frames[:, inside] = np.asarray(rendered)[:b, : len(inside)]

    for before, after, inside in gaps:
        sides = [(known[:, i], Keypoints(*(np.asarray(x)[:, times[i]] for x in keypoints))) for i in (before, after)]
        ends = network.run(_prepare, *sides, axes=(of_ends, of_ends), out_axis=of_ends, options=(render,))
        duration = max(times[after] - times[before], 1)
        for i in range(0, len(inside), length):
            # The last chunk is padded by repeating its last frame, so that one compiled program serves all.
            chunk = np.minimum(np.arange(i, i + length), len(inside) - 1) + inside.start
            part = Keypoints(*(np.asarray(x)[:, chunk] for x in keypoints))
            fraction = np.float32(np.clip((chunk - times[before]) / duration, 0, 1))
            rendered = network.run(
                _render,
                *(ends, part, fraction),
                axes=(of_ends, of_keypoints, of_time),
                out_axis=of_keypoints,
                options=(render,),
            )
            fetch()  # the previous chunk, while the devices work on this one
            running = chunk[: min(length, len(inside) - i)], rendered
    fetch()
    if render == "both":
        frames[:, times] = unit_frames(known[:b])
    return frames


def _by_clip(num_clips: int, length: int, network: Replicas) -> bool:
    """Whether each device should render some of the clips, rather than some of the frames of each clip.

    What counts is how many frames a device renders, with one more in each clip to prepare its known frames.
    """
    clips, frames = (-(-n // network.count) for n in (num_clips, length))
    return clips * (length + 1) <= num_clips * (frames + 1)


def _gaps(times: list[int], num_frames: int) -> list[tuple[int, int, range]]:
    """The runs of frames that are not known, each with the numbers of the known frames before and after it."""
    last = len(times) - 1
    gaps = [(i, i + 1, range(times[i] + 1, times[i + 1])) for i in range(last)]
    gaps = [(0, 0, range(times[0])), *gaps, (last, last, range(times[last] + 1, num_frames))]
    return [gap for gap in gaps if len(gap[2])]


def _prepare(model: FirstOrderMotionModel, first: tuple, last: tuple, render: Render) -> _Ends:
    sources = first if render == "first" else jax.tree.map(lambda *x: jnp.concatenate(x), first, last)
    encoded = model.encode(*sources)
    still = model.render(encoded, None, encoded.keypoints)
    return _Ends(encoded, encoded.frame - still.prediction, still.deformation)


def _render(
    model: FirstOrderMotionModel, ends: _Ends, keypoints: Keypoints, fraction: Float[Array, " t"], render: Render
) -> Float[Array, "b t h w c"]:
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

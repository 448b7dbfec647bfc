"""Animation of a source frame with the motion of driving frames.

Input: one frame, and a video in chunks of frames. Output: the source rendered in the pose of each driving frame.

Siarohin et al., First Order Motion Model for Image Animation, NeurIPS 2019, section 3.3. A chunk goes through one
compiled program, and memory does not grow with the length of the video.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from vidcomp_jax.devices import filled_up
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel, movement_scale, transfer_motion

Frame = UInt8[np.ndarray, "h w c"]
Chunk = UInt8[np.ndarray, "_t h w c"]
Result = Float[np.ndarray, "_t h w c"]


class BestFrame(NamedTuple):
    """The driving frame whose pose is nearest to the source's.

    Attributes:
        index: its number, from 0.
        keypoints: its keypoints, [k, ...].
    """

    index: int  # type: ignore[assignment]  # hides `tuple.index`, which has no use here
    keypoints: Keypoints


def animate(
    model: FirstOrderMotionModel,
    source: Frame,
    driving: Iterable[Chunk],
    initial: Keypoints | None = None,
    *,
    chunk: int = 8,
    adapt_scale: bool = False,
) -> Iterator[Result]:
    """Render the source at the motion of driving frames.

    Args:
        model: trained.
        source: the frame to animate.
        driving: frames in order, up to `chunk` at a time, of the source's shape.
        initial: keypoints of the driving frame in the source's pose: keypoints of the source then move as those of
            the driving frames move away from these. None renders at the driving keypoints as they are.
        chunk: frames on the device at a time; shorter parts are filled up, so that one program serves all.
        adapt_scale: with `initial`, make movements larger or smaller by the ratio of the figures' sizes.

    Yields:
        For every part of `driving` the rendered frames, in [0, 1].

    Raises:
        InputError: another number of channels than the model's, or keypoints that have no size to adapt to.
    """
    keypoints = detect(model, source)
    encoded = model.encode(_unit(source), keypoints)
    scale = movement_scale(keypoints, initial) if adapt_scale and initial is not None else 1.0
    network = nnx.split(nnx.view(model, use_running_average=True))
    before = None
    for frames in driving:
        rendered = _animate(*network, encoded, initial, np.float32(scale), filled_up(frames, chunk))
        # The device works on this chunk while the one before is written and the next one read.
        if before is not None:
            yield np.asarray(before[0])[: before[1]]
        before = rendered, len(frames)
    if before is not None:
        yield np.asarray(before[0])[: before[1]]


def detect(model: FirstOrderMotionModel, frame: Frame) -> Keypoints:
    """Keypoints of one frame, on the host."""
    return jax.tree.map(np.asarray, model.detect(_unit(frame)))


def best_frame(model: FirstOrderMotionModel, source: Frame, driving: Iterable[Chunk], *, chunk: int = 8) -> BestFrame:
    """The driving frame whose keypoints resemble the source's most, wherever and however large they are.

    Keypoints of both are centered and divided by the root of their convex hull's area; the sum of squares counts, as
    in the published code, which compares facial landmarks.

    Raises:
        InputError: the source's keypoints, or those of all driving frames, span no area.
    """
    wanted = _normalized(np.asarray(detect(model, source).position))
    if wanted is None:
        raise InputError("the source's keypoints span no area, so no best frame can be found; give its number")
    best, smallest, start = None, np.inf, 0
    for frames in driving:
        found = jax.tree.map(np.asarray, model.detect(_unit(filled_up(frames, chunk))))
        for i in range(len(frames)):
            pose = _normalized(found.position[i])
            distance = np.inf if pose is None else np.square(pose - wanted).sum()
            if distance < smallest:
                best, smallest = BestFrame(start + i, Keypoints(*(x[i] for x in found))), distance
        start += len(frames)
    if best is None:
        raise InputError("the keypoints of no driving frame span an area, so none is best; give its number")
    return best


def _normalized(position: Float[np.ndarray, "k 2"]) -> Float[np.ndarray, "k 2"] | None:
    """Keypoints centered and scaled to a convex hull of area 1; None if they lie on a line."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return (position - position.mean(0)) / np.sqrt(ConvexHull(position).volume)
    except QhullError:
        return None


@functools.partial(jax.jit, static_argnums=0)
def _animate(graphdef, state, encoded, initial, scale, frames: Array) -> Float[Array, "t h w c"]:
    model = nnx.merge(graphdef, state)
    driving = model.detect(frames.astype(jnp.float32) / 255)
    if initial is not None:
        driving = transfer_motion(encoded.keypoints, driving, initial, scale=scale)
    return model.render(encoded, None, driving).prediction


def _unit(frames: np.ndarray) -> Float[np.ndarray, "..."]:
    return frames.astype(np.float32) / 255

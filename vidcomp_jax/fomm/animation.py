"""Animation of a source frame with the motion of driving frames.

Input: one frame, and a video in chunks of frames. Output: the source rendered in the pose of each driving frame.

Siarohin et al., First Order Motion Model for Image Animation, NeurIPS 2019, section 3.3. Every chunk goes through
the same compiled program, which all devices share, and memory use does not grow with the length of the video.
"""

import contextlib
from collections.abc import Generator, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Real, UInt8

from vidcomp_jax.background import read_ahead
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel, movement_scale, transfer_motion
from vidcomp_jax.media.images import to_float
from vidcomp_jax.replicas import Devices, Replicas

Frame = UInt8[np.ndarray, "h w c"]
Chunk = UInt8[np.ndarray, "_t h w c"]
Result = Float[np.ndarray, "_t h w c"]


class BestFrame(NamedTuple):
    """The driving frame whose pose is closest to the source's.

    Attributes:
        index: its index in the driving video, from 0.
        keypoints: its keypoints, positions [k, 2] and Jacobians [k, 2, 2].
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
    relative_jacobian: bool = True,
    devices: Devices = None,
) -> Generator[Result, None, None]:
    """Render the source with the motion of driving frames.

    Args:
        model: a trained model.
        source: the frame to animate.
        driving: the driving frames in order, up to `chunk` at a time, with the source's shape. They are read ahead, in
            a thread.
        initial: keypoints of the driving frame whose pose matches the source's. The source's keypoints then move as the
            driving keypoints move relative to these. None uses the driving keypoints unchanged.
        chunk: number of frames processed at a time, on all devices together; shorter parts are padded, so that one
            compiled program serves all.
        adapt_scale: with `initial`, scale the motion by the ratio of the figures' sizes, see `movement_scale`.
        relative_jacobian: with `initial`, move the Jacobians as well; False uses those of the driving frames.
        devices: devices of this process that share the frames of each chunk; all of them if None.

    Yields:
        The rendered frames of each part of `driving`, in [0, 1].

    Raises:
        InputError: if the frames and the model differ in their number of channels, or, with `adapt_scale`, if keypoints
            span no area.
    """
    keypoints = detect(model, source)
    encoded = model.encode(to_float(source), keypoints)
    scale = movement_scale(keypoints, initial) if adapt_scale and initial is not None else 1.0
    network = Replicas(model, devices)
    shared = network.shared((encoded, initial, np.float32(scale)))
    before = None
    with contextlib.closing(read_ahead(driving)) as chunks:
        for frames in chunks:
            rendered = network.run(
                _animate, shared, network.filled_up(frames, chunk), axes=(None, 0), options=(relative_jacobian,)
            )
            # The devices work on this chunk while the caller writes the previous one.
            if before is not None:
                yield np.asarray(before[0])[: before[1]]
            before = rendered, len(frames)
    if before is not None:
        yield np.asarray(before[0])[: before[1]]


def detect(model: FirstOrderMotionModel, frame: Frame) -> Keypoints:
    """Detect the keypoints of one frame and copy them to the host."""
    return jax.tree.map(np.asarray, model.detect(to_float(frame)))


def best_frame(
    model: FirstOrderMotionModel,
    source: Frame,
    driving: Iterable[Chunk],
    *,
    chunk: int = 8,
    devices: Devices = None,
) -> BestFrame:
    """Find the driving frame whose keypoints best match the source's, regardless of position and size.

    The keypoints of each frame are centered and divided by the square root of their convex hull's area, then compared
    by the sum of squared differences. The published code does the same with facial landmarks. `driving`, `chunk` and
    `devices` are those of `animate`.

    Raises:
        InputError: if the keypoints of the source, or those of every driving frame, span no area.
    """
    wanted = _normalized(np.asarray(detect(model, source).position))
    if wanted is None:
        raise InputError("the source's keypoints span no area, so no best frame can be found; give its number")
    best, smallest, start = None, np.inf, 0
    network = Replicas(model, devices)
    with contextlib.closing(read_ahead(driving)) as chunks:
        for frames in chunks:
            found = network.run(detect_keypoints, to_float(network.filled_up(frames, chunk)), axes=(0,))
            found = jax.tree.map(np.asarray, found)
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
    """Center keypoints and scale them to a convex hull of area 1; None if they lie on a line."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return (position - position.mean(0)) / np.sqrt(ConvexHull(position).volume)
    except QhullError:
        return None


def detect_keypoints(model: FirstOrderMotionModel, frames: Real[Array, "b h w c"]) -> Keypoints:
    """Detect keypoints as a program of `Replicas.run`; `frames` are floats in [0, 1] or integers."""
    return model.detect(frames)


def _animate(
    model: FirstOrderMotionModel, shared: tuple, frames: UInt8[Array, "t h w c"], relative_jacobian: bool
) -> Float[Array, "t h w c"]:
    encoded, initial, scale = shared
    driving = model.detect(frames)
    if initial is not None:
        options = {"scale": scale, "relative_jacobian": relative_jacobian}
        driving = transfer_motion(encoded.keypoints, driving, initial, **options)
    return model.render(encoded, None, driving).prediction

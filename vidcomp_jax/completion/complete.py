"""Completes clips in one call, by one method or by several."""

from collections.abc import Mapping

import jax
from jaxtyping import Array, Key

from vidcomp_jax.completion.completers import Completer, Completion, KeypointCompleter, KnownFrames, known_ends
from vidcomp_jax.fomm.between import MAX_PIXELS, Frames, Render
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.motion.linear import LinearMotion
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.nn.frames import unit_frames


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
        first: first frames [b, h, w, c]; floats in [0, 1], or integers, which are scaled by the range of their type.
        last: last frames, of the same shape.
        num_frames: frames of each clip, both ends included; at least 2.
        motion: what moves the keypoints; linear interpolation if None.
        key: of a stochastic motion model's samples; another key gives other samples.
        render: with `both` a clip starts and ends with exactly the given frames.
        max_pixels: most pixels to render in one program; more are rendered in chunks of frames, then of clips.

    Raises:
        InputError: frames of different shapes, floats that are not in [0, 1], too few frames, or a motion model for
            other keypoints.
    """
    known = known_ends(unit_frames(first), unit_frames(last), num_frames)
    completer = KeypointCompleter(model, motion or LinearMotion(), render=render, max_pixels=max_pixels)
    return completer.complete(known, num_frames, jax.random.key(0) if key is None else key)


def complete_by_all(
    completers: Mapping[str, Completer], known: KnownFrames, num_frames: int, *, num_samples: int = 1, seed: int = 0
) -> dict[str, Completion]:
    """Complete the same clips by several methods.

    Args:
        completers: by name.
        known: the given frames.
        num_frames: frames of each clip.
        num_samples: of each clip by a stochastic method; the others have one.
        seed: of the samples.

    Returns:
        The clips by title: the name of the method, with the number of the sample, `wgan 1`, if it is stochastic.
    """
    results = {}
    for name, completer in completers.items():
        for sample in range(num_samples if completer.stochastic else 1):
            title = f"{name} {sample + 1}" if completer.stochastic else name
            key = jax.random.fold_in(jax.random.key(seed), sample)
            results[title] = completer.complete(known, num_frames, key)
    return results

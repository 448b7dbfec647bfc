"""Calls motion models: checks the known keypoints, compiles the model, and generates sequences of any length.

Input: the keypoints of known frames and their times. Output: the keypoints of all frames.

A sequence that is longer than the windows a model was trained on shows the motion of one window at a finer rate. First
the model generates keyframes, as many as one call gives, spread over the whole sequence; then Akima's interpolation
(Journal of the ACM 17, 1970, in the modified form of SciPy) gives the frames between them, so that positions and
velocities do not jump at a keyframe.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int, Key
from scipy.interpolate import Akima1DInterpolator

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.motion.known import check_ends, check_times
from vidcomp_jax.motion.model import MotionModel


def fill(
    motion: MotionModel, known: Keypoints, times: Sequence[int], num_frames: int, keys: Key[Array, " b"]
) -> Keypoints:
    """Generate the keypoints of all frames, in calls that are compiled once for each model structure and shape.

    Args:
        motion: the motion model.
        known: keypoints of the known frames: positions [b, n, k, 2] and Jacobians [b, n, k, 2, 2].
        times: index of each known frame, ascending.
        num_frames: length of the sequence, at least 2.
        keys: one random key per sequence; deterministic models ignore them.

    Returns:
        Keypoints [b, num_frames, k, ...], which equal the known ones exactly where they are known.

    Raises:
        InputError: times or keypoints do not fit each other or the model.
    """
    times = check_times(times, known.position.shape[1], num_frames)
    check_model(motion, known.position.shape[2])
    if motion.ends_only:
        check_ends(times, num_frames)
    if motion.num_frames is None or num_frames <= motion.num_frames:
        return _call(motion, known, jnp.asarray(times), num_frames, keys)
    return _by_keyframes(motion, known, times, num_frames, keys)


def check_model(motion: MotionModel, num_keypoints: int) -> None:
    """Raise an `InputError` unless the motion model accepts that number of keypoints."""
    if motion.num_keypoints not in (None, num_keypoints):
        raise InputError(
            f"the motion model is for {motion.num_keypoints} keypoints, the keypoint model has {num_keypoints}; train "
            "one on motion that this keypoint model extracted"
        )


def _call(motion: MotionModel, known: Keypoints, times, num_frames: int, keys, clock=None) -> Keypoints:
    if not isinstance(motion, nnx.Module):
        return motion.generate(known, times, num_frames, keys, clock)
    graphdef, state = nnx.split(motion)
    return _compiled(graphdef, num_frames, state, known, times, keys, clock)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(graphdef, num_frames, state, known, times, keys, clock):
    return nnx.merge(graphdef, state).generate(known, times, num_frames, keys, clock)


def _by_keyframes(
    motion: MotionModel, known: Keypoints, times: tuple[int, ...], num_frames: int, keys: Key[Array, " b"]
) -> Keypoints:
    """Generate a sequence of more frames than `motion` generates at once."""
    window = motion.num_frames or num_frames
    values = Keypoints(*(np.zeros((len(x), num_frames, *x.shape[2:]), np.float32) for x in known))
    for x, given_part in zip(values, known, strict=True):
        x[:, list(times)] = given_part
    done = np.zeros(num_frames, bool)
    done[list(times)] = True
    pieces, number = windows(keyframes(num_frames, times, window), window), 0
    while pieces := [piece for piece in pieces if not done[piece].all()]:
        # From left to right, beginning where frames are known.
        most = max(min(int(done[piece].sum()), 2) for piece in pieces)
        piece = next(piece for piece in pieces if done[piece].sum() >= most)
        piece = _with_anchors(piece, np.flatnonzero(done))
        # Padded to the length of a window, and known frames by repeating the last, so that one compiled program
        # serves all pieces.
        inside = np.flatnonzero(done[piece])
        inside = np.concatenate([inside, np.full(window - len(inside), inside[-1])])
        clock = (piece - piece[0]) * (window - 1) / (num_frames - 1)
        clock = np.concatenate([clock, clock[-1] + 1 + np.arange(window - len(piece))]).astype(np.float32)
        part_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        part = _call(motion, Keypoints(*(x[:, piece[inside]] for x in values)), inside, window, part_keys, clock)
        new = np.flatnonzero(~done[piece])
        for x, generated in zip(values, part, strict=True):
            x[:, piece[new]] = np.asarray(generated)[:, new]
        done[piece] = True
        number += 1
    there, missing = np.flatnonzero(done), np.flatnonzero(~done)
    for x in values:
        x[:, missing] = Akima1DInterpolator(there, x[:, there], axis=1, method="makima")(missing)
    return Keypoints(*map(jnp.asarray, values))


def keyframes(num_frames: int, times: Sequence[int], window: int) -> Int[np.ndarray, " n"]:
    """The frames to generate first: the known ones, and others spread evenly over the sequence, its ends included.

    Together they are as many as fit into a window, or more if too many frames are known.
    """
    for count in range(window, 1, -1):
        found = np.union1d(np.linspace(0, num_frames - 1, count).round().astype(int), times)
        if len(found) <= window:
            break
    return found


def windows(frames: Int[np.ndarray, " n"], window: int) -> list[Int[np.ndarray, " m"]]:
    """Split ascending frame numbers into windows, each overlapping the next by a quarter.

    If there are several, they have `window - 2` frames, which leaves room for one more on either side.
    """
    if len(frames) <= window:
        return [frames]
    length = max(window - 2, 2)
    last = len(frames) - length
    starts = [*range(0, last, max(length - max(length // 4, 1), 1)), last]
    return [frames[start : start + length] for start in starts]


def _with_anchors(piece: Int[np.ndarray, " m"], done: Int[np.ndarray, " d"]) -> Int[np.ndarray, " m2"]:
    """`piece` with the nearest frames before and after it of those in `done`, where its own ends are not among them."""
    before, after = done[done < piece[0]][-1:], done[done > piece[-1]][:1]
    return np.concatenate([before[: piece[0] not in done], piece, after[: piece[-1] not in done]])

"""Known frames of a sequence: which frames lie around each frame, and the straight line between them.

Input: values of the known frames and their times. Output: the neighbors of every frame, and values on the line.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints


class Neighbors(NamedTuple):
    """The known frames around every frame of sequences.

    Before the first and after the last known frame, both neighbors are that frame.

    Attributes:
        before: values of the last known frame up to each frame.
        after: values of the first known frame from each frame on; at a known frame, both are its own values.
        fraction: position of each frame in time between the two, in [0, 1]; 0 where they are the same frame.
        gap: time from the one to the other; 0 where they are the same frame.
        beyond: time to the only neighbor, before the first and after the last known frame; 0 elsewhere.
    """

    before: Float[Array, "b t v"]
    after: Float[Array, "b t v"]
    fraction: Float[Array, "b t 1"]
    gap: Float[Array, "b t 1"]
    beyond: Float[Array, "b t 1"]

    @property
    def line(self) -> Float[Array, "b t v"]:
        """The straight line between the known frames; the known values themselves where they are known."""
        return self.before + self.fraction * (self.after - self.before)


def neighbors(
    values: Float[Array, "b t v"], known: Bool[Array, "b t"], times: Float[Array, "#b t"] | None = None
) -> Neighbors:
    """Find the known frames around every frame.

    Args:
        values: values of all frames, of which only those of known frames are used.
        known: which frames are known; at least one of each sequence.
        times: time of each frame, ascending; its index if None.
    """
    count = values.shape[1]
    index = jnp.arange(count)
    times = jnp.broadcast_to(index.astype(jnp.float32) if times is None else times, known.shape)
    before = jax.lax.cummax(jnp.where(known, index, -1), axis=1)
    after = jax.lax.cummin(jnp.where(known, index, count), axis=1, reverse=True)
    before, after = jnp.where(before < 0, after, before), jnp.where(after == count, before, after)
    start, end = (jnp.take_along_axis(times, i, axis=1)[..., None] for i in (before, after))
    gap = end - start
    fraction = jnp.where(gap > 0, (times[..., None] - start) / jnp.where(gap > 0, gap, 1), 0)
    start_value, end_value = (jnp.take_along_axis(values, i[..., None], axis=1) for i in (before, after))
    return Neighbors(start_value, end_value, fraction, gap, jnp.where(gap > 0, 0, jnp.abs(times[..., None] - start)))


def line_between(first: Float[Array, "b v"], last: Float[Array, "b v"], num_frames: int) -> Float[Array, "b t v"]:
    """The straight line from `first` to `last` at constant speed."""
    time = jnp.linspace(0, 1, num_frames)[:, None]
    return (1 - time) * first[:, None] + time * last[:, None]


def place(
    known: Float[Array | np.ndarray, "b n *k"], times: Int[Array | np.ndarray, " n"], num_frames: int
) -> tuple[Float[Array, "b t v"], Bool[Array, "b t"]]:
    """Flatten the values of known frames into sequences of `num_frames` frames that are zero elsewhere.

    Returns:
        The sequences, and which of their frames are known.
    """
    flat = jnp.reshape(known, (*known.shape[:2], -1))
    values = jnp.zeros((len(flat), num_frames, flat.shape[-1]), flat.dtype).at[:, times].set(flat)
    return values, jnp.zeros((len(flat), num_frames), bool).at[:, times].set(True)


def keep_known(sequence: Keypoints, known: Keypoints, times: Int[Array | np.ndarray, " n"]) -> Keypoints:
    """Replace the keypoints [b, t, k, ...] at the known times with the known ones [b, n, k, ...]."""
    return Keypoints(*(jnp.asarray(x).at[:, times].set(given) for x, given in zip(sequence, known, strict=True)))


def check_times(times: Sequence[int], count: int, num_frames: int) -> tuple[int, ...]:
    """The times of known frames as integers, after checking them.

    Args:
        times: index of each known frame in its clip.
        count: number of known frames.
        num_frames: number of frames of the clip.

    Raises:
        InputError: there are fewer than two known frames or another number of times, or times are not in ascending
            order, or outside of the clip.
    """
    found = np.asarray(times)
    shown = ", ".join(map(str, found.ravel().tolist()))
    if found.ndim != 1 or len(found) != count:
        raise InputError(f"{count} known frames, but `times` holds {found.size} ({shown}); give one for each frame")
    if count < 2:
        raise InputError(f"`times` is {shown or 'empty'}; at least two frames must be known")
    if not (np.diff(found) > 0).all():
        raise InputError(f"`times` is {shown}; frame numbers must be in ascending order, each given once")
    if found[0] < 0 or found[-1] >= num_frames:
        raise InputError(f"`times` is {shown}; a clip of {num_frames} frames has frames 0 to {num_frames - 1}")
    return tuple(map(int, found))


def check_ends(times: Sequence[int], num_frames: int) -> None:
    """Raise an `InputError` unless the known frames are the first and the last one."""
    if tuple(times) != (0, num_frames - 1):
        raise InputError(
            f"`times` is {', '.join(map(str, times))} in a clip of {num_frames} frames; this method needs two known "
            f"frames, the first and the last: 0, {num_frames - 1}"
        )

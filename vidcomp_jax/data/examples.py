"""Draws training examples from clips and reads their frames: pairs of frames, and windows of consecutive frames.

Example number g of a run (g = step * batch_size + row) depends only on (seed, g). It belongs to epoch g // n, and every
epoch has its own permutation of the n subjects; of clips with a `window`, it visits each once for every whole window
that fits into it. The readers are functions of example numbers that can be pickled if
their clips can; this module imports neither JAX nor TensorFlow, so that a process that only reads starts quickly.
"""

import itertools
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8

from vidcomp_jax.data.clips import Clips, copy_frames, window_of
from vidcomp_jax.errors import InputError

_ORDER, _EXAMPLE = 0, 1
"""Constants mixed into the seeds, so that different uses of one seed draw independent random numbers."""
_EPOCHS = 4
"""Number of epochs whose order is kept: reading ahead and reading in parallel touch few at a time."""


class Order:
    """The order of the clips: every epoch visits every subject once, in its own random order.

    Where the clips have a `window`, an epoch visits a subject as often as whole windows fit into one of its clips, on
    average.

    Attributes:
        visits_per_epoch: number of visits in an epoch.

    Raises:
        InputError: `seed` is negative.
    """

    def __init__(self, clips: Clips, usable: Int[np.ndarray, " n"], seed: int):
        if seed < 0:
            raise InputError(f"`seed` is {seed}; it must not be negative")
        subjects = np.asarray(clips.subjects)[usable]
        by_subject = np.argsort(subjects, kind="stable")
        starts = np.flatnonzero(np.diff(subjects[by_subject], prepend=-1))
        self._groups = np.split(usable[by_subject], starts[1:])
        window = window_of(clips)
        visits = 1 if window is None else [max(int((clips.lengths[x] // window).mean()), 1) for x in self._groups]
        self._visited = np.repeat(np.arange(len(self._groups)), visits)
        self.visits_per_epoch = len(self._visited)
        self._seed = seed
        self._permutations: dict[int, np.ndarray] = {}

    def draw(self, number: int) -> tuple[int, np.random.Generator]:
        """The clip of example `number`, and the example's own random generator."""
        epoch, place = divmod(number, self.visits_per_epoch)
        rng = np.random.default_rng([self._seed, _EXAMPLE, number])
        group = self._groups[self._visited[self._permutation(epoch)[place]]]
        return int(group[rng.integers(len(group))]), rng

    def _permutation(self, epoch: int) -> Int[np.ndarray, " n"]:
        kept = self._permutations
        permutation = kept.get(epoch)
        if permutation is None:
            permutation = permutation_of(self.visits_per_epoch, self._seed, epoch)
            # Threads replace the whole dictionary and never change one that others may be reading.
            self._permutations = dict([*kept.items(), (epoch, permutation)][-_EPOCHS:])
        return permutation


def permutation_of(count: int, seed: int, epoch: int) -> Int[np.ndarray, " n"]:
    """The order of `count` visits in an epoch."""
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(count)


def epoch_size(clips: Clips) -> int:
    """Number of training pairs in one epoch, with one pair for every visit of a clip."""
    return Order(clips, np.arange(len(clips.names)), 0).visits_per_epoch


def pairs_of(
    length: int | np.integer, count: int, rng: np.random.Generator, repeat: bool = False
) -> Int[np.ndarray, "count 2"]:
    """Pairs of frames, the earlier one first; the two are different, or drawn independently with `repeat`."""
    if repeat:
        return np.sort(rng.integers(length, size=(count, 2)))
    first, second = np.divmod(rng.integers(length * (length - 1), size=count), length - 1)
    return np.sort(np.stack([first, second + (second >= first)], 1))


@runtime_checkable
class ExampleReader(Protocol):
    """Reads the examples of a batch by their numbers."""

    def batch_shape(self, count: int) -> tuple[int, ...]:
        """Shape of an array for `count` examples."""
        ...

    def fill(self, batch: np.ndarray, numbers: range) -> None:
        """Write the examples with these numbers into a uint8 array of that shape."""
        ...


class PairReader:
    """Reads pairs of frames by the numbers of the examples.

    Args:
        clips: where the frames come from; where they have a `window`, both frames of a pair are in one of that length.
        seed: of the order of the clips and the choice of frames.
        equal_frames: draw the two frames of a pair independently, so that they can be the same one.
        pairs_per_clip: number of consecutive examples from one clip, which is read once for all of them.

    Attributes:
        shape: of one example, (2, h, w, c).
        epoch_size: number of pairs in one epoch.

    Raises:
        InputError: a clip has a single frame, or `seed` is negative.
    """

    def __init__(self, clips: Clips, *, seed: int, equal_frames: bool = False, pairs_per_clip: int = 1):
        self._order = Order(clips, np.arange(len(clips.names)), seed)
        self.epoch_size = self._order.visits_per_epoch * pairs_per_clip
        shortest = int(clips.lengths.argmin())
        if clips.lengths[shortest] < 2:
            raise InputError(f"{clips.names[shortest]}: one frame, but a training pair needs two different ones")
        self._clips, self._equal_frames, self._pairs_per_clip = clips, equal_frames, pairs_per_clip
        self._window = window_of(clips)
        self.shape = (2, *clips.frame_shape)

    def __call__(self, numbers: range) -> UInt8[np.ndarray, "b 2 h w c"]:
        """The pairs with these numbers; the earlier frame of a pair comes first."""
        batch = np.empty(self.batch_shape(len(numbers)), np.uint8)
        self.fill(batch, numbers)
        return batch.swapaxes(0, 1)

    def batch_shape(self, count: int) -> tuple[int, ...]:
        """Shape of the array that `fill` takes for `count` pairs: (2, count, h, w, c)."""
        return (2, count, *self.shape[1:])

    def fill(self, batch: UInt8[np.ndarray, "2 b h w c"], numbers: range) -> None:
        """Write the pairs with these numbers into an array; the first half is for the earlier frames."""
        done = 0
        for clip, chosen in self.draw(numbers):
            place = batch[:, done : (done := done + len(chosen))]
            if len(chosen) == 1:
                copy_frames(self._clips, clip, chosen[0], place[:, 0])
            else:
                place[:] = self._clips.frames(clip, chosen.T.ravel()).reshape(place.shape)

    def draw(self, numbers: range) -> Iterator[tuple[int, Int[np.ndarray, "n 2"]]]:
        """For each visit of a clip: the clip, and the frames of its pairs."""
        count = self._pairs_per_clip
        for visit, group in itertools.groupby(numbers, lambda number: number // count):
            clip, rng = self._order.draw(visit)
            places = [number - visit * count for number in group]
            length, first = self._clips.lengths[clip], 0
            if self._window is not None and length > self._window:
                first, length = int(rng.integers(length - self._window + 1)), self._window
            yield clip, first + pairs_of(length, count, rng, self._equal_frames)[places]


class WindowReader:
    """Reads windows of consecutive frames by the numbers of the examples; a window starts at any frame of a clip.

    Args:
        clips: where the frames come from; those shorter than `num_frames` are skipped.
        num_frames: frames of a window.
        seed: of the order of the clips and the choice of windows.
        mirror: mirror half of the windows, at random, left to right.

    Attributes:
        shape: of one example, (t, h, w, c).
        epoch_size: number of windows in one epoch.

    Raises:
        InputError: no clip is long enough, or `seed` is negative.
    """

    def __init__(self, clips: Clips, *, num_frames: int, seed: int, mirror: bool = False):
        long_enough = np.flatnonzero(clips.lengths >= num_frames)
        if num_frames < 1 or not len(long_enough):
            raise InputError(
                f"`num_frames` is {num_frames}, the longest of {len(clips.names)} clips has {clips.lengths.max()} "
                "frames; ask for between 1 and that many"
            )
        self._order = Order(clips, long_enough, seed)
        self.epoch_size = self._order.visits_per_epoch
        self._clips, self._mirror = clips, mirror
        self.shape = (num_frames, *clips.frame_shape)

    def __call__(self, numbers: range) -> UInt8[np.ndarray, "b t h w c"]:
        """The windows with these numbers."""
        batch = np.empty(self.batch_shape(len(numbers)), np.uint8)
        self.fill(batch, numbers)
        return batch

    def batch_shape(self, count: int) -> tuple[int, ...]:
        """Shape of the array that `fill` takes for `count` windows: (count, t, h, w, c)."""
        return (count, *self.shape)

    def fill(self, batch: UInt8[np.ndarray, "b t h w c"], numbers: range) -> None:
        """Write the windows with these numbers into an array."""
        for place, number in zip(batch, numbers, strict=True):
            clip, start, mirrored = self.draw(number)
            indices = np.arange(start, start + len(place))
            copy_frames(self._clips, clip, indices, place[:, :, ::-1] if mirrored else place)

    def draw(self, number: int) -> tuple[int, int, bool]:
        """The clip of a window, its first frame, and whether it is mirrored."""
        clip, rng = self._order.draw(number)
        start = int(rng.integers(self._clips.lengths[clip] - self.shape[0] + 1))
        return clip, start, self._mirror and bool(rng.random() < 0.5)

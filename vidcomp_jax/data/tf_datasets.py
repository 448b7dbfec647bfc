"""Gives the clips of any data set to other programs as a `tf.data.Dataset` of trajectories, pairs or windows.

Elements are dictionaries, without a batch axis, to `.map`, `.batch` and `.prefetch`. They are numbered as the examples
of a training run are: element g depends only on (seed, g), and every epoch has its own order. Of several shards, the
one with index i has the elements i, i + num_shards, i + 2 num_shards and so on, so that together they have each element
of an epoch once. Importing this module does not import TensorFlow.
"""

import atexit
import collections
import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from vidcomp_jax.data.clips import Clips
from vidcomp_jax.data.examples import PairReader, WindowReader, permutation_of
from vidcomp_jax.data.lazy_tensorflow import import_tensorflow
from vidcomp_jax.errors import InputError

_THREADS = 8
_QUIET_SECONDS, _MOST_SECONDS = 0.1, 10.0
_EXTRAS = ("actions", "positions")
"""Methods of `BairClips` whose results are part of a trajectory."""


def trajectory_dataset(
    clips: Clips,
    *,
    seed: int | None = None,
    epochs: int | None = 1,
    start: int = 0,
    num_shards: int = 1,
    index: int = 0,
) -> Any:
    """A `tf.data.Dataset` of whole clips, each once an epoch.

    The `element_spec` is

    - `frames`: uint8 [t, h, w, c]; t is None if the clips have different lengths
    - `clip`: int64 [], the number of the clip, so that `clips.names[clip]` is its name
    - with BAIR also `actions`, float32 [30, 4], and `positions`, float32 [30, 3]

    Args:
        clips: where the frames come from, such as `open_clips(DataConfig(name="bair", num_channels=3), "train")`.
        seed: of the order, which is another one in every epoch; None keeps the order of `clips`.
        epochs: number of epochs, all in one dataset; None repeats without end.
        start: number of the first element, counted over all shards and epochs. A training loop that goes on at step i
            gives i times the size of its batch over all shards.
        num_shards: number of processes that share the elements, such as `jax.process_count()`.
        index: number of this process, from 0, such as `jax.process_index()`.

    Raises:
        InputError: an argument is out of range. What cannot be read raises an error of TensorFlow when the dataset is
            iterated over, with the file in its message, and an `InputError` from `iterate_numpy`.
    """
    count = len(clips.names)
    lengths = {int(length) for length in clips.lengths}
    length = lengths.pop() if len(lengths) == 1 else None
    extras = [name for name in _EXTRAS if hasattr(clips, name)]
    if seed is not None:
        _check_at_least(0, seed=seed)
        order = functools.lru_cache(maxsize=4)(functools.partial(permutation_of, count, seed))

    def read(number: int) -> list[Any]:
        epoch, place = divmod(number, count)
        clip = place if seed is None else int(order(epoch)[place])
        frames = clips.frames(clip, np.arange(clips.lengths[clip]))
        return [frames, np.int64(clip), *(getattr(clips, name)(clip) for name in extras)]

    fields = [_Field("frames", np.uint8, (length, *clips.frame_shape)), _CLIP]
    fields += [_Field(name, np.float32, getattr(clips, name)(0).shape) for name in extras]
    return _dataset(read, fields, count, epochs, start, num_shards, index)


def pair_dataset(
    clips: Clips,
    *,
    seed: int,
    equal_frames: bool = False,
    epochs: int | None = 1,
    start: int = 0,
    num_shards: int = 1,
    index: int = 0,
) -> Any:
    """A `tf.data.Dataset` of two different frames of a clip, as the First Order Motion Model trains on.

    With one shard, `.batch(n)` gives the frames of the batches of `pairs(clips, batch_size=n, seed=seed)`. The
    `element_spec` is

    - `source`, the earlier frame, and `driving`: uint8 [h, w, c]
    - `clip`: int64 [], the number of the clip, so that `clips.names[clip]` is its name
    - `times`: int64 [2], the numbers of the two frames

    Args:
        clips: where the frames come from.
        seed: of the order of the clips and the choice of frames.
        equal_frames: draw the two frames independently, so that they can be the same one.
        epochs, start, num_shards, index: as for `trajectory_dataset`.

    Raises:
        InputError: as `trajectory_dataset`; also if a clip has a single frame.
    """
    reader = PairReader(clips, seed=seed, equal_frames=equal_frames)

    def read(number: int) -> list[Any]:
        ((clip, times),) = reader.draw(range(number, number + 1))
        frames = clips.frames(clip, times[0])
        return [frames[0], frames[1], np.int64(clip), times[0]]

    frame = clips.frame_shape
    fields = [
        _Field("source", np.uint8, frame),
        _Field("driving", np.uint8, frame),
        _CLIP,
        _Field("times", np.int64, (2,)),
    ]
    return _dataset(read, fields, reader.epoch_size, epochs, start, num_shards, index)


def window_dataset(
    clips: Clips,
    *,
    num_frames: int,
    seed: int,
    epochs: int | None = 1,
    start: int = 0,
    num_shards: int = 1,
    index: int = 0,
) -> Any:
    """A `tf.data.Dataset` of consecutive frames of a clip, which start at a random one.

    With one shard, `.batch(n)` gives the batches of `windows(clips, num_frames=num_frames, batch_size=n, seed=seed)`.
    Clips with fewer frames are left out. The `element_spec` is

    - `frames`: uint8 [num_frames, h, w, c]
    - `clip`: int64 [], the number of the clip, so that `clips.names[clip]` is its name
    - `start`: int64 [], the number of the first frame

    Args:
        clips: where the frames come from.
        num_frames: frames of a window.
        seed: of the order of the clips and the choice of windows.
        epochs, start, num_shards, index: as for `trajectory_dataset`.

    Raises:
        InputError: as `trajectory_dataset`; also if no clip is long enough.
    """
    reader = WindowReader(clips, num_frames=num_frames, seed=seed)

    def read(number: int) -> list[Any]:
        clip, first, _ = reader.draw(number)
        return [clips.frames(clip, np.arange(first, first + num_frames)), np.int64(clip), np.int64(first)]

    fields = [_Field("frames", np.uint8, reader.shape), _CLIP, _Field("start", np.int64, ())]
    return _dataset(read, fields, reader.epoch_size, epochs, start, num_shards, index)


def iterate_numpy(dataset: Any) -> Iterator[Any]:
    """The elements of a dataset as NumPy arrays; the dataset may be mapped, batched and so on after it was made here.

    Raises:
        InputError: a clip cannot be read; the message names the file.
    """
    stream = _iterate(dataset, import_tensorflow())
    _streams.add(stream)
    return stream


def _iterate(dataset: Any, tf: Any) -> Generator[Any, None, None]:
    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.OpError as error:
        for failure in reversed(_reads.failures):
            if str(failure) in error.message:
                raise failure from None
        raise


class _Field(NamedTuple):
    name: str
    dtype: type[np.generic]
    shape: Sequence[int | None]


_CLIP = _Field("clip", np.int64, ())


def _dataset(
    read: Callable[[int], list[Any]],
    fields: Sequence[_Field],
    epoch: int,
    epochs: int | None,
    start: int,
    num_shards: int,
    index: int,
) -> Any:
    """The dataset of what `read` gives for the numbers of the elements."""
    _check_at_least(1, epochs=1 if epochs is None else epochs, num_shards=num_shards)
    _check_at_least(0, start=start)
    if not 0 <= index < num_shards:
        raise InputError(f"`index` is {index}; it must be at least 0 and below the number of shards, {num_shards}")
    tf = import_tensorflow()
    atexit.unregister(_close)
    atexit.register(_close)  # after what TensorFlow registers, so that it runs first
    dtypes = [tf.as_dtype(field.dtype) for field in fields]
    guarded = _reads.guarded(read)

    def load(number):
        values = tf.numpy_function(guarded, [number], dtypes, stateful=False)
        return {field.name: tf.ensure_shape(x, field.shape) for field, x in zip(fields, values, strict=True)}

    most = np.iinfo(np.int64).max
    stop = most if epochs is None else epochs * epoch
    numbers = tf.data.Dataset.range(min(start + index, stop), stop, num_shards)
    if epochs is None:
        numbers = numbers.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    return numbers.map(load, num_parallel_calls=min(os.cpu_count() or 1, _THREADS), deterministic=True)


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise InputError(f"`{name}` is {value}; it must be at least {least}")


class _Reads:
    """The reading that TensorFlow's threads ask for.

    Attributes:
        failures: the last errors; TensorFlow hands on their text only.
    """

    def __init__(self):
        self.failures: collections.deque[Exception] = collections.deque(maxlen=32)
        self._lock = threading.Lock()
        self._running, self._ended, self._closed = 0, 0.0, False

    def guarded(self, read: Callable[[int], list[Any]]) -> Callable[[np.integer], list[Any]]:
        """`read`, with its errors kept, until the reading is closed."""

        def guarded(number: np.integer) -> list[Any]:
            with self._lock:
                self._running += 1
            try:
                if self._closed:
                    raise RuntimeError("the program has ended")
                return read(int(number))
            except Exception as error:
                self.failures.append(error)
                raise
            finally:
                with self._lock:
                    self._running -= 1
                    self._ended = time.monotonic()

        return guarded

    def close(self) -> None:
        """Let no reading begin any more, and wait until what has begun is done."""
        self._closed = True
        began = time.monotonic()
        while time.monotonic() < began + _MOST_SECONDS:
            if not self._running and time.monotonic() > max(began, self._ended) + _QUIET_SECONDS:
                return
            time.sleep(_QUIET_SECONDS / 10)


_reads = _Reads()
_streams: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


def _close() -> None:
    """Stop reading ahead before Python shuts down, when a thread of TensorFlow that still reads would never end.

    Iterators that the program still holds read on until their buffers are full; each read now ends at once.
    """
    atexit.unregister(_close)
    for stream in list(_streams):
        with contextlib.suppress(ValueError):  # in use by another thread
            stream.close()
    _reads.close()

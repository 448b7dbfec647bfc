"""The interface of data set readers, and helpers to read their files in parallel and count unusable ones."""

import collections
import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from vidcomp_jax.data.clips import Channels, Clips, Split
from vidcomp_jax.errors import InputError

_UNREADABLE_SHARE = 0.1

T = TypeVar("T")
S = TypeVar("S")
_log = logging.getLogger(__name__)


class TooShort(InputError):
    """A video with too few frames for a clip: left out, but not counted as unreadable."""


class WrongSetting(InputError):
    """A setting does not fit a video: an error of the whole data set, not of the video."""


class Source(NamedTuple):
    """A video, in any form, that clips are read from.

    Attributes:
        name: unique, and stable when the data set moves; usually its path below the data set's folder.
        path: the file or folder.
        files: all files that it consists of.
    """

    name: str
    path: Path
    files: tuple[Path, ...]


class Clip(NamedTuple):
    """One decoded clip.

    Attributes:
        name: unique.
        subject: name of what it shows.
        frames: uint8 [t, h, w, c].
        fps: frames per second.
        scores: of every frame, how likely a scene begins with it; none if scenes are not wanted.
    """

    name: str
    subject: str
    frames: np.ndarray
    fps: float
    scores: Sequence[float] = ()


class LeftOut(NamedTuple):
    """A part of a source that is not used: its name, and the error; a TooShort error if it is readable."""

    name: str
    error: InputError


def subject_of(name: str) -> str:
    """The subject of a clip or video: its name up to the first #."""
    return name.partition("#")[0]


def as_file(source: Source) -> contextlib.AbstractContextManager[Path]:
    """The file of a source that consists of a single video file."""
    return contextlib.nullcontext(source.files[0])


class Reader(NamedTuple):
    """Everything that is specific to a data set; `datasets.READERS` lists all of them.

    Attributes:
        field: name of the field of `DataConfig` with the data set's settings.
        open: `(place, split, size=, num_channels=, cache_dir=, config=, skip_unreadable=)` -> the clips of one split.
            `place` is the data set's folder or file, `config` its settings; the others are those of `DataConfig`.
        sources: `(place, split, config)` -> the files of one split that clips are read from, readable or not.
        identity: settings that determine which clips there are and what they show. A model should be used with the
            values it was trained with. Settings of how clips are read are not included.
        subject_of: returns the subject that the clip with this name shows.
        file_of: a context manager that provides a source as a file, unpacked from its archive if necessary.
        has_files: whether the data set is read from a folder or file.
        files: what its files are called in messages.
        stored: height, width and channels of all stored frames, for formats whose files do not state them.
        strict: whether a single unreadable clip stops training, unless unreadable clips are skipped.
    """

    field: str
    open: Callable[..., Clips]
    sources: Callable[[Any, Split, Any], Sequence[Source]]
    identity: tuple[str, ...]
    subject_of: Callable[[str], str] = subject_of
    file_of: Callable[[Source], contextlib.AbstractContextManager[Path]] = as_file
    has_files: bool = True
    files: str = "videos"
    stored: tuple[int, int, Channels] | None = None
    strict: bool = False


class Outcomes:
    """Collects the videos of a data set that cannot be used, and raises an error if there are too many.

    Attributes:
        label: name of the data set, for messages.
        left_out: reasons by name.
        unreadable: names of videos that cannot be read; those that are merely too short are not included.
    """

    def __init__(self, label: str, total: int, skip_unreadable: bool):
        self.label = label
        self.left_out: dict[str, str] = {}
        self.unreadable: list[str] = []
        self._total, self._skip = total, skip_unreadable

    def leave_out(self, name: str, error: InputError):
        """Record why the video `name` is not used; raise an InputError once too many are unreadable.

        A `WrongSetting` is raised at once.
        """
        if isinstance(error, WrongSetting):
            raise error
        self.left_out[name] = str(error)
        if not isinstance(error, TooShort):
            self.unreadable.append(name)
        self.check(self.left_out, self.unreadable)

    def check(self, left_out: Mapping[str, str], unreadable: Sequence[str]):
        """Raise an InputError if more than a tenth is `unreadable`, unless unreadable videos are skipped."""
        if not self._skip and len(unreadable) > _UNREADABLE_SHARE * self._total:
            raise InputError(
                f"{self.label}: more than a tenth of {self._total} videos cannot be read; {len(unreadable)} so far, "
                f"the last is {left_out[unreadable[-1]]}; `skip_unreadable` goes on without them"
            )

    def check_any_left(self, count: int):
        """Raise an InputError if the sources gave no clip at all."""
        if not count:
            name, reason = next(iter(self.left_out.items()))
            raise InputError(f"{self.label}: none of {self._total} videos can be used; for instance {name}: {reason}")


def report_left_out(label: str, left_out: dict[str, str], total: int):
    """Log every video that is not used, and how many there are."""
    if left_out:
        reasons = "".join(
            f"\n  {reason if name in reason else f'{name}: {reason}'}" for name, reason in left_out.items()
        )
        _log.warning("%s: %d of %d videos left out:%s", label, len(left_out), total, reasons)


class Progress:
    """A progress bar over items of different sizes, with the time that is left, from the share of each that is done.

    Without `sizes`, all count the same, and the bar counts items.

    Attributes:
        done: how much is done, in the unit of `sizes`.
    """

    def __init__(self, label: str, items: Sequence[Any], sizes: Sequence[int] | None = None):
        self._label, self._total = label, len(items) if sizes is None else sum(sizes)
        self._sizes = None if sizes is None else dict(zip(items, sizes, strict=True))
        self.done, self._parts = 0, dict.fromkeys(items if sizes is not None else (), 0)
        self._lock, self._closed = threading.Lock(), False

    def advance(self, item: Any, share: float) -> None:
        """Show that `share` of an item is done, between 0 and 1; called from any thread.

        Raises:
            InputError: the bar is closed: whatever is still at work is to stop.
        """
        if self._closed:
            raise InputError(f"{self._label}: stopped")
        if self._sizes is None:
            return
        with self._lock:
            more = round(self._sizes[item] * share) - self._parts[item]
            self._parts[item] += more
            self.done += more
            self._bar.update(more)

    def finish(self, item: Any) -> None:
        """Show that an item is done."""
        if self._sizes is None:
            self._bar.update()
        self.advance(item, 1.0)

    def __enter__(self) -> "Progress":
        unit = "video" if self._sizes is None else "B"
        interval = 0.1 if sys.stderr.isatty() else 30.0
        scale = self._sizes is not None
        self._bar = tqdm(total=self._total, desc=self._label, unit=unit, unit_scale=scale, mininterval=interval)
        return self

    def __exit__(self, *error: object) -> None:
        self._closed = True
        self._bar.close()


def in_parallel(
    work: Callable[[S], T], items: Sequence[S], label: str, progress: Progress | None = None
) -> Iterator[tuple[S, T | InputError]]:
    """Run `work` on the items in parallel; yield each item, in order, with its result or error.

    `progress` shows how far it is; by default, it counts the items.
    """
    workers = min(os.cpu_count() or 1, 8)
    executor = ThreadPoolExecutor(workers)
    waiting: collections.deque[tuple[S, Future[T]]] = collections.deque()
    try:
        with progress or Progress(label, items) as bar:
            for item in [*items, *[None] * workers]:
                if item is not None:
                    waiting.append((item, executor.submit(work, item)))
                if waiting and (item is None or len(waiting) > workers):
                    done, future = waiting.popleft()
                    try:
                        yield done, future.result()
                    except InputError as error:
                        yield done, error
                    bar.finish(done)
    finally:
        executor.shutdown(cancel_futures=True)


def numbered(subjects: Sequence[str]) -> list[int]:
    """Subjects as numbers from 0 without gaps."""
    numbers = {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}
    return [numbers[subject] for subject in subjects]


def natural_order(name: str) -> list[str | int]:
    """Sorting key of names that puts 2 before 10; text and numbers alternate, so they are never compared."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", name))]


def held_out(items: Sequence[T], fraction: float, seed: int) -> set[T]:
    """A random fraction of `items` to test on: at least one, but not all; needs at least two."""
    order = np.random.default_rng([seed]).permutation(len(items))
    count = min(max(round(fraction * len(items)), 1), len(items) - 1)
    return {items[i] for i in order[:count]}

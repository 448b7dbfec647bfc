"""Decoded clips on disk: files in, `ArrayClips` over one memory-mapped file out, made on first use.

A cache is a folder named after what it was made from (names, sizes and times of the files, the settings, the format),
so that changed data or settings make another one. It is written under a temporary name and renamed when complete:
what carries a cache's name is whole, and of two processes making the same one, the first to finish wins.
"""

import collections
import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from vidcomp_jax.data.clips import ArrayClips
from vidcomp_jax.errors import InputError

_FORMAT = 2
_UNREADABLE_SHARE = 0.1
_STALE_SECONDS = 24 * 3600
_PROJECT_AFTER = 10

T = TypeVar("T")
S = TypeVar("S")
_log = logging.getLogger(__name__)


class TooShort(InputError):
    """A video with too few frames for a clip: left out, but not counted as unreadable."""


class Source(NamedTuple):
    """A video, in whatever form, that clips are made from.

    Attributes:
        name: unique, and stable when the data set moves; usually its path below the data set's folder.
        path: the file or folder.
        files: every file it is made of.
    """

    name: str
    path: Path
    files: tuple[Path, ...]


class Clip(NamedTuple):
    """One decoded clip: its name, subject, frames uint8 [t, h, w, c] and rate."""

    name: str
    subject: str
    frames: np.ndarray
    fps: float


class LeftOut(NamedTuple):
    """A part of a source that gives no clip: its name, and why; of type TooShort if it could be read."""

    name: str
    error: InputError


def cached_clips(
    sources: Sequence[Source],
    decode: Callable[[Source], Sequence[Clip | LeftOut]],
    *,
    settings: dict,
    frame_shape: tuple[int, int, int],
    cache_dir: Path,
    label: str,
    skip_unreadable: bool = False,
) -> ArrayClips:
    """The clips that `decode` makes of all `sources`, in order, from the cache or decoded now.

    Args:
        decode: called on several threads; raises InputError for what cannot be read, TooShort for too few frames.
        settings: what the result depends on besides the files; JSON.
        label: names the data set in messages, the progress bar and the cache's folder.
        skip_unreadable: go on however many sources are unreadable.

    Raises:
        InputError: more than a tenth of the sources is unreadable and not skipped, no clip is left, the disk is too
            full, or a cache was damaged later. Fewer unreadable sources are logged, and stand in `left_out`.
    """
    outcomes = Outcomes(label, len(sources), skip_unreadable)
    folder = cache_dir / f"{label}-{fingerprint(sources, settings)}"
    if not folder.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        _make(folder, sources, decode, frame_shape, outcomes)
    clips = _open(folder, frame_shape)
    outcomes.check(clips.left_out, clips.unreadable)
    report_left_out(label, clips.left_out, len(sources))
    return clips


def fingerprint(sources: Sequence[Source], settings: dict) -> str:
    """Hash of the settings and of the files' names, sizes and times of change."""
    digest = hashlib.sha256(json.dumps([_FORMAT, settings], sort_keys=True, default=str).encode())
    for source in sources:
        for file in source.files:
            status = file.stat()
            digest.update(f"{source.name}\0{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


class Outcomes:
    """Counts what cannot be used of a data set, and stops when it is too much.

    Attributes:
        label: names the data set.
        left_out: name -> reason.
        unreadable: names of those that cannot be read; too short is not unreadable.
    """

    def __init__(self, label: str, total: int, skip_unreadable: bool):
        self.label = label
        self.left_out: dict[str, str] = {}
        self.unreadable: list[str] = []
        self._total, self._skip = total, skip_unreadable

    def leave_out(self, name: str, error: InputError):
        """Note why what is called `name` is not used; raise once too much is unreadable."""
        self.left_out[name] = str(error)
        if not isinstance(error, TooShort):
            self.unreadable.append(name)
        self.check(self.left_out, self.unreadable)

    def check(self, left_out: Mapping[str, str], unreadable: Sequence[str]):
        """Raise if more than a tenth is `unreadable`, for the reasons in `left_out`, and this is not skipped."""
        if not self._skip and len(unreadable) > _UNREADABLE_SHARE * self._total:
            raise InputError(
                f"{self.label}: more than a tenth of {self._total} videos cannot be read; {len(unreadable)} so far, "
                f"the last is {left_out[unreadable[-1]]}; --skip-unreadable goes on without them"
            )

    def check_any_left(self, count: int):
        """Raise if no clip came of all the sources."""
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


def in_parallel(work: Callable[[S], T], items: Sequence[S], label: str) -> Iterator[tuple[S, T | InputError]]:
    """`work(item)` of every item in order, or the InputError it raised, done a few ahead under a progress bar."""
    workers = min(os.cpu_count() or 1, 8)
    executor = ThreadPoolExecutor(workers)
    waiting = collections.deque()
    interval = 0.1 if sys.stderr.isatty() else 30.0
    try:
        with tqdm(total=len(items), desc=label, unit="video", mininterval=interval) as bar:
            for item in [*items, *[None] * workers]:
                if item is not None:
                    waiting.append((item, executor.submit(work, item)))
                if waiting and (item is None or len(waiting) > workers):
                    done, future = waiting.popleft()
                    try:
                        yield done, future.result()
                    except InputError as error:
                        yield done, error
                    bar.update()
    finally:
        executor.shutdown(cancel_futures=True)


def _make(folder: Path, sources: Sequence[Source], decode, frame_shape, outcomes: Outcomes):
    _remove_stale(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        temporary.mkdir()
        with (temporary / "frames.bin").open("wb") as file:
            index = _write_clips(file, sources, decode, frame_shape, outcomes)
        (temporary / "index.json").write_text(json.dumps(index))
        with contextlib.suppress(FileExistsError):
            _rename(temporary, folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise InputError(f"{folder.parent}: the disk is full; free some space or choose another cache_dir") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, folder: Path):
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
            raise FileExistsError from None
        raise


def _write_clips(file: BinaryIO, sources: Sequence[Source], decode, frame_shape, outcomes: Outcomes) -> dict:
    clips: list[Clip] = []
    total, done = sum(map(_num_bytes, sources)), 0
    for number, (source, result) in enumerate(in_parallel(decode, sources, f"decoding {outcomes.label}"), 1):
        if isinstance(result, InputError):
            result = [LeftOut(source.name, result)]
        for clip in result:
            if isinstance(clip, LeftOut):
                outcomes.leave_out(*clip)
                continue
            if clip.frames.dtype != np.uint8 or clip.frames.shape[1:] != frame_shape:
                raise ValueError(f"{clip.name}: frames {clip.frames.shape[1:]} do not match {frame_shape}")
            file.write(np.ascontiguousarray(clip.frames).data)
            clips.append(clip._replace(frames=np.empty((len(clip.frames), 0))))
        done += _num_bytes(source)
        if number >= min(_PROJECT_AFTER, len(sources)):
            _check_space(Path(file.name).parent, file.tell() * (total - done) / max(done, 1))
    outcomes.check_any_left(len(clips))
    rates = collections.Counter(clip.fps for clip in clips)
    return {
        "names": [clip.name for clip in clips],
        "lengths": [len(clip.frames) for clip in clips],
        "subjects": numbered([clip.subject for clip in clips]),
        "fps": rates.most_common(1)[0][0],
        "left_out": outcomes.left_out,
        "unreadable": outcomes.unreadable,
    }


def numbered(subjects: Sequence[str]) -> list[int]:
    """Subjects as numbers from 0 without gaps."""
    numbers = {subject: number for number, subject in enumerate(dict.fromkeys(subjects))}
    return [numbers[subject] for subject in subjects]


def _open(folder: Path, frame_shape: tuple[int, int, int]) -> ArrayClips:
    try:
        index = json.loads((folder / "index.json").read_text())
        count = sum(index["lengths"])
        array = np.asarray(np.memmap(folder / "frames.bin", np.uint8, "r"))
        return ArrayClips(array.reshape(count, *frame_shape), **index)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder}: this cache was damaged ({error}); delete the folder to have it made again"
        ) from None


def _num_bytes(source: Source) -> int:
    return sum(file.stat().st_size for file in source.files)


def _check_space(folder: Path, needed: float):
    """Stop early rather than with a full disk; `needed` grows with what is left to decode."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder.parent}: the other videos take about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free; "
            "free some space, choose another cache_dir, or read a folder's videos on demand (folder.cache)"
        )


def _remove_stale(folder: Path):
    """Delete what a killed process left behind of this cache, once it is a day old."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        with contextlib.suppress(OSError):
            newest = max(path.stat().st_mtime for path in [leftover, *leftover.iterdir()])
            if time.time() - newest > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)

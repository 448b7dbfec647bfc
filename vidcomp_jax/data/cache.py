"""Caches decoded clips on disk.

Input: files and a function that decodes them. Output: `ArrayClips` over one memory-mapped file, written on first use.
The name of a cache's folder contains a hash of the names, sizes and modification times of the files, the settings and
the format, so that changed data or settings lead to a new cache. It is written under a temporary name and renamed when
complete; if two processes write the same cache, the first one to finish wins. The frames of every clip have checksums,
which are verified when the clip is first read, or, of a long clip, that part of it.
"""

import collections
import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vidcomp_jax.data.clips import ArrayClips, checksums_of
from vidcomp_jax.data.sources import Clip, LeftOut, Outcomes, Progress, Source, in_parallel, numbered, report_left_out
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.folders import new_folder

_FORMAT = 2
_PROJECT_AFTER = 10


def cached_clips(
    sources: Sequence[Source],
    decode: Callable[[Source], Sequence[Clip | LeftOut]],
    *,
    settings: dict,
    frame_shape: tuple[int, int, int],
    cache_dir: Path,
    label: str,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> ArrayClips:
    """The clips that `decode` makes of all `sources`, in order, read from the cache if there is one.

    Args:
        decode: called on several threads; raises InputError if a source cannot be read, TooShort if it has too few
            frames.
        settings: what the result depends on besides the files, as JSON.
        label: name of the data set in messages, the progress bar and the name of the cache's folder.
        skip_unreadable: continue no matter how many sources are unreadable.
        progress: the progress bar, which is shown if anything is to be decoded; by default, it counts the sources.

    Raises:
        InputError: more than a tenth of the sources is unreadable and not skipped, no clip is left, the disk is too
            full, or the cache is damaged. Fewer unreadable sources are logged and listed in `left_out`.
    """
    outcomes = Outcomes(label, len(sources), skip_unreadable)
    folder = cache_folder(cache_dir, label, sources, settings)
    if not folder.exists():
        _make(folder, sources, decode, frame_shape, outcomes, progress)
    clips = _open(folder, frame_shape)
    outcomes.check(clips.left_out, clips.unreadable)
    report_left_out(label, clips.left_out, len(sources))
    return clips


def cache_folder(cache_dir: Path, label: str, sources: Sequence[Source], settings: dict) -> Path:
    """The folder that holds the clips which `cached_clips` decodes with these arguments, once they are decoded."""
    return cache_dir / f"{label}-{key_of(sources, settings)}"


def key_of(sources: Sequence[Source], settings: dict) -> str:
    """A hash of the settings and of the files' names, sizes and modification times, to name cached data."""
    digest = hashlib.sha256(json.dumps([_FORMAT, settings], sort_keys=True, default=str).encode())
    for source in sources:
        for file in source.files:
            status = file.stat()
            digest.update(f"{source.name}\0{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _make(folder: Path, sources: Sequence[Source], decode, frame_shape, outcomes: Outcomes, progress):
    # Another process may have finished first; its cache has the same contents.
    with contextlib.suppress(FileExistsError), new_folder(folder, "cache") as temporary:
        try:
            with (temporary / "frames.bin").open("wb") as file:
                index = _write_clips(file, sources, decode, frame_shape, outcomes, progress)
            (temporary / "index.json").write_text(json.dumps(index))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise InputError(
                f"{folder.parent}: the disk is full; free some space or choose another `cache_dir`"
            ) from None


def _write_clips(file: BinaryIO, sources: Sequence[Source], decode, frame_shape, outcomes: Outcomes, progress) -> dict:
    clips: list[Clip] = []
    checksums: list[int | list[int]] = []
    total, done = sum(map(num_bytes, sources)), 0
    for number, (source, result) in enumerate(in_parallel(decode, sources, f"decoding {outcomes.label}", progress), 1):
        if isinstance(result, InputError):
            result = [LeftOut(source.name, result)]
        for clip in result:
            if isinstance(clip, LeftOut):
                outcomes.leave_out(*clip)
                continue
            if clip.frames.dtype != np.uint8 or clip.frames.shape[1:] != frame_shape:
                raise ValueError(f"{clip.name}: frames {clip.frames.shape[1:]} do not match {frame_shape}")
            file.write(np.ascontiguousarray(clip.frames).data)
            checksums.append(checksums_of(clip.frames))
            clips.append(clip._replace(frames=np.empty((len(clip.frames), 0))))
        done += num_bytes(source)
        if number >= min(_PROJECT_AFTER, len(sources)):
            _check_space(Path(file.name).parent, file.tell() * (total - done) / max(done, 1))
    outcomes.check_any_left(len(clips))
    rates = collections.Counter(clip.fps for clip in clips)
    scores = {"scores": [clip.scores for clip in clips]} if any(clip.scores for clip in clips) else {}
    return scores | {
        "names": [clip.name for clip in clips],
        "lengths": [len(clip.frames) for clip in clips],
        "subjects": numbered([clip.subject for clip in clips]),
        "fps": rates.most_common(1)[0][0],
        "checksums": checksums,
        "left_out": outcomes.left_out,
        "unreadable": outcomes.unreadable,
    }


def _open(folder: Path, frame_shape: tuple[int, int, int]) -> ArrayClips:
    try:
        index = json.loads((folder / "index.json").read_text())
        count = sum(index["lengths"])
        array = np.asarray(np.memmap(folder / "frames.bin", np.uint8, "r"))
        return ArrayClips(array.reshape(count, *frame_shape), **index, place=str(folder))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{folder}: this cache was damaged ({error}); delete the folder, and it is written again"
        ) from None


def num_bytes(source: Source) -> int:
    """Size of the files of a source."""
    return sum(file.stat().st_size for file in source.files)


def _check_space(folder: Path, needed: float):
    """Raise before the disk is full; `needed` is an estimate for the videos left to decode, in bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder.parent}: the other videos take about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} are free; "
            "free some space, choose another `cache_dir`, or read a folder's videos on demand (`folder.cache`)"
        )

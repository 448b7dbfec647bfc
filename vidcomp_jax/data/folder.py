"""Reads your own videos from a folder: video files, folders of frames, or strips of frames.

`data_dir` contains `train/` and `test/`, or all videos, which are then split at random by subject. The subject of a
video is the part of its name before the first `#` (`id10283#xyz#0001.mp4`), or the whole name.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.cache import cached_clips, key_of
from vidcomp_jax.data.clips import ArrayClips, Clips, Index, Indices, Split, checked
from vidcomp_jax.data.sources import (
    Clip,
    Outcomes,
    Reader,
    Source,
    TooShort,
    held_out,
    in_parallel,
    natural_order,
    numbered,
    report_left_out,
    subject_of,
)
from vidcomp_jax.errors import InputError, require, require_at_least, require_one_of, require_positive
from vidcomp_jax.media.images import IMAGE_SUFFIXES, center_square, read_image, resize
from vidcomp_jax.media.video import VIDEO_SUFFIXES, iterate_frames, probe, read_frames
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.untrusted import Visited, check_name, read_json

_CHUNK = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """How a folder of videos is read."""

    id_sampling: bool = False
    """Visit every subject (the name before the first #) once per epoch, with one of its clips, not every clip."""
    test_fraction: float = 0.2
    """Fraction of the subjects that is held out for testing if there are no train/ and test/ folders."""
    seed: int = 0
    """Seed of the random split."""
    fit: Literal["crop", "stretch"] = "crop"
    """How frames are made square: crop to the center, or stretch, which changes the aspect ratio."""
    image_fps: float = 25.0
    """Frame rate of clips that are stored as still images."""
    cache: bool = True
    """Decode everything once and keep it on disk; False decodes frames for every batch (slow, needs no disk space)."""

    def __post_init__(self):
        require(0 < self.test_fraction < 1, self, "test_fraction", "between 0 and 1")
        require_at_least(self, seed=0)
        require_one_of(self, fit=("crop", "stretch"))
        require_positive(self, "image_fps")


def open_folder(
    data_dir: Path,
    split: Split,
    *,
    size: int,
    num_channels: int,
    cache_dir: Path,
    config: FolderConfig,
    skip_unreadable: bool = False,
) -> Clips:
    """Open one clip per video, named by its path relative to the split's folder.

    Raises:
        InputError: there are no videos, too few to split, or more than a tenth is unreadable and not skipped.
    """
    sources = split_sources(data_dir, split, config)
    reader = _Decoder(size, num_channels, config)
    label = f"folder-{re.sub(r'[^A-Za-z0-9_-]', '_', data_dir.resolve().name)}-{size}-{split}"
    settings = {"size": size, "num_channels": num_channels, "fit": config.fit, "image_fps": config.image_fps}
    clips: ArrayClips | StreamedClips
    if config.cache:
        clips = cached_clips(
            sources,
            reader.decode,
            settings=settings,
            frame_shape=reader.frame_shape,
            cache_dir=cache_dir,
            label=label,
            skip_unreadable=skip_unreadable,
        )
    else:
        index_path = cache_dir / f"{label}-{key_of(sources, settings)}.json"
        clips = StreamedClips(sources, reader, index_path, Outcomes(label, len(sources), skip_unreadable))
    if not config.id_sampling:
        clips.subjects = np.arange(len(clips.names))
    return clips


def split_sources(data_dir: Path, split: Split, config: FolderConfig) -> list[Source]:
    """The videos of one split, ordered by name; the splits of a random division share no subject."""
    folders = [data_dir / name for name in ("train", "test")]
    if any(folder.is_dir() for folder in folders):
        if not (data_dir / split).is_dir():
            raise InputError(f"{data_dir}: has {'test' if split == 'train' else 'train'}/ but no {split}/")
        return find_sources(data_dir / split)
    sources = find_sources(data_dir)
    subjects = sorted({subject_of(source.name) for source in sources})
    if len(subjects) < 2:
        raise InputError(
            f"{data_dir}: a single subject ({subjects[0]}); a split into train and test needs at least two"
        )
    test = held_out(subjects, config.test_fraction, config.seed)
    return [source for source in sources if (subject_of(source.name) in test) == (split == "test")]


def find_sources(folder: Path) -> list[Source]:
    """Videos below `folder`: video files at any depth, folders of images, and images (strips) in `folder` itself."""
    found = sorted(_search(folder, folder, Visited(folder)), key=lambda source: natural_order(source.name))
    if not found:
        endings = " ".join(VIDEO_SUFFIXES)
        raise InputError(f"{folder}: no videos here ({endings}), no folders of frames and no strips of frames (.png)")
    return found


def _search(folder: Path, root: Path, visited: Visited) -> Iterator[Source]:
    images = []
    for path in folder.iterdir():
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            continue
        check_name(path)
        if path.is_dir():
            if visited.is_new(path):
                yield from _search(path, root, visited)
        elif suffix in VIDEO_SUFFIXES:
            yield Source(path.relative_to(root).as_posix(), path, (path,))
        elif suffix in IMAGE_SUFFIXES:
            images.append(path)
    if folder == root:
        yield from (Source(path.name, path, (path,)) for path in images)
    elif images:
        files = tuple(sorted(images, key=lambda path: natural_order(path.name)))
        yield Source(folder.relative_to(root).as_posix(), folder, files)


class _Decoder:
    """Reads the frames of a source in any of the three forms, at the requested size."""

    def __init__(self, size: int, num_channels: int, config: FolderConfig):
        self.frame_shape = (size, size, num_channels)
        self._size, self._num_channels, self._config = size, num_channels, config

    def decode(self, source: Source) -> list[Clip]:
        """The source as one clip."""
        if source.path.is_dir():
            chunks: Iterator[np.ndarray] = (self._images(files) for files in _batched(source.files))
        elif source.path.suffix.lower() in IMAGE_SUFFIXES:
            chunks = iter([self._strip(source.path)])
        else:
            chunks = iterate_frames(source.path, num_channels=self._num_channels, chunk=_CHUNK)
        frames = np.concatenate([self._fitted(chunk) for chunk in chunks])
        return [Clip(source.name, subject_of(source.name), _long_enough(source, len(frames), frames), self.fps(source))]

    def frames(self, source: Source, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Decode some frames of the source."""
        if source.path.is_dir():
            chunk = self._images([source.files[i] for i in indices])
        elif source.path.suffix.lower() in IMAGE_SUFFIXES:
            chunk = self._strip(source.path)[np.asarray(indices)]
        else:
            chunk = read_frames(source.path, num_channels=self._num_channels, indices=[int(i) for i in indices])
        return self._fitted(chunk)

    def measure(self, source: Source) -> tuple[int, float]:
        """Number of frames and rate, without decoding a video."""
        if source.path.is_dir():
            count = len(source.files)
        elif source.path.suffix.lower() in IMAGE_SUFFIXES:
            count = len(self._strip(source.path))
        else:
            count = probe(source.path).num_frames
        return _long_enough(source, count, count), self.fps(source)

    def fps(self, source: Source) -> float:
        """Frame rate of a video file, or the configured one for images."""
        return probe(source.path).fps if source.path.suffix.lower() in VIDEO_SUFFIXES else self._config.image_fps

    def _fitted(self, frames: np.ndarray) -> np.ndarray:
        return resize(center_square(frames) if self._config.fit == "crop" else frames, self._size)

    def _images(self, files) -> np.ndarray:
        images = [read_image(file, num_channels=self._num_channels) for file in files]
        for file, image in zip(files, images, strict=True):
            if image.shape != images[0].shape:
                sizes = [f"{shape[1]}x{shape[0]}" for shape in (image.shape, images[0].shape)]
                raise InputError(f"{file}: {sizes[0]} pixels, but {files[0].name} beside it has {sizes[1]}")
        return np.stack(images)

    def _strip(self, path: Path) -> np.ndarray:
        """Square frames that are stored side by side in one image."""
        image = read_image(path, num_channels=self._num_channels)
        height, width, channels = image.shape
        if width % height:
            raise InputError(
                f"{path}: {width}x{height} pixels; the width of a strip of square frames is a multiple of its height"
            )
        return np.moveaxis(image.reshape(height, width // height, height, channels), 1, 0)


class StreamedClips:
    """Clips that are decoded on demand; the attributes are those of `ArrayClips`.

    Frame counts are determined once and kept in the small file `index_path`.
    """

    def __init__(self, sources: list[Source], reader: _Decoder, index_path: Path, outcomes: Outcomes):
        index = _kept(index_path)
        if index is None:
            _write_index(index_path, sources, reader, outcomes)
            index = msgspec.json.decode(index_path.read_bytes(), type=_Index)
        self.left_out, self.unreadable = index.left_out, index.unreadable
        outcomes.check(self.left_out, self.unreadable)
        self._sources = [source for source in sources if source.name not in self.left_out]
        self._reader = reader
        self.names: Sequence[str] = [source.name for source in self._sources]
        self.lengths = np.array(index.lengths)
        self.subjects = np.array(numbered([subject_of(source.name) for source in self._sources]))
        self.fps = float(index.fps)
        self.frame_shape = reader.frame_shape
        report_left_out(outcomes.label, self.left_out, len(sources))

    def frames(self, clip: Index, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `indices` of clip number `clip`; see `Clips.frames`."""
        return self._reader.frames(self._sources[clip], checked(indices, self.lengths[clip]))


class _Index(msgspec.Struct):
    lengths: list[int]
    fps: float
    left_out: dict[str, str]
    unreadable: list[str]


def _kept(path: Path) -> _Index | None:
    """What was determined earlier; None if there is none, or its file is damaged."""
    try:
        return msgspec.convert(read_json(path), _Index) if path.exists() else None
    except (InputError, msgspec.ValidationError):
        return None


def _write_index(path: Path, sources: list[Source], reader: _Decoder, outcomes: Outcomes):
    measured = []
    for source, result in in_parallel(reader.measure, sources, f"measuring {outcomes.label}"):
        if isinstance(result, InputError):
            outcomes.leave_out(source.name, result)
        else:
            measured.append(result)
    outcomes.check_any_left(len(measured))
    lengths, rates = zip(*measured, strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    index = {
        "lengths": lengths,
        "fps": max(rates, key=rates.count),
        "left_out": outcomes.left_out,
        "unreadable": outcomes.unreadable,
    }
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(index))


def _long_enough(source: Source, count: int, result):
    if count < 2:
        raise TooShort(f"{source.path}: one frame, a clip needs at least 2")
    return result


def _batched(files: tuple[Path, ...]) -> Iterator[tuple[Path, ...]]:
    return (files[i : i + _CHUNK] for i in range(0, len(files), _CHUNK))


FOLDER = Reader("folder", open_folder, split_sources, identity=("fit", "test_fraction", "seed"))

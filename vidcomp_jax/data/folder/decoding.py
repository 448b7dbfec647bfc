"""Decodes the videos of a folder in any of their forms, at the requested size and frame rate."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.clips import Indices
from vidcomp_jax.data.collected import CollectedFrames
from vidcomp_jax.data.folder.config import FolderConfig
from vidcomp_jax.data.folder.sampling import Sampling
from vidcomp_jax.data.folder.scenes import SceneScores
from vidcomp_jax.data.sources import Clip, Source, TooShort, WrongSetting, subject_of
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.images import IMAGE_SUFFIXES, center_square, read_image, resize
from vidcomp_jax.media.video import iterate_frames, probe_once, read_frames

_MOST_FRAMES, _MOST_BYTES = 32, 2**25


class Measured(NamedTuple):
    """A video without its frames: how many there are, their rate, and their scene scores if scenes are wanted."""

    length: int
    fps: float
    scores: Sequence[float]


class Decoder:
    """Reads the frames of a source in any of the three forms.

    Args:
        size: height and width of the frames.
        num_channels: 1 for gray, 3 for RGB.
        config: settings of the folder.
        disk: folder for the frames of videos that are too long to be held in memory while they are decoded.
    """

    def __init__(self, size: int, num_channels: int, config: FolderConfig, disk: Path):
        self.frame_shape = (size, size, num_channels)
        self._size, self._num_channels, self._config, self._disk = size, num_channels, config, disk

    def decode(self, source: Source, advance: Callable[[Source, float], None]) -> list[Clip]:
        """The source as one clip; `advance` is told which share of it has been decoded."""
        frames = CollectedFrames(self.frame_shape, self._disk)

        def keep(chunk: np.ndarray, sampled: np.ndarray, share: float):
            once, places = np.unique(sampled, return_inverse=True)
            frames.add(self._fitted(chunk[once])[places])
            advance(source, share)

        _, fps, scores = self._scan(source, keep)
        return [Clip(source.name, subject_of(source.name), frames.array(), fps, scores)]

    def measure(self, source: Source, advance: Callable[[Source, float], None]) -> Measured:
        """Number and rate of the frames; a video is decoded only if its scenes are wanted."""
        if self._config.cut == "scenes":
            return self._scan(source, lambda chunk, sampled, share: advance(source, share))
        form = self._form(source)
        self._check_box(source, *form.size)
        sampling = Sampling(form.fps, self._config.fps)
        return Measured(_long_enough(source, sampling.count(form.num_frames)), sampling.fps, [])

    def frames(self, source: Source, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Decode some frames of the source."""
        stored = np.asarray(indices, np.int64)
        if self._config.fps is not None:
            stored = Sampling(self._form(source).fps, self._config.fps).stored_frames(stored)
        return self._fitted(self._boxed(self._read(source, stored)))

    def _scan(self, source: Source, keep: Callable[[np.ndarray, np.ndarray, float], None]) -> Measured:
        """Decode all of a source; `keep` gets every chunk, which of its frames are sampled, and the share decoded."""
        form = self._form(source)
        self._check_box(source, *form.size)
        sampling, scores, position = Sampling(form.fps, self._config.fps), SceneScores(), 0
        for stored in form.chunks():
            chunk = self._boxed(stored)
            if self._config.cut == "scenes":
                scores.add(chunk)
            stop = position + len(chunk)
            keep(chunk, sampling.within(position, stop) - position, min(stop / form.num_frames, 1.0))
            position = stop
        sampled = sampling.within(0, position)
        found = scores.of_frames(sampled) if self._config.cut == "scenes" else []
        return Measured(_long_enough(source, len(sampled)), sampling.fps, found)

    def _form(self, source: Source) -> "_Form":
        if source.path.is_dir():
            shape = read_image(source.files[0], num_channels=self._num_channels).shape
            count = _frames_at_once(int(np.prod(shape)))
            groups = (source.files[i : i + count] for i in range(0, len(source.files), count))
            chunks = (self._images(files, source.files[0], shape) for files in groups)
            return _Form(len(source.files), self._config.image_fps, shape[:2], lambda: chunks)
        if _is_image(source.path):
            frames = self._strip(source.path)
            return _Form(len(frames), self._config.image_fps, frames.shape[1:3], lambda: iter([frames]))
        info = probe_once(source.path)
        count = _frames_at_once(info.width * info.height * self._num_channels)
        read = {"num_channels": self._num_channels, "chunk": count}
        size = (info.height, info.width)
        return _Form(info.num_frames, info.fps, size, lambda: iterate_frames(source.path, **read))

    def _read(self, source: Source, stored: np.ndarray) -> UInt8[np.ndarray, "t h w c"]:
        if source.path.is_dir():
            files = [source.files[i] for i in stored]
            return self._images(files, files[0], read_image(files[0], num_channels=self._num_channels).shape)
        if _is_image(source.path):
            return self._strip(source.path)[stored]
        return read_frames(source.path, num_channels=self._num_channels, indices=[int(i) for i in stored])

    def _check_box(self, source: Source, rows: int, columns: int) -> None:
        if not self._config.box:
            return
        left, top, width, height = self._config.box
        if left + width > columns or top + height > rows:
            raise WrongSetting(
                f"`folder.box` is {left} {top} {width} {height}, up to column {left + width} and row {top + height}; "
                f"{source.path} has {columns}x{rows} pixels"
            )

    def _boxed(self, frames: np.ndarray) -> np.ndarray:
        """The part of the frames that is used."""
        if not self._config.box:
            return frames
        left, top, width, height = self._config.box
        return frames[:, top : top + height, left : left + width]

    def _fitted(self, frames: np.ndarray) -> np.ndarray:
        return resize(center_square(frames) if self._config.fit == "crop" else frames, self._size)

    def _images(self, files: Sequence[Path], first: Path, shape: tuple[int, ...]) -> np.ndarray:
        """Images as frames; all must have the shape of the image `first`."""
        images = [read_image(file, num_channels=self._num_channels) for file in files]
        for file, image in zip(files, images, strict=True):
            if image.shape != shape:
                here, there = (f"{width}x{height}" for height, width, _ in (image.shape, shape))
                raise InputError(f"{file}: {here} pixels, but {first.name} beside it has {there}")
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


class _Form(NamedTuple):
    """A source before it is decoded: how many frames, their rate, their height and width, and what decodes them."""

    num_frames: int
    fps: float
    size: tuple[int, ...]
    chunks: Callable[[], Iterator[np.ndarray]]


def _frames_at_once(num_bytes: int) -> int:
    """How many frames of that size a chunk has."""
    return min(max(_MOST_BYTES // num_bytes, 1), _MOST_FRAMES)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _long_enough(source: Source, count: int) -> int:
    if count < 2:
        raise TooShort(f"{source.path}: one frame, a clip needs at least 2")
    return count

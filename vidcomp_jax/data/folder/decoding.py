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
            frames.add(self._fitted(chunk[sampled]))
            advance(source, share)

        _, fps, scores = self._scan(source, keep)
        return [Clip(source.name, subject_of(source.name), frames.array(), fps, scores)]

    def measure(self, source: Source) -> Measured:
        """Number and rate of the frames; a video is decoded only if its scenes are wanted."""
        if self._config.cut == "scenes":
            return self._scan(source, lambda *_: None)
        form = self._form(source)
        if self._config.box:
            self._boxed(source, next(form.chunks()))
        sampling = Sampling(form.fps, self._config.fps)
        return Measured(_long_enough(source, sampling.count(form.num_frames)), sampling.fps, [])

    def frames(self, source: Source, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Decode some frames of the source."""
        stored = np.asarray(indices, np.int64)
        if self._config.fps is not None:
            stored = Sampling(self._form(source).fps, self._config.fps).stored_frames(stored)
        return self._fitted(self._boxed(source, self._read(source, stored)))

    def _scan(self, source: Source, keep: Callable[[np.ndarray, np.ndarray, float], None]) -> Measured:
        """Decode all of a source; `keep` gets every chunk, which of its frames are sampled, and the share decoded."""
        form = self._form(source)
        sampling, scores, position = Sampling(form.fps, self._config.fps), SceneScores(), 0
        for stored in form.chunks():
            chunk = self._boxed(source, stored)
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
            groups = (source.files[i : i + _MOST_FRAMES] for i in range(0, len(source.files), _MOST_FRAMES))
            return _Form(len(source.files), self._config.image_fps, lambda: map(self._images, groups))
        if _is_image(source.path):
            frames = self._strip(source.path)
            return _Form(len(frames), self._config.image_fps, lambda: iter([frames]))
        info = probe_once(source.path)
        chunk = min(max(_MOST_BYTES // (info.width * info.height * self._num_channels), 1), _MOST_FRAMES)
        read = {"num_channels": self._num_channels, "chunk": chunk}
        return _Form(info.num_frames, info.fps, lambda: iterate_frames(source.path, **read))

    def _read(self, source: Source, stored: np.ndarray) -> UInt8[np.ndarray, "t h w c"]:
        if source.path.is_dir():
            return self._images([source.files[i] for i in stored])
        if _is_image(source.path):
            return self._strip(source.path)[stored]
        return read_frames(source.path, num_channels=self._num_channels, indices=[int(i) for i in stored])

    def _boxed(self, source: Source, frames: np.ndarray) -> np.ndarray:
        """The part of the frames that is used."""
        if not self._config.box:
            return frames
        left, top, width, height = self._config.box
        if left + width > frames.shape[2] or top + height > frames.shape[1]:
            raise WrongSetting(
                f"`folder.box` is {left} {top} {width} {height}, up to column {left + width} and row {top + height}; "
                f"{source.path} has {frames.shape[2]}x{frames.shape[1]} pixels"
            )
        return frames[:, top : top + height, left : left + width]

    def _fitted(self, frames: np.ndarray) -> np.ndarray:
        return resize(center_square(frames) if self._config.fit == "crop" else frames, self._size)

    def _images(self, files: Sequence[Path]) -> np.ndarray:
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


class _Form(NamedTuple):
    """A source before it is decoded: the number of its frames, their rate, and what decodes them in chunks."""

    num_frames: int
    fps: float
    chunks: Callable[[], Iterator[np.ndarray]]


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _long_enough(source: Source, count: int) -> int:
    if count < 2:
        raise TooShort(f"{source.path}: one frame, a clip needs at least 2")
    return count

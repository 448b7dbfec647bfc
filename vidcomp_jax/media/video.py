"""Reads and writes video files, through imageio's ffmpeg (`ffmpeg.py`).

Frames are uint8 [t, h, w, c] with one channel (gray) or three (RGB). Reading returns every stored frame once, at its
original size, regardless of timestamps; writing preserves the size, number and rate of the frames. A bad file raises
one `InputError` that contains ffmpeg's or Pillow's message.
"""

import contextlib
import functools
import re
import subprocess
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from vidcomp_jax.errors import InputError
from vidcomp_jax.media.ffmpeg import INPUT, Header, audio_codec, decoder, executable, last_line, run
from vidcomp_jax.media.images import to_uint8
from vidcomp_jax.storage.atomic import check_new_file, full_disk, new_file
from vidcomp_jax.storage.untrusted import check_file

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".gif", ".mkv", ".webm")
"""Suffixes of the files in a folder that are taken for videos."""

Video = UInt8[np.ndarray, "t h w c"]

_MAX_GIF_RATE, _MOST_RUNS = 50.0, 64
_MP4_AUDIO = ("aac", "mp3", "ac3", "alac", "opus")


class VideoInfo(NamedTuple):
    """What a video file contains.

    Attributes:
        width, height: of the frames as displayed, in pixels.
        num_frames: number of stored frames.
        fps: frames per second.
        has_audio: whether the video has sound.
    """

    width: int
    height: int
    num_frames: int
    fps: float
    has_audio: bool


def probe(path: Path) -> VideoInfo:
    """Size, rate, sound and number of frames of a video, without decoding it.

    Raises:
        InputError: the file is missing, is not a video, or has no frames.
    """
    header = Header.read(path, "-map", "0:V:0", "-c", "copy", "-f", "null", "-")
    counts = re.findall(r"frame=\s*(\d+)", header.text)
    if not counts or counts[-1] == "0":
        raise InputError(f"{path}: a video without frames")
    return VideoInfo(header.width, header.height, int(counts[-1]), header.fps, "Audio:" in header.streams)


def probe_once(path: Path) -> VideoInfo:
    """The result of `probe`, kept while the file does not change, because `probe` reads the whole file.

    Raises:
        InputError: as for `probe`.
    """
    check_file(path)
    status = path.stat()
    return _probed(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _probed(path: Path, modified: int, size: int) -> VideoInfo:
    return probe(path)


def read_frames(path: Path, *, num_channels: int = 3, indices: Iterable[int] | None = None) -> Video:
    """All frames of a video, or those at the 0-based `indices`, in the order of `indices`.

    Raises:
        InputError: as for `iterate_frames`, or an index is beyond the last frame.
    """
    if indices is None:
        return np.concatenate(list(iterate_frames(path, num_channels=num_channels)))
    wanted, places = np.unique(np.asarray(list(indices), np.int64), return_inverse=True)
    runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1)
    if len(runs) > _MOST_RUNS:  # ffmpeg evaluates no longer expression; frames in between are decoded and dropped here
        runs = [wanted]
    select = "+".join(rf"between(n\,{run[0]}\,{run[-1]})" for run in runs)
    selected = np.concatenate([np.arange(run[0], run[-1] + 1) for run in runs])
    keep = set(np.flatnonzero(np.isin(selected, wanted)).tolist())
    with decoder(path, num_channels, "-vf", f"select={select}", "-frames:v", str(len(selected))) as stream:
        frames = [frame for number, frame in enumerate(stream) if number in keep]
    if len(frames) < len(wanted):
        raise InputError(f"{path}: frame {wanted[-1]} (counted from 0) was requested; the video is shorter or damaged")
    return np.stack(frames)[places]


def iterate_frames(path: Path, *, num_channels: int = 3, chunk: int = 32) -> Generator[Video, None, None]:
    """The frames of a video in order, up to `chunk` at a time; memory use does not grow with the video's length.

    Raises:
        InputError: the file is missing, is a folder or not a video, cannot be decoded, has no frames, or has fewer
            frames than its header announces (raised after the frames that can be decoded).
    """
    total, part = 0, []
    with decoder(path, num_channels) as stream:
        for frame in stream:
            part.append(frame)
            total += 1
            if len(part) == chunk:
                yield np.stack(part)
                part = []
        stream.check_complete(total)
    if part:
        yield np.stack(part)


class VideoWriter:
    """A context manager that writes frames to an MP4 (H.264) or GIF file as they arrive.

    The file appears under its name only if the `with` block ends without an error. Frames are never resized: odd
    sizes are stored without chroma subsampling. GIFs of gray frames are lossless.

    Args:
        path: ends in .mp4 or .gif; its folder must exist.
        fps: frames per second; at most 50 for a GIF, because players show no GIF faster.
        lossless: MP4 only: encode without loss (few browsers play such files).
        audio_from: MP4 only: a file whose sound, if it has any, is added to the video.

    Raises:
        InputError: the suffix is another one, the folder is missing, the format does not support the rate or an
            option, or no frames were written.
        OSError: ffmpeg could not write, for instance because the disk is full.
    """

    def __init__(self, path: Path, *, fps: float, lossless: bool = False, audio_from: Path | None = None):
        self._path, self._fps, self._lossless, self._audio_from = path, fps, lossless, audio_from
        self._gif = path.suffix.lower() == ".gif"
        if path.suffix.lower() not in (".mp4", ".gif"):
            raise InputError(f"{path}: videos are written as .mp4 or .gif, not {path.suffix or 'without an ending'}")
        if self._gif and (lossless or audio_from is not None):
            raise InputError(f"{path}: a GIF has no sound and no lossless option; write an .mp4")
        if not 0 < fps <= (_MAX_GIF_RATE if self._gif else 1000):
            raise InputError(
                f"{path}: {fps} frames per second; a GIF allows up to {_MAX_GIF_RATE:g}, an MP4 up to 1000"
            )
        check_new_file(path)
        if audio_from is not None:
            check_file(audio_from)
        self._process: subprocess.Popen | None = None
        self._shape: tuple[int, ...] = ()
        self._open = contextlib.ExitStack()
        self._count = 0

    def write(self, frames: Video | Float[np.ndarray, "t h w c"]):
        """Append frames, uint8 or float in [0, 1]; all must have the same shape.

        Raises:
            ValueError: their shape differs from that of earlier frames.
            OSError: ffmpeg stopped, for instance because the disk is full.
        """
        pixels = to_uint8(frames)
        process = self._process or self._start(pixels.shape[1:])
        if pixels.shape[1:] != self._shape:
            raise ValueError(f"frames of shape {pixels.shape[1:]} written after frames of shape {self._shape}")
        self._count += len(pixels)
        try:
            _input(process).write(np.ascontiguousarray(pixels).data)
        except BrokenPipeError:
            raise self._failure(process) from None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        with self._open:  # on exit, stops ffmpeg and, unless there was an error, moves the file into place
            if error is not None:
                raise error
            self._finish()

    def _start(self, shape: tuple[int, ...]) -> subprocess.Popen:
        height, width, channels = self._shape = shape
        pixel_format = "gray" if channels == 1 else "rgb24"
        source = ["-f", "rawvideo", "-pix_fmt", pixel_format, "-s", f"{width}x{height}", "-r", f"{self._fps:.10g}"]
        self._log = self._open.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 (closed in __exit__)
        self._temporary = self._open.enter_context(new_file(self._path))
        command = [executable(), "-v", "error", "-y", *source, "-i", "pipe:0", *self._encoder(height, width, channels)]
        process = subprocess.Popen([*command, f"file:{self._temporary}"], stdin=subprocess.PIPE, stderr=self._log)
        self._open.callback(process.wait)
        self._open.callback(process.kill)
        self._process = process
        return process

    def _encoder(self, height: int, width: int, channels: int) -> list[str]:
        if self._gif and channels == 1:
            return ["-pix_fmt", "gray", "-f", "gif"]
        if self._gif:  # one palette per frame, which also keeps memory use constant
            palette = "split[a][b];[a]palettegen=stats_mode=single:reserve_transparent=0[p];[b][p]paletteuse=new=1"
            return ["-filter_complex", palette, "-f", "gif"]
        if self._lossless:
            coding = ["-c:v", "libx264rgb", "-crf", "0", "-pix_fmt", "rgb24"]
        else:
            subsampled = height % 2 == width % 2 == 0
            coding = ["-c:v", "libx264", "-crf", "17", "-pix_fmt", "yuv420p" if subsampled else "yuv444p"]
        return [*coding, "-movflags", "+faststart", "-f", "mp4"]

    def _finish(self):
        process = self._process
        if process is None:
            raise InputError(f"{self._path}: no frames to write")
        try:
            _input(process).close()
        except BrokenPipeError:
            raise self._failure(process) from None
        if process.wait():
            raise self._failure(process)
        if self._audio_from is not None and (codec := audio_codec(self._audio_from)):
            with new_file(self._temporary) as with_sound:
                self._add_sound(codec, with_sound)

    def _add_sound(self, codec: str, path: Path):
        """Add the sound, cut at the end of the last frame; the video stream is copied."""
        inputs = [
            *INPUT,
            "-i",
            f"file:{self._temporary}",
            *INPUT,
            "-i",
            f"file:{self._audio_from}",
            "-map",
            "0:v",
            "-map",
            "1:a:0",
        ]
        coding = ["-c:v", "copy", "-c:a", "copy" if codec in _MP4_AUDIO else "aac", "-movflags", "+faststart"]
        output = ["-t", f"{self._count / self._fps:.6f}", "-f", "mp4", f"file:{path}"]
        done = run("-v", "error", "-y", *inputs, *coding, *output)
        if done.returncode:
            reason = full_disk(OSError(done.stderr)) or last_line(done.stderr)
            raise OSError(f"{self._path}: adding the sound of {self._audio_from} failed: {reason}")

    def _failure(self, process: subprocess.Popen) -> OSError:
        process.wait()
        self._log.seek(0)
        log = self._log.read().decode(errors="replace")
        return OSError(f"{self._path}: writing failed: {full_disk(OSError(log)) or last_line(log)}")


def _input(process: subprocess.Popen) -> IO[bytes]:
    assert process.stdin is not None  # for the type checker; it was opened as a pipe
    return process.stdin

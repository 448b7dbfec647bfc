"""Runs the ffmpeg that imageio installs, to inspect and decode video files.

Input: paths of video files. Output: their headers and decoded frames. The rest of the package never sees ffmpeg's
messages: those that matter to the user are raised as one `InputError`.
"""

import contextlib
import functools
import logging
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.untrusted import check_file, check_memory

INPUT = ("-protocol_whitelist", "file,pipe", "-format_whitelist", "mov,avi,gif,matroska,webm")
"""Options of any input: the formats of `VIDEO_SUFFIXES` alone. Others, such as playlists, make ffmpeg read other files,
whatever the name of the file says."""


_DAMAGE = re.compile(r"^.*(invalid data|invalid nal|error while decoding|concealing|corrupt).*$", re.I | re.M)
_log = logging.getLogger(__name__)


class Header(NamedTuple):
    """What ffmpeg prints about a video before it decodes anything.

    Attributes:
        text: everything that ffmpeg printed.
        streams: the part of it that describes the file and its streams.
        width: of the frames as displayed, after any rotation, in pixels.
        height: likewise.
        fps: frames per second; 25 if the file does not say, or if it is nearly 0.
    """

    text: str
    streams: str
    width: int
    height: int
    fps: float

    @classmethod
    def read(cls, path: Path, *output: str) -> "Header":
        """Run ffmpeg on `path` with the arguments `output` and parse what it prints.

        Raises:
            InputError: the file is missing, or is not a video.
        """
        check_file(path)
        text = run(*INPUT, "-i", f"file:{path}", *output).stderr
        streams = re.split(r"^(?:Output #0|Stream mapping)", text, maxsplit=1, flags=re.MULTILINE)[0]
        video = re.search(r"Stream #.*Video: (?!.*attached pic).*?, (\d+)x(\d+).*", streams)
        if video is None:
            raise InputError(f"{path}: not a video that ffmpeg can read ({last_line(streams)})")
        width, height = int(video[1]), int(video[2])
        check_memory(8 * width * height, f"{path}, with frames of {width}x{height} pixels,")
        rate = re.search(r"([\d.]+)(k?) fps", video[0]) or re.search(r"([\d.]+)(k?) tbr", video[0])
        rotation = re.search(r"rotation of (-?[\d.]+)", streams)
        if rotation and round(abs(float(rotation[1]))) % 180 == 90:
            width, height = height, width
        fps = _exact_rate(float(rate[1]) * (1000 if rate[2] else 1)) if rate else 0.0
        return cls(text, streams, width, height, fps or 25.0)


def _exact_rate(shown: float) -> float:
    """The exact value of a rate such as 30000/1001, which ffmpeg prints rounded to two decimals."""
    whole = round(shown)
    ntsc = whole * 1000 / 1001
    return ntsc if shown != whole and abs(ntsc - shown) < 0.006 else shown


class Decoder:
    """Iterates over the frames that a running ffmpeg process decodes."""

    def __init__(self, path: Path, header: Header, num_channels: int, process: subprocess.Popen, log: IO[bytes]):
        self._path, self._header, self._process, self._log = path, header, process, log
        self._shape = (header.height, header.width, num_channels)

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "h w c"]]:
        size, stdout = int(np.prod(self._shape)), self._process.stdout
        assert stdout is not None  # for the type checker; `decoder` opens it
        while len(data := stdout.read(size)) == size:
            yield np.frombuffer(data, np.uint8).reshape(self._shape)

    def check_complete(self, decoded: int):
        """Raise an `InputError` if fewer frames were decoded than the file's header announces.

        Damage that ffmpeg gets over, with frames that look wrong or are missing, is logged as a warning.
        """
        self._process.wait()
        self._log.seek(0)
        log = self._log.read().decode(errors="replace")
        if not decoded:
            raise InputError(f"{self._path}: no frame can be decoded ({last_line(log)})")
        announced = _announced_frames(self._path, self._header, log)
        if decoded < announced:
            raise InputError(
                f"{self._path}: the file is cut off or damaged: its header announces {announced} frames, "
                f"{decoded} can be decoded"
            )
        if damage := _DAMAGE.search(log):
            _log.warning(
                "%s: damaged, some of its frames look wrong or are missing (%s)", self._path, last_line(damage[0])
            )


@contextlib.contextmanager
def decoder(path: Path, num_channels: int, *options: str) -> Iterator[Decoder]:
    """Run ffmpeg to decode `path`; the process is stopped at the end of the `with` block."""
    header = Header.read(path)
    pixel_format = "gray" if num_channels == 1 else "rgb24"
    output = ["-map", "0:V:0", *options, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", pixel_format, "-"]
    command = [executable(), "-v", "error", "-nostdin", *INPUT, "-i", f"file:{path}", *output]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:
        try:
            yield Decoder(path, header, num_channels, process, log)
        finally:
            process.kill()


def _announced_frames(path: Path, header: Header, log: str) -> int:
    """The least number of frames that an intact file with this header decodes to; 0 if it cannot be told.

    The header of an AVI file states its number of frames and its size in bytes. A file of the full size may decode
    to a few frames less, because packed B-frames leave empty ones behind. For other files, the number follows from
    the duration, and is checked only if ffmpeg complained about missing data.
    """
    with path.open("rb") as file:
        start = file.read(52)
    if start[:4] == b"RIFF" and start[8:12] == b"AVI " and start[24:28] == b"avih":
        length, frames = (int.from_bytes(start[i : i + 4], "little") for i in (4, 48))
        return frames if path.stat().st_size < length + 8 else int(frames * 0.9)
    duration = re.search(r"Duration: (\d+):(\d+):([\d.]+)", header.streams)
    if duration and re.search(r"partial file|truncat|ended prematurely|corrupt input packet", log):
        hours, minutes, seconds = map(float, duration.groups())
        return round((hours * 3600 + minutes * 60 + seconds) * header.fps)
    return 0


def audio_codec(path: Path) -> str:
    """The codec of a video's sound; empty if it has none."""
    found = re.search(r"Stream #.*Audio: (\w+)", run(*INPUT, "-i", f"file:{path}").stderr)
    return found[1] if found else ""


@functools.cache
def executable() -> str:
    """Path of the ffmpeg program that imageio installs."""
    import imageio_ffmpeg

    return imageio_ffmpeg.get_ffmpeg_exe()


def run(*arguments: str) -> subprocess.CompletedProcess:
    """Run ffmpeg and wait for it to finish; its messages are in `stderr`."""
    return subprocess.run(
        [executable(), "-hide_banner", "-nostdin", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def last_line(log: str) -> str:
    """The last message in ffmpeg's log, without the prefix that names the component."""
    lines = [line for line in log.splitlines() if line.strip() and "At least one output file" not in line]
    return re.sub(r"^(\[[^]]*\]\s*)+", "", lines[-1]).strip() if lines else "no message"

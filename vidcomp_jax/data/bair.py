"""Reads BAIR robot pushing (Ebert et al., 2017) from the downloaded TFRecord files.

Output: clips of 30 frames of one camera. The files need no preparation: each record is a trajectory. The first time
that frames of a clip are read, its whole record is, and the checksum verified; after that, only these frames are.
They are stored at 64x64 pixels. With `tfds`, the records that TensorFlow Datasets prepared from the same files are read
instead.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from vidcomp_jax.data.bair_files import find_damaged, find_files, find_prepared, list_records, name_of
from vidcomp_jax.data.clips import Index, Indices, Split, checked
from vidcomp_jax.data.sources import Reader, Source, report_left_out
from vidcomp_jax.data.tfrecord import Features, Record
from vidcomp_jax.errors import InputError, require_one_of
from vidcomp_jax.media.images import resize, to_channels
from vidcomp_jax.storage.untrusted import reading

LENGTH = 30
_STORED: tuple[int, int, Literal[3]] = (64, 64, 3)
_BYTES = 64 * 64 * 3
_FLOATS = {"action": 4, "endeffector_pos": 3}


@dataclasses.dataclass(frozen=True, kw_only=True)
class BairConfig:
    """Which BAIR frames and files are read."""

    camera: Literal["aux1", "main"] = "aux1"
    """BAIR: which of the two cameras to read."""
    tfds: bool = False
    """BAIR: read bair_robot_pushing_small as prepared by TensorFlow Datasets, from its data folder."""

    def __post_init__(self):
        require_one_of(self, camera=("aux1", "main"))


class BairClips:
    """Trajectories that are read from their records on demand; the attributes are those of `Clips`, and three more.

    `names` are `<file>_<number of the record>`. The records do not state a frame rate; 10 frames per second is nominal.
    `left_out` maps the names of unused records to reasons, `unreadable` has the names of those that cannot be read,
    and `records` has the record of every clip.
    """

    fps = 10.0

    def __init__(self, records: Sequence[Record], reader: "RecordReader", left_out: Mapping[str, str] | None = None):
        self.records, self.left_out = list(records), dict(left_out or {})
        self.unreadable = list(self.left_out)
        self.names: Sequence[str] = [name_of(record) for record in records]
        self.lengths = np.full(len(records), LENGTH)
        self.subjects = np.arange(len(records))
        self.frame_shape = reader.frame_shape
        self._reader = reader
        self._verified = np.zeros(len(records), bool)

    def frames(self, clip: Index, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `indices` of clip number `clip`; see `Clips.frames`."""
        record = self._record(clip)
        frames = self._reader.frames(record, checked(indices, LENGTH), verified=bool(self._verified[clip]))
        self._verified[clip] = True
        return frames

    def actions(self, clip: Index) -> Float32[np.ndarray, "30 4"]:
        """The recorded action of the robot at every frame."""
        return self._reader.floats(self._record(clip), "action")

    def positions(self, clip: Index) -> Float32[np.ndarray, "30 3"]:
        """The recorded position of the end effector at every frame."""
        return self._reader.floats(self._record(clip), "endeffector_pos")

    def _record(self, clip: Index) -> Record:
        if not 0 <= clip < len(self.records):
            raise IndexError(f"clip {clip} was requested, of {len(self.records)} clips")
        return self.records[clip]


def open_bair(
    data_dir: Path,
    split: Split,
    *,
    size: int,
    num_channels: int,
    cache_dir: Path,
    config: BairConfig,
    skip_unreadable: bool = False,
) -> BairClips:
    """Open the trajectories of one split; this locates all records, but reads only the first one.

    Args:
        skip_unreadable: read all records once (the result is kept in `cache_dir`), and leave out the damaged ones.

    Raises:
        InputError: files are missing or damaged. Without `skip_unreadable`, a damaged record is detected only when
            it is read, and `frames` raises.
    """
    files = _files(data_dir, split, config)
    reader = RecordReader(size, num_channels, config)
    records, left_out = list_records(files, skip_unreadable)
    if skip_unreadable:
        label = f"bair-{'tfds-' if config.tfds else ''}{config.camera}-{split}"
        left_out |= find_damaged(records, reader.check, cache_dir, label)
        records = [record for record in records if name_of(record) not in left_out]
        report_left_out(label, left_out, len(records) + len(left_out))
        if not records:
            raise InputError(f"{files[0].parent}: nothing can be read; for instance {next(iter(left_out.values()))}")
    else:
        reader.check(records[0])
    return BairClips(records, reader, left_out)


class RecordReader:
    """Reads frames and other features of a record, in either format; safe to use from several threads."""

    def __init__(self, size: int, num_channels: int, config: BairConfig):
        self.frame_shape = (size, size, num_channels)
        self._image, self._prepared = f"image_{config.camera}", config.tfds
        self._example: Features | None = None

    def frames(self, record: Record, indices: np.ndarray, *, verified: bool = False) -> UInt8[np.ndarray, "t h w c"]:
        """Some frames of a record; the rest of one that was verified is not read again.

        Raises:
            InputError: the record is damaged, or does not belong to BAIR.
        """
        stored = self._stored(record, indices, verified)
        return to_channels(resize(stored, self.frame_shape[0]), self.frame_shape[2])

    def floats(self, record: Record, name: str) -> Float32[np.ndarray, "30 n"]:
        """The feature `action` or `endeffector_pos` of every frame; raises the errors of `frames`."""
        features, width = self._features(record), _FLOATS[name]
        if self._prepared:
            values = features.floats(name)
            _check(record, name, "numbers", len(values), LENGTH * width)
            return values.reshape(LENGTH, width)
        rows = [features.floats(f"{index}/{name}") for index in range(LENGTH)]
        for index, row in enumerate(rows):
            _check(record, f"{index}/{name}", "numbers", len(row), width)
        return np.stack(rows)

    def check(self, record: Record) -> None:
        """Raise an `InputError` unless everything in the record can be read."""
        self._stored(record, np.arange(LENGTH))
        for name in _FLOATS:
            self.floats(record, name)

    def _stored(self, record: Record, indices: np.ndarray, verified: bool = False) -> UInt8[np.ndarray, "t 64 64 3"]:
        names = [f"{index}/{self._image}/encoded" for index in indices]
        images = self._example.byte_strings_of(record, names) if verified and self._example is not None else None
        if images is not None:
            return self._joined(record, names, images)
        features = self._features(record)
        if self._prepared:
            images = features.byte_strings(self._image)
            _check(record, self._image, "frames", len(images), LENGTH)
            return np.stack([_decoded(record, self._image, images[index]) for index in indices])
        return self._joined(record, names, [features.byte_string(name) for name in names])

    def _joined(
        self, record: Record, names: Sequence[str], images: Sequence[memoryview]
    ) -> UInt8[np.ndarray, "t 64 64 3"]:
        frames = np.empty((len(images), _BYTES), np.uint8)
        for frame, name, image in zip(frames, names, images, strict=True):
            _check(record, name, "bytes", len(image), _BYTES)
            frame[:] = np.frombuffer(image, np.uint8)
        return frames.reshape(-1, *_STORED)

    def _features(self, record: Record) -> Features:
        features = Features(record, record.read(), self._example)
        if self._example is None:
            for index in range(0 if self._prepared else LENGTH):
                features.byte_string(f"{index}/{self._image}/encoded")
            self._example = features
        return features


def _decoded(record: Record, name: str, png: memoryview) -> np.ndarray:
    with reading(f"{record}", f"feature {name} holds an image that cannot be read"):
        stored = Image.open(io.BytesIO(png))
        _check(record, name, "pixels", (stored.height, stored.width, 3), _STORED)
        return np.asarray(stored.convert("RGB"))


def _check(record: Record, name: str, what: str, found, expected) -> None:
    if found != expected:
        raise InputError(f"{record}: feature {name} holds {found} {what}, {expected} were expected")


def _files(data_dir: Path, split: Split, config: BairConfig) -> list[Path]:
    return (find_prepared if config.tfds else find_files)(data_dir, split)


def _sources(data_dir: Path, split: Split, config: BairConfig) -> list[Source]:
    return [Source(path.name, path, (path,)) for path in _files(data_dir, split, config)]


BAIR = Reader("bair", open_bair, _sources, identity=("camera",), files="record files", stored=_STORED, strict=True)

"""Clips of a folder that are decoded on demand, without a cache of their frames."""

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.data.cache import num_bytes
from vidcomp_jax.data.clips import Index, Indices, checked
from vidcomp_jax.data.folder.decoding import Decoder
from vidcomp_jax.data.sources import Outcomes, Progress, Source, in_parallel, numbered, report_left_out, subject_of
from vidcomp_jax.errors import InputError
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.untrusted import read_json


class StreamedClips:
    """Clips that are decoded on demand; the attributes are those of `ArrayClips`.

    What has to be known of every video is determined once and kept in the small file `index_path`.
    """

    def __init__(self, sources: list[Source], decoder: Decoder, index_path: Path, outcomes: Outcomes):
        index = _kept(index_path)
        if index is None:
            _write_index(index_path, sources, decoder, outcomes)
            index = msgspec.json.decode(index_path.read_bytes(), type=_Index)
        self.left_out, self.unreadable, self.scores = index.left_out, index.unreadable, index.scores
        outcomes.check(self.left_out, self.unreadable)
        self._sources = [source for source in sources if source.name not in self.left_out]
        self._decoder = decoder
        self.names: Sequence[str] = [source.name for source in self._sources]
        self.lengths = np.array(index.lengths)
        self.subjects = np.array(numbered([subject_of(source.name) for source in self._sources]))
        self.fps = float(index.fps)
        self.frame_shape = decoder.frame_shape
        report_left_out(outcomes.label, self.left_out, len(sources))

    def frames(self, clip: Index, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `indices` of clip number `clip`; see `Clips.frames`."""
        return self._decoder.frames(self._sources[clip], checked(indices, self.lengths[clip]))


class _Index(msgspec.Struct):
    lengths: list[int]
    fps: float
    left_out: dict[str, str]
    unreadable: list[str]
    scores: list[list[float]] = []


def _kept(path: Path) -> _Index | None:
    """What was determined earlier; None if there is none, or its file is damaged."""
    try:
        return msgspec.convert(read_json(path), _Index) if path.exists() else None
    except (InputError, msgspec.ValidationError):
        return None


def _write_index(path: Path, sources: list[Source], decoder: Decoder, outcomes: Outcomes):
    measured = []
    label = f"measuring {outcomes.label}"
    bar = Progress(label, sources, [num_bytes(source) for source in sources])
    for source, result in in_parallel(lambda source: decoder.measure(source, bar.advance), sources, label, bar):
        if isinstance(result, InputError):
            outcomes.leave_out(source.name, result)
        else:
            measured.append(result)
    outcomes.check_any_left(len(measured))
    lengths, rates, scores = zip(*measured, strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    index = {
        "lengths": lengths,
        "fps": max(rates, key=rates.count),
        "left_out": outcomes.left_out,
        "unreadable": outcomes.unreadable,
        "scores": scores,
    }
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(index))

"""Extracted motion: the keypoints of all frames of many clips, their `.npz` file, and batches drawn from them."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from vidcomp_jax.background import read_ahead
from vidcomp_jax.data.clips import Clips, spread, spread_long
from vidcomp_jax.devices import BatchShare
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.animation import detect_keypoints
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.loading import fingerprint
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.media.images import to_float
from vidcomp_jax.replicas import Devices, Replicas
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.untrusted import check_memory, read_npz

_PREVIEW_CLIPS, _PREVIEW_FRAMES = 4, 64
_WHOLE = BatchShare()
_STORED: dict[str, tuple[str, int]] = {
    "names": ("U", 1),
    "lengths": ("iu", 1),
    "position": ("f", 3),
    "jacobian": ("f", 4),
    "fps": ("f", 0),
    "fingerprint": ("U", 0),
    "split": ("U", 0),
    "preview_clips": ("iu", 1),
}
"""Kinds of type and numbers of axes of the stored arrays."""


@dataclasses.dataclass(frozen=True, eq=False)
class MotionClips:
    """The keypoints of all clips of one split, concatenated along time.

    Attributes:
        names: name of each clip.
        lengths: number of frames of each clip.
        keypoints: positions [frames, k, 2] and Jacobians [frames, k, 2, 2].
        fps: frames per second.
        fingerprint: fingerprint of the keypoint model (`vidcomp_jax.fomm.loading.fingerprint`).
        split: name of the split the clips belong to.
        preview: frames of a few clips, used to render samples during training.
        preview_clips: index of the clip that each preview belongs to.
    """

    names: tuple[str, ...]
    lengths: Int[np.ndarray, " n"]
    keypoints: Keypoints
    fps: float
    fingerprint: str
    split: str
    preview: tuple[UInt8[np.ndarray, "_t h w c"], ...] = ()
    preview_clips: tuple[int, ...] = ()

    @property
    def num_keypoints(self) -> int:
        """Number of keypoints per frame."""
        return self.keypoints.position.shape[-2]

    @property
    def starts(self) -> Int[np.ndarray, " n"]:
        """Index of the first frame of each clip."""
        return np.cumsum(self.lengths) - self.lengths

    def window_starts(self, num_frames: int) -> Int[np.ndarray, " s"]:
        """Index of the first frame of every window of `num_frames` frames that lies within one clip.

        Raises:
            InputError: `num_frames` is below 2, or no clip is that long.
        """
        counts = np.maximum(self.lengths - num_frames + 1, 0)
        if num_frames < 2 or not counts.sum():
            raise InputError(
                f"`num_frames` is {num_frames}; windows need at least 2 frames, and the longest of "
                f"{len(self.lengths)} clips has {self.lengths.max(initial=0)}"
            )
        return np.concatenate([start + np.arange(count) for start, count in zip(self.starts, counts, strict=True)])

    def too_short(self, num_frames: int) -> int:
        """Number of clips with fewer than `num_frames` frames."""
        return int((self.lengths < num_frames).sum())

    def spread_clips(self, num_frames: int, most: int) -> Int[np.ndarray, " n"]:
        """Indices of up to `most` clips with at least `num_frames` frames, spread evenly over all such clips."""
        return spread_long(self.lengths, num_frames, most)

    def first_windows(self, num_frames: int, clips: Int[np.ndarray, " n"]) -> Keypoints:
        """The first `num_frames` frames of each of `clips`, which must be long enough: keypoints [n, t, k, ...]."""
        starts = self.starts[clips]
        return Keypoints(*(x[starts[:, None] + np.arange(num_frames)] for x in self.keypoints))

    def save(self, path: Path) -> None:
        """Write the clips to the file `path` atomically.

        Raises:
            InputError: `path` is a folder.
        """
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{path}: a folder; the name of a .npz file is needed")
        path.parent.mkdir(parents=True, exist_ok=True)
        preview: dict[str, Any] = {f"preview{i}": frames for i, frames in enumerate(self.preview)}
        with new_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                names=np.array(self.names, np.str_),
                lengths=self.lengths,
                position=self.keypoints.position,
                jacobian=self.keypoints.jacobian,
                fps=np.float64(self.fps),
                fingerprint=np.array(self.fingerprint),
                split=np.array(self.split),
                preview_clips=np.array(self.preview_clips, np.int64),
                **preview,
            )

    @classmethod
    def load(cls, path: Path) -> "MotionClips":
        """Read a file that `save` wrote.

        Raises:
            InputError: the file is missing, damaged or not a motion file, or contains keypoints that are not finite.
        """
        path = Path(path)
        if not path.exists():
            raise InputError(f"{path}: no such file; experiments.extract_motion writes motion files")
        arrays = read_npz(path, "not a motion file")
        if missing := [name for name in _STORED if name not in arrays and name != "preview_clips"]:
            raise InputError(f"{path}: not a motion file: it lacks {', '.join(missing)}")
        preview = [arrays[f"preview{i}"] for i in range(_PREVIEW_CLIPS) if f"preview{i}" in arrays]
        arrays.setdefault("preview_clips", np.arange(len(preview)))
        for name, (kinds, ndim) in _STORED.items():
            if name in arrays and (arrays[name].dtype.kind not in kinds or arrays[name].ndim != ndim):
                found = f"{arrays[name].dtype}{list(arrays[name].shape)}"
                raise InputError(f"{path}: not a motion file: {name} is {found}")
        lengths, fps = arrays["lengths"].astype(np.int64), float(arrays["fps"])
        if len(arrays["names"]) != len(lengths) or not (lengths > 0).all() or not 0 < fps < math.inf:
            raise InputError(
                f"{path}: not a motion file: {len(arrays['names'])} names of clips, {len(lengths)} lengths of at least "
                f"{lengths.min(initial=0)} frames, {fps:g} frames per second"
            )
        if any(x.dtype != np.uint8 or x.ndim != 4 or x.shape[-1] not in (1, 3) for x in preview):
            raise InputError(f"{path}: not a motion file: its previews are not frames")
        keypoints = Keypoints(arrays["position"], arrays["jacobian"])
        frames, k, _ = keypoints.position.shape
        fits = keypoints.position.shape == (frames, k, 2) and keypoints.jacobian.shape == (frames, k, 2, 2) and k > 0
        if not fits or lengths.sum() != frames:
            raise InputError(
                f"{path}: positions {keypoints.position.shape}, Jacobians {keypoints.jacobian.shape} and lengths that "
                f"add up to {arrays['lengths'].sum()} do not fit each other"
            )
        if not all(np.isfinite(x).all() for x in keypoints):
            raise InputError(f"{path}: holds keypoints that are not finite; extract them with another model")
        preview_clips = arrays["preview_clips"]
        if (
            preview_clips.shape != (len(preview),)
            or not np.isin(preview_clips, np.arange(len(arrays["lengths"]))).all()
        ):
            raise InputError(f"{path}: {len(preview)} previews of the clips {preview_clips.tolist()} do not fit")
        return cls(
            names=tuple(map(str, arrays["names"])),
            lengths=lengths,
            keypoints=Keypoints(*(x.astype(np.float32) for x in keypoints)),
            fps=fps,
            fingerprint=str(arrays["fingerprint"]),
            split=str(arrays["split"]),
            preview=tuple(preview),
            preview_clips=tuple(map(int, preview_clips)),
        )


def extract_motion(
    model: FirstOrderMotionModel, clips: Clips, split: str, *, chunk: int = 64, devices: Devices = None
) -> MotionClips:
    """Detect the keypoints of every frame of all clips.

    Args:
        model: trained keypoint model.
        clips: the clips of one split.
        split: name of the split.
        chunk: frames to process at a time, on all devices together; the last chunk is padded, so that one compiled
            program serves all.
        devices: devices of this process that share the frames of each chunk; all of them if None.

    Raises:
        InputError: a chunk takes more memory than there is.
    """
    check_memory(8 * chunk * math.prod(clips.frame_shape), f"`chunk` is {chunk}: as many frames of {clips.frame_shape}")
    parts, before = [], None
    network = Replicas(model, devices)
    with contextlib.closing(read_ahead(_frames_in_chunks(clips, chunk))) as chunks:
        for frames in chunks:
            found = network.run(detect_keypoints, to_float(network.filled_up(frames, chunk)), axes=(0,))
            if before is not None:  # fetched while the devices work on the next chunk
                parts.append(_fetched(*before))
            before = found, len(frames)
    if before is not None:
        parts.append(_fetched(*before))
    shown = tuple(map(int, spread(len(clips.names), _PREVIEW_CLIPS)))
    return MotionClips(
        names=tuple(clips.names),
        lengths=np.asarray(clips.lengths),
        keypoints=jax.tree.map(lambda *x: np.concatenate(x), *parts),
        fps=float(clips.fps),
        fingerprint=fingerprint(model),
        split=split,
        preview=tuple(clips.frames(clip, np.arange(min(clips.lengths[clip], _PREVIEW_FRAMES))) for clip in shown),
        preview_clips=shown,
    )


def _fetched(found: Keypoints, count: int) -> Keypoints:
    return Keypoints(*(np.asarray(x)[:count] for x in found))


def _frames_in_chunks(clips: Clips, chunk: int) -> Iterator[UInt8[np.ndarray, "_t h w c"]]:
    """All frames in order, `chunk` at a time; a chunk may span several clips."""
    clip_of = np.repeat(np.arange(len(clips.names)), clips.lengths)
    index = np.concatenate([np.arange(length) for length in clips.lengths])
    for start in range(0, len(index), chunk):
        share = slice(start, start + chunk)
        yield np.concatenate(
            [clips.frames(clip, index[share][clip_of[share] == clip]) for clip in np.unique(clip_of[share])]
        )


def motion_windows(
    vectors: Float[np.ndarray, "frames v"],
    starts: Int[np.ndarray, " s"],
    *,
    num_frames: int,
    batch_size: int,
    per_example: int = 1,
    seed: int,
    share: BatchShare = _WHOLE,
) -> Iterator[Float[np.ndarray, "b n t v"]]:
    """Yield endless batches of random windows; the batch of a step depends only on the seed and the step.

    Args:
        vectors: motion vectors of all frames.
        starts: first frames of the windows (`MotionClips.window_starts`), drawn uniformly with replacement.
        num_frames: length of a window.
        batch_size: examples per batch over all processes.
        per_example: windows per example, n.
        seed: seed of the draws.
        share: the step to start at and this process's rows of each batch; by default step 0 and all rows.

    Raises:
        InputError: the batch size does not divide over the processes.
    """
    rows = share.rows(batch_size)
    step = share.start_step
    while True:
        drawn = starts[np.random.default_rng([seed, step]).integers(len(starts), size=(batch_size, per_example))][rows]
        yield vectors[drawn[..., None] + np.arange(num_frames)]
        step += 1


def sorted_frames(
    vectors: Float[np.ndarray, "frames v"],
    clips: MotionClips,
    *,
    num_frames: int,
    batch_size: int,
    seed: int,
    share: BatchShare = _WHOLE,
) -> Iterator[Float[np.ndarray, "b 1 t v"]]:
    """Yield endless batches of random frames of clips, in the order of time, by which frames may repeat.

    Each example draws `num_frames` frames, with replacement, from one quarter of a clip, or from the whole clip where a
    quarter is shorter than that. The arguments are those of `motion_windows`, which draws consecutive frames.
    """
    usable = np.flatnonzero(clips.lengths >= num_frames)
    quarters = [
        (clips.starts[clip] + i * length, length)
        for clip in usable
        for parts in (4 if clips.lengths[clip] // 4 >= num_frames else 1,)
        for length in (int(clips.lengths[clip]) // parts,)
        for i in range(parts)
    ]
    first, lengths = (np.array(x) for x in zip(*quarters, strict=True))
    rows, step = share.rows(batch_size), share.start_step
    while True:
        rng = np.random.default_rng([seed, step])
        drawn = rng.integers(len(first), size=batch_size)
        places = np.sort(rng.integers(lengths[drawn][:, None], size=(batch_size, num_frames)), axis=1)
        yield vectors[(first[drawn][:, None] + places)[rows]][:, None]
        step += 1

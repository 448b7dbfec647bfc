"""Synthetic clips, which need no download and come with the true positions of the joints.

A clip depends only on (seed, split, number), so it is drawn when it is first needed and never stored on disk.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from vidcomp_jax.data.clips import Index, Indices, Split, checked
from vidcomp_jax.data.sources import Reader
from vidcomp_jax.data.synthetic import robot, walker
from vidcomp_jax.errors import require_at_least
from vidcomp_jax.media.images import to_uint8

_SCENES: dict[str, ModuleType] = {"walker": walker, "robot": robot}
_MEMORY = 512 * 2**20
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in gray (ITU-R 601)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What the synthetic clips show."""

    scene: Literal["walker", "robot"] = "walker"
    """walker: a figure acting like the people of KTH; robot: an arm pushing objects on a table."""
    num_train: int = 400
    """Number of clips to train on."""
    num_test: int = 60
    """Number of held-out clips."""
    length: int = 16
    """Number of frames per clip."""
    seed: int = 0
    """Seed of the scenes; another seed gives another data set."""

    def __post_init__(self):
        require_at_least(self, num_train=1, num_test=1, length=2, seed=0)


class SyntheticClips:
    """Generated clips; attributes are those of `Clips`, and `joint_names` (k names)."""

    fps = 25.0

    def __init__(self, config: SyntheticConfig, split: Split, *, size: int, num_channels: int):
        count = config.num_train if split == "train" else config.num_test
        self.names: Sequence[str] = [f"{config.scene}-{split}-{number:05d}" for number in range(count)]
        self.lengths = np.full(count, config.length)
        self.subjects = np.arange(count)
        self.frame_shape = (size, size, num_channels)
        self.joint_names = _SCENES[config.scene].JOINTS
        self._config, self._split = config, split
        self._clip = self._cached()

    def _cached(self) -> Callable:
        size, _, num_channels = self.frame_shape
        clip_bytes = self._config.length * size * size * num_channels
        return functools.lru_cache(maxsize=max(_MEMORY // clip_bytes, 8))(self._draw)

    def __getstate__(self) -> dict:
        """Another process draws the clips itself."""
        return {name: value for name, value in vars(self).items() if name != "_clip"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._clip = self._cached()

    def frames(self, clip: Index, indices: Indices) -> UInt8[np.ndarray, "t h w c"]:
        """Frames `indices` of clip number `clip`; see `Clips.frames`."""
        return self._clip(int(clip))[0][checked(indices, self.lengths[clip])]

    def joints(self, clip: Index) -> Float[np.ndarray, "t k 2"]:
        """True positions of `joint_names` in every frame of a clip: (x, y), -1 and 1 on corner pixel centers."""
        return self._clip(int(clip))[1]

    def _draw(self, clip: int):
        if not 0 <= clip < len(self.names):
            raise IndexError(f"clip {clip} was requested, of {len(self.names)} clips")
        size, _, num_channels = self.frame_shape
        rng = np.random.default_rng([self._config.seed, int(self._split == "test"), clip])
        frames, joints = _SCENES[self._config.scene].draw(rng, self._config.length, size)
        if num_channels == 1 and frames.shape[-1] == 3:
            frames = (frames @ _LUMA)[..., None]
        frames = np.broadcast_to(frames, (*frames.shape[:3], num_channels))
        return to_uint8(frames), joints


def _open(
    place: None,
    split: Split,
    *,
    size: int,
    num_channels: int,
    cache_dir: Path,
    config: SyntheticConfig,
    skip_unreadable: bool = False,
) -> SyntheticClips:
    return SyntheticClips(config, split, size=size, num_channels=num_channels)


SYNTHETIC = Reader("synthetic", _open, lambda place, split, config: [], identity=("scene", "seed"), has_files=False)

"""Settings of a folder of videos."""

import dataclasses
from typing import Literal

from vidcomp_jax.errors import InputError, require, require_at_least, require_one_of, require_positive
from vidcomp_jax.storage.config import ADDED_LATER


@dataclasses.dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """How a folder of videos is read."""

    id_sampling: bool = False
    """Visit every subject (the name before the first #) once per epoch, with one of its clips, not every clip."""
    test_fraction: float = 0.2
    """Fraction of the subjects that is held out for testing if there are no train/ and test/ folders."""
    seed: int = 0
    """Seed of the random split."""
    cut: Literal["none", "scenes", "fixed"] = dataclasses.field(default="none", metadata=ADDED_LATER)
    """How videos become clips. none: each video is one clip. scenes: a clip begins wherever the scene changes. fixed:
    consecutive clips of num_frames frames, without overlap."""
    num_frames: int = dataclasses.field(default=64, metadata=ADDED_LATER)
    """Number of frames of each clip, with cut=fixed; what is left at the end of a video is not used."""
    min_frames: int = dataclasses.field(default=16, metadata=ADDED_LATER)
    """Least number of frames of a scene, with cut=scenes; shorter scenes are not used."""
    scene_threshold: float = dataclasses.field(default=10.0, metadata=ADDED_LATER)
    """How much two frames differ where a scene changes, with cut=scenes: a percentage of the range of pixel values."""
    box: tuple[int, ...] = dataclasses.field(default=(), metadata=ADDED_LATER)
    """Part of every frame that is used: left edge, top edge, width and height, in pixels of the video; by default, all
    of it."""
    fps: float | None = dataclasses.field(default=None, metadata=ADDED_LATER)
    """Frame rate at which all videos are sampled, by the nearest stored frame; by default, every frame is used."""
    fit: Literal["crop", "stretch"] = "crop"
    """How frames, or their boxes, are made square: crop to the center, or stretch, which changes the aspect ratio."""
    image_fps: float = 25.0
    """Frame rate of clips that are stored as still images."""
    cache: bool = True
    """Decode everything once and keep it on disk; False decodes frames for every batch (slow, needs no disk space)."""

    def __post_init__(self):
        require(0 < self.test_fraction < 1, self, "test_fraction", "between 0 and 1")
        require_at_least(self, seed=0, num_frames=2, min_frames=2)
        require_one_of(self, fit=("crop", "stretch"), cut=("none", "scenes", "fixed"))
        require_positive(self, "image_fps", *(["fps"] if self.fps is not None else []))
        require(0 < self.scene_threshold <= 100, self, "scene_threshold", "above 0 and at most 100")
        valid = len(self.box) == 4 and min(self.box[:2]) >= 0 and min(self.box[2:]) >= 1
        says = "the left edge, top edge, width and height in pixels, such as 20 0 120 120"
        require(valid or not self.box, self, "box", says)
        self._check_effect("num_frames", "fixed")
        self._check_effect("min_frames", "scenes")
        self._check_effect("scene_threshold", "scenes")

    def _check_effect(self, name: str, cut: str) -> None:
        default = next(field.default for field in dataclasses.fields(self) if field.name == name)
        value = getattr(self, name)
        if self.cut != cut and value != default:
            raise InputError(f"`{name}` is {value}, which has no effect: `cut` is {self.cut}, not {cut}")

"""Data sets by name, and lists of videos: a `DataConfig` in, `Clips` of one split out."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from vidcomp_jax.data.bair import BairConfig, open_bair
from vidcomp_jax.data.clip_list import ClipListConfig, open_clip_list
from vidcomp_jax.data.clips import Clips, Split
from vidcomp_jax.data.folder import FolderConfig, open_folder
from vidcomp_jax.data.kth import KthConfig, open_kth
from vidcomp_jax.data.synthetic import SyntheticClips, SyntheticConfig
from vidcomp_jax.errors import InputError, require, require_at_least, require_one_of
from vidcomp_jax.storage.config import MAY_CHANGE, MAY_MOVE

DataSet = Literal["kth", "bair", "folder", "synthetic"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips to read, and what their frames look like."""

    name: DataSet = "synthetic"
    """Data set; folder reads your own videos, synthetic needs no files."""
    data_dir: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Folder of the data set as downloaded."""
    clips: Path | None = dataclasses.field(default=None, metadata=MAY_MOVE)
    """Text file with a video a line, optionally with the first and last frame to take; read instead of the data set."""
    clip_list: ClipListConfig = ClipListConfig()
    """Used by clips."""
    size: int = 64
    """Height and width of the frames in pixels; a multiple of 4."""
    num_channels: Literal[1, 3] = 1
    """1 for gray, 3 for RGB."""
    cache_dir: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Where decoded clips are kept; by default $XDG_CACHE_HOME/vidcomp_jax or ~/.cache/vidcomp_jax."""
    skip_unreadable: bool = dataclasses.field(default=False, metadata=MAY_CHANGE)
    """Go on without what cannot be read, however much it is. By default one damaged record of BAIR stops, and so do
    damaged videos once they are more than a tenth."""
    pairs_per_record: int = 1
    """Training pairs drawn from a clip whenever it is read: more of them read less and are less varied."""
    bair: BairConfig = BairConfig()
    """Used by name=bair."""
    kth: KthConfig = KthConfig()
    """Used by name=kth."""
    folder: FolderConfig = FolderConfig()
    """Used by name=folder."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """Used by name=synthetic."""

    def __post_init__(self):
        multiple_of_4 = self.size >= 4 and self.size % 4 == 0
        require(multiple_of_4, self, "size", "a positive multiple of 4, such as 64, 128 or 256")
        require_one_of(self, num_channels=(1, 3), name=get_args(DataSet))
        require_at_least(self, pairs_per_record=1)

    @property
    def kind(self) -> str:
        """`name`, or `list` where `clips` is read instead."""
        return self.name if self.clips is None else "list"

    @property
    def cache_folder(self) -> Path:
        """`cache_dir`, or its default."""
        if self.cache_dir is not None:
            return self.cache_dir
        home = os.environ.get("XDG_CACHE_HOME")
        return (Path(home) if home else Path.home() / ".cache") / "vidcomp_jax"


def open_clips(config: DataConfig, split: Split) -> Clips:
    """The clips of one split of a data set or list; files are decoded on first use and cached.

    Raises:
        InputError: the folder or its files are not what the data set needs.
    """
    return _READERS[config.kind](config, split)


def _kth(config: DataConfig, split: Split) -> Clips:
    return open_kth(data_dir(config), split, config=config.kth, **_frames(config))


def _folder(config: DataConfig, split: Split) -> Clips:
    return open_folder(data_dir(config), split, config=config.folder, **_frames(config))


def _bair(config: DataConfig, split: Split) -> Clips:
    return open_bair(data_dir(config), split, config=config.bair, **_frames(config))


def _list(config: DataConfig, split: Split) -> Clips:
    return open_clip_list(config.clips, split, config=config.clip_list, **_frames(config))


def _synthetic(config: DataConfig, split: Split) -> Clips:
    return SyntheticClips(config.synthetic, split, size=config.size, num_channels=config.num_channels)


_READERS: dict[str, Callable[[DataConfig, Split], Clips]] = {
    "kth": _kth,
    "bair": _bair,
    "folder": _folder,
    "synthetic": _synthetic,
    "list": _list,
}


def _frames(config: DataConfig) -> dict:
    return {
        "size": config.size,
        "num_channels": config.num_channels,
        "cache_dir": config.cache_folder,
        "skip_unreadable": config.skip_unreadable,
    }


def data_dir(config: DataConfig) -> Path:
    """The folder of a data set that needs one; InputError if it is not there."""
    if config.data_dir is None:
        raise InputError(f"data set {config.name} needs data_dir, the folder its videos are in")
    if not config.data_dir.is_dir():
        found = "is a file" if config.data_dir.exists() else "does not exist"
        raise InputError(f"data_dir {config.data_dir} {found}; it must be the folder of the {config.name} data set")
    return config.data_dir

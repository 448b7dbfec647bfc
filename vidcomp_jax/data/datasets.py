"""Opens data sets by name, and lists of videos.

Input: a `DataConfig`. Output: the `Clips` of one split.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from vidcomp_jax.data.bair import BAIR, BairConfig
from vidcomp_jax.data.clip_list import CLIP_LIST, ClipListConfig
from vidcomp_jax.data.clips import Channels, Clips, Split
from vidcomp_jax.data.download import PUBLISHED
from vidcomp_jax.data.folder import FOLDER, FolderConfig
from vidcomp_jax.data.kth import KTH, KthConfig
from vidcomp_jax.data.sources import Reader, Source
from vidcomp_jax.data.synthetic import SYNTHETIC, SyntheticConfig
from vidcomp_jax.errors import InputError, require, require_at_least, require_one_of
from vidcomp_jax.storage.config import MAY_CHANGE, MAY_MOVE

DataSet = Literal["kth", "bair", "folder", "synthetic"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips to read, and what their frames look like."""

    name: DataSet = "synthetic"
    """Data set to read; folder reads your own videos, and synthetic draws clips and needs no files."""
    data_dir: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Folder of the downloaded data set, or of your own videos. Without it, KTH and BAIR are looked for in
    $VIDCOMP_DATA/kth and data/kth, and so on."""
    clips: Path | None = dataclasses.field(default=None, metadata=MAY_MOVE)
    """Text file that lists one video per line, optionally with its first and last frame; replaces the data set."""
    clip_list: ClipListConfig = ClipListConfig()
    """Settings of the list, used with clips."""
    size: int = 64
    """Height and width of the frames, in pixels; a multiple of 4."""
    num_channels: Channels = 1
    """Number of channels: 1 for gray, 3 for RGB."""
    cache_dir: Path | None = dataclasses.field(default=None, metadata=MAY_CHANGE)
    """Folder for decoded clips; by default $XDG_CACHE_HOME/vidcomp_jax or ~/.cache/vidcomp_jax."""
    skip_unreadable: bool = dataclasses.field(default=False, metadata=MAY_CHANGE)
    """Skip everything that cannot be read. By default, a single damaged record of BAIR is an error, and so are damaged
    videos if they are more than a tenth of all."""
    pairs_per_record: int = 1
    """Number of training pairs drawn each time a clip is read; larger values read less data, but vary it less."""
    bair: BairConfig = BairConfig()
    """Settings of BAIR, used with name=bair."""
    kth: KthConfig = KthConfig()
    """Settings of KTH, used with name=kth."""
    folder: FolderConfig = FolderConfig()
    """Settings of a folder of your own videos, used with name=folder."""
    synthetic: SyntheticConfig = SyntheticConfig()
    """Settings of synthetic clips, used with name=synthetic."""

    def __post_init__(self):
        for name in ("data_dir", "clips", "cache_dir"):
            if isinstance(path := getattr(self, name), str):
                object.__setattr__(self, name, Path(path))
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
        InputError: the folder or its files do not belong to the data set, or cannot be read.
    """
    return READERS[config.kind].open(
        place_of(config),
        split,
        size=config.size,
        num_channels=config.num_channels,
        cache_dir=config.cache_folder,
        config=settings_of(config),
        skip_unreadable=config.skip_unreadable,
    )


def as_stored(config: DataConfig) -> DataConfig:
    """`config` with the size and channels at which the frames are stored, if the files are read without a cache.

    Training then reads and copies fewer bytes, and `prepare_frames` resizes on the devices. What is decoded into a
    cache is stored as `config` has it.
    """
    stored = READERS[config.kind].stored
    return config if stored is None else dataclasses.replace(config, size=stored[0], num_channels=stored[2])


def sources_of(config: DataConfig, split: Split) -> Sequence[Source]:
    """The files of one split that `open_clips` reads; raises the same errors, but not for damaged files."""
    return READERS[config.kind].sources(place_of(config), split, settings_of(config))


def settings_of(config: DataConfig) -> Any:
    """The settings of the data set in use, such as a `KthConfig`."""
    return getattr(config, READERS[config.kind].field)


def place_of(config: DataConfig) -> Path | None:
    """The path of the list or of the data set's folder, None if it needs none; raises InputError if it is missing."""
    if config.clips is not None or not READERS[config.kind].has_files:
        return config.clips
    if config.data_dir is None and config.name in PUBLISHED:
        places = usual_places(config.name)
        here = [place for place in places if place.is_dir()]
        if not here:
            raise InputError(
                f"data set {config.name} is not in {' or '.join(map(str, places))}; download it with "
                f"`python -m experiments.download --dataset={config.name}`, or give its folder as `data_dir`"
            )
        return _finished(here[0], config.name)
    if config.data_dir is None:
        raise InputError(f"data set {config.name} needs `data_dir`, the folder its videos are in")
    if not config.data_dir.is_dir():
        found = "is a file" if config.data_dir.exists() else "does not exist"
        raise InputError(
            f"`data_dir` is {config.data_dir}, which {found}; it must be the folder of the {config.name} data set"
        )
    return _finished(config.data_dir, config.name)


def _finished(folder: Path, name: str) -> Path:
    """`folder`, unless a download to it has not finished."""
    parts = sorted(folder.glob("*.part")) if name in PUBLISHED else ()
    if parts:
        raise InputError(
            f"{parts[0]}: a download that has not finished; go on with "
            f"`python -m experiments.download --dataset={name} --output={folder}`"
        )
    return folder


def usual_places(name: str) -> list[Path]:
    """Folders in which a published data set is looked for: `$VIDCOMP_DATA/NAME` if that is set, and `data/NAME`."""
    given = os.environ.get("VIDCOMP_DATA")
    return [*([Path(given) / name] if given else []), Path("data") / name]


def differences(config: DataConfig, stored: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings that make the clips or frames of two configs differ: dotted name and both values.

    Args:
        config: the first one.
        stored: the second one, as read from a `config.json`. Entries that it lacks are ignored; if it names another
            data set, so are all others. Settings of its data set that were added later count as having their defaults.
    """
    if ("list" if stored.get("clips") else stored.get("name")) != config.kind:
        return []
    reader = READERS[config.kind]
    values = {name: (getattr(config, name), stored[name]) for name in ("size", "num_channels") if name in stored}
    inner = stored.get(reader.field)
    if isinstance(inner, Mapping):
        settings = settings_of(config)
        for field in dataclasses.fields(settings):
            # An earlier version had no such field, and read the clips as the default does.
            known = field.name in inner or field.metadata.get("added_later")
            if field.name in reader.identity and known:
                there = inner.get(field.name, field.default)
                there = tuple(there) if isinstance(there, list) else there
                values[f"{reader.field}.{field.name}"] = getattr(settings, field.name), there
    return [(name, here, there) for name, (here, there) in values.items() if there != here]


READERS: dict[str, Reader] = {
    "kth": KTH,
    "bair": BAIR,
    "folder": FOLDER,
    "synthetic": SYNTHETIC,
    "list": CLIP_LIST,
}
"""Readers by the `kind` of a `DataConfig`. A new data set gets a module with its `Reader`, a line here, and its name
and settings in `DataConfig`."""

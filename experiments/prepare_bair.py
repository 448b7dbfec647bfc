"""Convert BAIR to a folder of videos: `python -m experiments.prepare_bair --input=DIR --output=DIR --size=64`.

Reads the downloaded record files and writes one MP4 or GIF per trajectory into train/ and test/. Training does not
need this, because `--dataset=bair` reads the download. `--test-only` needs and writes only the test trajectories.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, cast

import tyro

from experiments.commands import run
from experiments.prepare_kth import print_summary
from vidcomp_jax.data import BairClips, BairConfig, DataConfig, Split, open_clips
from vidcomp_jax.data.export import Part, VideoFormat, export_clips
from vidcomp_jax.data.sources import Clip, LeftOut, Source
from vidcomp_jax.errors import require, require_at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareBairConfig:
    """Convert BAIR to a folder of videos."""

    input: Path
    """The folder softmotion30_44k or its parent; with --tfds, the data folder of TensorFlow Datasets."""
    output: Path
    """Folder to create."""
    size: Literal[64, 128, 256] = 64
    """Height and width of the videos, in pixels."""
    format: Literal["mp4", "gif"] = "mp4"
    """Format of the videos; GIFs have at most 256 colors per frame."""
    lossless: bool = False
    """MP4 only: encode without loss (few browsers play such files)."""
    test_only: bool = False
    """Skip the training trajectories."""
    limit: int = 0
    """Maximum number of trajectories of each split; 0 means all."""
    skip_unreadable: bool = False
    """Skip and count what cannot be read, instead of stopping."""
    bair: Annotated[BairConfig, tyro.conf.arg(name="")] = BairConfig()
    """Which camera and files to read."""

    def __post_init__(self):
        require(not (self.lossless and self.format == "gif"), self, "format", "mp4 where `lossless` is given")
        require_at_least(self, limit=0)


def main(config: PrepareBairConfig) -> None:
    """Write the trajectories."""
    data = DataConfig(
        name="bair",
        data_dir=config.input,
        size=config.size,
        num_channels=3,
        skip_unreadable=config.skip_unreadable,
        bair=config.bair,
    )
    parts: dict[str, Part] = {}
    left_out: dict[str, str] = {}
    splits: tuple[Split, ...] = ("test",) if config.test_only else ("train", "test")
    for split in splits:
        clips = cast(BairClips, open_clips(data, split))
        numbers = {name: number for number, name in enumerate(clips.names[: config.limit or None])}
        left_out |= clips.left_out

        def decode(source: Source, clips=clips, numbers=numbers) -> list[Clip | LeftOut]:
            number = numbers[source.name]
            record = clips.records[number]
            name = f"{record.path.name.removesuffix('.tfrecords')}_{record.number:05d}"
            return [Clip(name, source.name, clips.frames(number, range(clips.lengths[number])), clips.fps)]

        parts[split] = Part([Source(name, clips.records[i].path, ()) for name, i in numbers.items()], decode)
    manifest = export_clips(
        config.output,
        parts,
        VideoFormat(".gif" if config.format == "gif" else ".mp4", config.lossless),
        settings=dataclasses.asdict(config),
        skip_unreadable=config.skip_unreadable,
        left_out=left_out,
    )
    print_summary(config.output, manifest)


if __name__ == "__main__":
    run(main, PrepareBairConfig)

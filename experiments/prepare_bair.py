"""BAIR as a folder of videos: `python -m experiments.prepare_bair --input=DIR --output=DIR --size=64`.

Takes the record files as downloaded and writes one MP4 or GIF a trajectory into train/ and test/. Training does not
need this (`--dataset=bair` reads the download). `--test-only` needs and writes the test trajectories only.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.commands import run
from experiments.prepare_kth import print_summary
from vidcomp_jax.data import BairConfig, DataConfig, open_clips
from vidcomp_jax.data.export import Part, VideoFormat, export_clips
from vidcomp_jax.data.sources import Clip, LeftOut, Source
from vidcomp_jax.errors import require, require_at_least


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareBairConfig:
    """Write BAIR as videos."""

    input: Path
    """Folder that holds or is softmotion30_44k; with --tfds, the folder of TFDS."""
    output: Path
    """Folder to make."""
    size: Literal[64, 128, 256] = 64
    """Height and width in pixels."""
    format: Literal["mp4", "gif"] = "mp4"
    """GIFs have at most 256 colours a frame."""
    lossless: bool = False
    """MP4 only: keep every pixel; few browsers play such files."""
    test_only: bool = False
    """Leave the training trajectories alone."""
    limit: int = 0
    """Write only so many trajectories of each split; 0 writes all."""
    skip_unreadable: bool = False
    """Count what cannot be read and go on, instead of stopping."""
    bair: Annotated[BairConfig, tyro.conf.arg(name="")] = BairConfig()
    """What to read."""

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
    parts, left_out = {}, {}
    for split in ("test",) if config.test_only else ("train", "test"):
        clips = open_clips(data, split)
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
        VideoFormat(f".{config.format}", config.lossless),
        settings=dataclasses.asdict(config),
        skip_unreadable=config.skip_unreadable,
        left_out=left_out,
    )
    print_summary(config.output, manifest)


if __name__ == "__main__":
    run(main, PrepareBairConfig)

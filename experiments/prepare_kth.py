"""Convert KTH to a folder of short videos: `python -m experiments.prepare_kth --input=DIR --output=DIR --size=128`.

Reads the six archives or their extracted files, and 00sequences.txt, and writes clips of 16 frames into train/ and
test/. Training does not need this, because `--dataset=kth` reads the download; the clips are for viewing and for other
tools.
"""

import dataclasses
import re
from pathlib import Path
from typing import Literal

from experiments.commands import run
from vidcomp_jax.data import KthConfig
from vidcomp_jax.data.export import Part, VideoFormat, export_clips
from vidcomp_jax.data.kth import KthVideos
from vidcomp_jax.data.kth_files import stem_of
from vidcomp_jax.data.sources import Clip, LeftOut, Source
from vidcomp_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrepareKthConfig:
    """Convert KTH to a folder of short videos."""

    input: Path
    """Folder of the six archives, or of their extracted files, and 00sequences.txt."""
    output: Path
    """Folder to create."""
    size: Literal[64, 128, 256] = 64
    """Height and width of the videos, in pixels."""
    split: Literal["literature", "official", "seed", "mcvd"] = "literature"
    """Persons of the train and test splits. literature: 1-16 and 17-25; official: the training and validation persons
    and the test persons named on the data set's page; seed: 1-23 and 25; mcvd: 1-20 and 21-25."""
    num_frames: int = 16
    """Number of frames per clip."""
    lossless: bool = False
    """Encode without loss (few browsers play such files)."""
    skip_unreadable: bool = False
    """Skip and count what cannot be read, instead of stopping."""


def main(config: PrepareKthConfig) -> None:
    """Write the clips."""
    if not config.input.is_dir():
        raise InputError(f"--input: {config.input} is not a folder")
    cut = KthConfig(split=config.split, num_frames=config.num_frames)
    parts = {}
    for split in ("train", "test"):
        videos = KthVideos(config.input, split, cut, skip_unreadable=config.skip_unreadable)

        def decode(source: Source, videos=videos) -> list[Clip | LeftOut]:
            return [_renamed(item, source) for item in videos.decode(source, size=config.size, num_channels=1)]

        parts[split] = Part(videos.sources, decode)
    manifest = export_clips(
        config.output,
        parts,
        VideoFormat(lossless=config.lossless),
        settings=dataclasses.asdict(config),
        skip_unreadable=config.skip_unreadable,
    )
    print_summary(config.output, manifest)


def _renamed(item: Clip | LeftOut, source: Source) -> Clip | LeftOut:
    """A clip with the name `personNN_<action>_dM#FIRST-LAST`, so that its subject is the video, and its person."""
    if isinstance(item, LeftOut):
        return item
    first, stop = map(int, re.findall(r"\[(\d+):(\d+)\]", item.name)[0])
    return item._replace(name=f"{stem_of(source)}#{first:04d}-{stop - 1:04d}", subject=stem_of(source).split("_")[0])


def print_summary(output: Path, manifest: dict) -> None:
    """Print what was written, and what was left out and why."""
    for split in dict.fromkeys(clip["split"] for clip in manifest["clips"]):
        clips = [clip for clip in manifest["clips"] if clip["split"] == split]
        frames, subjects = sum(clip["frames"] for clip in clips), {clip["subject"] for clip in clips}
        sources = {clip["source"] for clip in clips}
        print(
            f"{output / split}: {len(clips)} clips, {frames} frames, of {len(sources)} videos, {len(subjects)} subjects"
        )
    for name, reason in manifest["left_out"].items():
        print(f"left out: {reason if name in reason else f'{name}: {reason}'}")
    print(f"{len(manifest['left_out'])} left out")


if __name__ == "__main__":
    run(main, PrepareKthConfig)

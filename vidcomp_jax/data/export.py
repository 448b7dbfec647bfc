"""Writes a data set as a folder of video files.

Output: one MP4 or GIF per clip in `train/` and `test/`, and `manifest.json`, which lists the source of every file and
what was left out. The files play in any video player, and the folder can be read as the data set `folder`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from vidcomp_jax.data.sources import Clip, LeftOut, Source, TooShort, in_parallel
from vidcomp_jax.errors import InputError
from vidcomp_jax.media.video import VideoWriter
from vidcomp_jax.storage.folders import new_folder

MANIFEST = "manifest.json"


class Part(NamedTuple):
    """One split of a data set: its videos, and the function that decodes one into clips, named like their files."""

    sources: Sequence[Source]
    decode: Callable[[Source], Sequence[Clip | LeftOut]]


class VideoFormat(NamedTuple):
    """The format of the written clips."""

    suffix: Literal[".mp4", ".gif"] = ".mp4"
    lossless: bool = False


def export_clips(
    output: Path,
    parts: Mapping[str, Part],
    video_format: VideoFormat,
    *,
    settings: Mapping,
    skip_unreadable: bool,
    left_out: Mapping[str, str] | None = None,
) -> dict:
    """Write all clips of `parts` (by the name of the split), and return the manifest.

    Args:
        output: a new or empty folder; it appears only when it is complete, and not at all after an error.
        settings: stored in the manifest, as JSON.
        skip_unreadable: skip videos that cannot be read, and list them in the manifest's `left_out`, like those that
            are too short for a clip.
        left_out: what `parts` already lacks, by name with the reason.

    Raises:
        InputError: `output` is in use, a video cannot be read and is not skipped, or none can be read.
    """
    clips, left_out = [], dict(left_out or {})
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: exists and is not an empty folder; choose another name or delete it")
    with new_folder(output, "videos") as folder:
        for split, part in parts.items():
            (folder / split).mkdir()

            def write(source: Source, split=split, part=part) -> list[dict | LeftOut]:
                return [_written(item, folder, split, source, video_format) for item in part.decode(source)]

            for source, result in in_parallel(write, part.sources, f"writing {split}"):
                for item in [LeftOut(source.name, result)] if isinstance(result, InputError) else result:
                    if not isinstance(item, LeftOut):
                        clips.append(item)
                    elif skip_unreadable or isinstance(item.error, TooShort):
                        left_out[item.name] = str(item.error)
                    else:
                        raise InputError(f"{item.error}; `skip_unreadable` goes on without it") from item.error
            if not any(clip["split"] == split for clip in clips):
                raise InputError(f"{split}: nothing can be used; for instance {next(iter(left_out.values()))}")
        manifest = {"settings": dict(settings), "clips": clips, "left_out": left_out}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, default=str))
    return manifest


def _written(item: Clip | LeftOut, folder: Path, split: str, source: Source, video_format: VideoFormat):
    """Write a clip, and return its entry in the manifest."""
    if isinstance(item, LeftOut):
        return item
    file = f"{split}/{item.name}{video_format.suffix}"
    with VideoWriter(folder / file, fps=item.fps, lossless=video_format.lossless) as writer:
        writer.write(item.frames)
    return {
        "file": file,
        "split": split,
        "source": source.name,
        "subject": item.subject,
        "frames": len(item.frames),
        "fps": item.fps,
    }

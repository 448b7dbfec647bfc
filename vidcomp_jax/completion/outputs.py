"""Completed clips as files: gaps and what each method made of them in, a folder of videos, keypoints and a page out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from vidcomp_jax.completion.complete import Completion
from vidcomp_jax.completion.inputs import PAGE, Gap
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.media.player import Player, Row, write_page
from vidcomp_jax.media.video import VideoWriter
from vidcomp_jax.storage.atomic import new_folder


def write_completions(
    folder: Path,
    gaps: Sequence[Gap],
    results: Mapping[str, Completion],
    *,
    format: Literal["mp4", "gif"] = "mp4",
) -> None:
    """Write `folder`, which appears whole or not at all; one that exists is replaced.

    It holds `index.html`, which plays everything side by side, and for each gap a folder with a video a result and
    `keypoints.npz` with the arrays `RESULT/position` [t, k, 2] and `RESULT/jacobian` [t, k, 2, 2] of methods that have
    keypoints.

    Args:
        folder: to write.
        gaps: what was completed.
        results: by title, such as `wgan 1`; clip i belongs to gap i.
        format: of the videos.
    """
    with new_folder(folder, replace=True) as partial:
        rows = []
        for i, gap in enumerate(gaps):
            (partial / gap.name).mkdir(parents=True)
            clips = {title: jax.tree.map(lambda x, i=i: x[i], tuple(clips)) for title, clips in results.items()}
            _write_clip(partial / gap.name, gap, clips, format)
            given = [Player("first frame", gap.first[None]), Player("last frame", gap.last[None])]
            truth = [] if gap.truth is None else [Player("truth", gap.truth)]
            completed = [
                Player(title, frames, None if keypoints is None else keypoints.position)
                for title, (frames, keypoints) in clips.items()
            ]
            rows.append(Row(gap.name, [*given, *truth, *completed]))
        write_page(partial / PAGE, rows, title="Completed clips", fps=gaps[0].fps)


def check_rates(gaps: Sequence[Gap], format: Literal["mp4", "gif"]) -> None:
    """Raise an `InputError` if a gap plays faster than videos of the format can."""
    for gap in gaps:
        try:
            VideoWriter(Path(f"{gap.name}.{format}"), fps=gap.fps)
        except InputError as error:
            raise InputError(f"{error}; give --fps=25, say") from None


def _write_clip(folder: Path, gap: Gap, clips: Mapping[str, tuple[np.ndarray, Keypoints | None]], format: str) -> None:
    arrays = {}
    for title, (frames, keypoints) in clips.items():
        name = title.replace(" ", "-")
        with VideoWriter(folder / f"{name}.{format}", fps=gap.fps) as video:
            video.write(frames)
        if keypoints is not None:
            arrays |= {f"{name}/position": keypoints.position, f"{name}/jacobian": keypoints.jacobian}
    np.savez_compressed(folder / "keypoints.npz", fps=gap.fps, **arrays)

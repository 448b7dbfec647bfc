"""Writes completed clips as videos, with keypoints, scores and a page that plays them side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import msgspec
import numpy as np

from vidcomp_jax.background import WriteBehind
from vidcomp_jax.completion.completers import Completion
from vidcomp_jax.completion.inputs import PAGE, SCORES, GivenClip
from vidcomp_jax.completion.scores import MethodScores
from vidcomp_jax.errors import InputError
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.media.player import Player, Row, write_page
from vidcomp_jax.media.video import VideoWriter
from vidcomp_jax.storage.folders import new_folder


def write_completions(
    folder: Path,
    clips: Sequence[GivenClip],
    results: Mapping[str, Completion],
    scores: Mapping[str, MethodScores],
    times: Sequence[int] = (),
    *,
    format: Literal["mp4", "gif"] = "mp4",
) -> None:
    """Write `folder`, which appears whole or not at all; an earlier output of this function is replaced.

    It contains `index.html`, which plays everything side by side; `scores.json`, if there are scores; and for each clip
    a folder with a video of each result and `keypoints.npz`, with the arrays `RESULT/position` [t, k, 2] and
    `RESULT/jacobian` [t, k, 2, 2] of methods that have keypoints.

    Args:
        folder: folder to write.
        clips: given frames of the completed clips.
        results: completed clips by title, such as `wgan 1`, in the order of `clips`.
        scores: scores of the results by title; see `score_completions`.
        times: numbers of the given frames, for their titles; the first and the last by default.
        format: format of the videos.
    """
    titles = [f"frame {time}" for time in times] or ["first frame", "last frame"]
    with new_folder(folder, "completion", replace=True) as partial, WriteBehind() as behind:
        rows = []
        for i, clip in enumerate(clips):
            (partial / clip.name).mkdir(parents=True)
            found = {title: jax.tree.map(lambda x, i=i: x[i], tuple(result)) for title, result in results.items()}
            behind(_write_clip, partial / clip.name, clip.fps, found, format)  # while the page is written
            given = [Player(title, frame[None]) for title, frame in zip(titles, clip.known, strict=True)]
            truth = [] if clip.truth is None else [Player("truth", clip.truth)]
            completed = [
                Player(title, frames, None if keypoints is None else keypoints.position)
                for title, (frames, keypoints) in found.items()
            ]
            rows.append(Row(clip.name, [*given, *truth, *completed]))
        write_page(partial / PAGE, rows, title="Completed clips", fps=clips[0].fps)
        if scores:
            (partial / SCORES).write_bytes(msgspec.json.format(msgspec.json.encode(scores), indent=2) + b"\n")


def check_rates(clips: Sequence[GivenClip], format: Literal["mp4", "gif"]) -> None:
    """Raise an `InputError` if videos of the format do not support the frame rate of a clip."""
    for clip in clips:
        try:
            VideoWriter(Path(f"{clip.name}.{format}"), fps=clip.fps)
        except InputError as error:
            raise InputError(f"{error}; give `fps`=25, for example") from None


def _write_clip(
    folder: Path, fps: float, results: Mapping[str, tuple[np.ndarray, Keypoints | None]], format: str
) -> None:
    arrays: dict[str, Any] = {"fps": fps}
    for title, (frames, keypoints) in results.items():
        name = title.replace(" ", "-")
        with VideoWriter(folder / f"{name}.{format}", fps=fps) as video:
            video.write(frames)
        if keypoints is not None:
            arrays |= {f"{name}/position": keypoints.position, f"{name}/jacobian": keypoints.jacobian}
    np.savez_compressed(folder / "keypoints.npz", **arrays)

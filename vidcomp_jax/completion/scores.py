"""Scores completed clips against the true ones, over the frames that were not given.

Input: clips whose true frames are known, and their completions. Output: the contents of `scores.json`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from vidcomp_jax.completion.completers import Completion
from vidcomp_jax.completion.inputs import GivenClip, known_times
from vidcomp_jax.metrics import FrameScores, score


@dataclasses.dataclass(frozen=True)
class MeanScores:
    """Means over frames; see `vidcomp_jax.metrics.FrameScores`."""

    l1: float
    psnr: float
    ssim: float


@dataclasses.dataclass(frozen=True)
class ClipScores:
    """Scores of one completed clip.

    Attributes:
        mean: mean over the frames that were not given.
        frames: by name of the score, one value for each of these frames, in order.
    """

    mean: MeanScores
    frames: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class MethodScores:
    """Scores of one method, or of one sample from it.

    Attributes:
        mean: mean over the clips.
        clips: scores of each clip, by its name.
    """

    mean: MeanScores
    clips: dict[str, ClipScores]


def score_completions(
    clips: Sequence[GivenClip], results: Mapping[str, Completion], times: Sequence[int] = ()
) -> dict[str, MethodScores]:
    """Compare completed clips with the true ones; given frames are not scored.

    Args:
        clips: the completed clips. Those without true frames, or with given frames only, are not scored.
        results: completed clips by title, in the order of `clips`.
        times: numbers of the given frames; the first and the last by default.

    Returns:
        Scores by title; empty if no clip can be scored.

    Raises:
        InputError: frames are too small for SSIM.
    """
    truth = {i: clip.truth for i, clip in enumerate(clips) if clip.truth is not None}
    if not truth:
        return {}
    true = np.stack(list(truth.values()))
    inner = np.setdiff1d(np.arange(true.shape[1]), known_times(true.shape[1], times))
    if not len(inner):
        return {}
    scores = {}
    for title, completion in results.items():
        found = score(completion.frames[list(truth)][:, inner], true[:, inner])
        of_clips = {clips[i].name: _of_clip(FrameScores(*(x[n] for x in found))) for n, i in enumerate(truth)}
        scores[title] = MethodScores(_mean(found), of_clips)
    return scores


def _of_clip(scores: FrameScores) -> ClipScores:
    return ClipScores(_mean(scores), {name: x.tolist() for name, x in scores._asdict().items()})


def _mean(scores: FrameScores) -> MeanScores:
    return MeanScores(*(float(np.mean(x, dtype=np.float64)) for x in scores))

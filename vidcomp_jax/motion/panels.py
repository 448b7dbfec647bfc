"""Pictures of a motion model in training: a motion model and extracted motion in, samples beside the truth out."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from vidcomp_jax.completion import render_between
from vidcomp_jax.fomm import FirstOrderMotionModel
from vidcomp_jax.keypoints import Keypoints
from vidcomp_jax.motion import MotionModel
from vidcomp_jax.motion.clips import MotionClips
from vidcomp_jax.motion.evaluation import generate
from vidcomp_jax.report import draw_keypoints, panel


def sample_panel(
    motion: MotionModel,
    clips: MotionClips,
    num_frames: int,
    *,
    model: FirstOrderMotionModel | None = None,
    num_samples: int = 2,
    columns: int = 6,
) -> UInt8[np.ndarray, "h w 3"]:
    """One row for the truth and one for each sample, for up to four clips; time runs to the right.

    With a keypoint model and preview frames the samples are rendered; otherwise keypoints are drawn on black.

    Args:
        motion: what to sample.
        clips: where the ends come from.
        num_frames: of a sample.
        model: the keypoint model of `clips`.
        num_samples: of a stochastic motion model; others have one.
        columns: frames shown of each.
    """
    times = np.unique(np.linspace(0, num_frames - 1, columns).round().astype(int))
    truth = Keypoints(*(x[:4] for x in clips.first_windows(num_frames)))
    preview = _preview(clips, num_frames, len(truth.position)) if model is not None else None
    sequences, pictures = [truth], [preview]
    first, last = (Keypoints(*(jnp.asarray(x[:, i]) for x in truth)) for i in (0, -1))
    for sample in range(num_samples if motion.stochastic else 1):
        keys = jax.random.split(jax.random.key(sample), len(truth.position))
        moved = generate(motion, first, last, num_frames, keys)
        sequences.append(jax.tree.map(np.asarray, moved))
        rendered = None if preview is None else render_between(model, preview[:, 0], preview[:, -1], moved)
        pictures.append(rendered)
    black = np.zeros((64, 64, 1), np.float32)
    rows = [
        [draw_keypoints(black if frames is None else frames[clip, t], keypoints.position[clip, t]) for t in times]
        for clip in range(len(truth.position))
        for keypoints, frames in zip(sequences, pictures, strict=True)
    ]
    return panel(rows, [f"frame {t}" for t in times])


def _preview(clips: MotionClips, num_frames: int, count: int) -> np.ndarray | None:
    """The frames of `clips.first_windows`, if the file holds that many."""
    windows = [frames[:num_frames] for frames in clips.preview if len(frames) >= num_frames][:count]
    return np.stack(windows).astype(np.float32) / 255 if len(windows) == count else None

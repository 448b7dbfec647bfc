"""Pictures of a motion model in training: samples beside the true motion, and the error of the best of N samples."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vidcomp_jax.fomm.between import render_between
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.media.images import to_float
from vidcomp_jax.media.panels import draw_keypoints, panel
from vidcomp_jax.motion.evaluation import BEST_OF
from vidcomp_jax.motion.fill import fill
from vidcomp_jax.motion.model import MotionModel
from vidcomp_jax.motion.motion_file import MotionClips

_CLIPS = 4


def sample_panel(
    motion: MotionModel,
    clips: MotionClips,
    num_frames: int,
    *,
    model: FirstOrderMotionModel | None = None,
    num_samples: int = 2,
    columns: int = 6,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draw the true motion and samples of up to four clips, one row each, with time from left to right.

    With a keypoint model, the clips with preview frames are shown and the samples are rendered. Otherwise, the clips
    are spread evenly over the split and their keypoints are drawn on black.

    Args:
        motion: the motion model to sample from.
        clips: true motion, which also provides the first and last frames.
        num_frames: length of a sample.
        model: the keypoint model of `clips`, used to render the samples.
        num_samples: samples per clip of a stochastic motion model; other models are sampled once.
        columns: number of frames to show of each sequence.
    """
    times = np.unique(np.linspace(0, num_frames - 1, columns).round().astype(int))
    shown, preview = _preview(clips, num_frames) if model is not None else (None, None)
    truth = clips.first_windows(num_frames, clips.spread_clips(num_frames, _CLIPS) if shown is None else shown)
    sequences, pictures = [truth], [preview]
    known, ends = Keypoints(*(jnp.asarray(x[:, [0, -1]]) for x in truth)), (0, num_frames - 1)
    for sample in range(num_samples if motion.stochastic else 1):
        keys = jax.random.split(jax.random.key(sample), len(truth.position))
        moved = fill(motion, known, ends, num_frames, keys)
        sequences.append(jax.tree.map(np.asarray, moved))
        if model is None or preview is None:
            pictures.append(None)
        else:
            pictures.append(render_between(model, preview[:, [0, -1]], ends, moved))
    black = np.zeros((64, 64, 1), np.float32)
    rows = [
        [
            draw_keypoints(black if frames is None else frames[clip, t], np.asarray(keypoints.position[clip, t]))
            for t in times
        ]
        for clip in range(len(truth.position))
        for keypoints, frames in zip(sequences, pictures, strict=True)
    ]
    return panel(rows, [f"frame {t}" for t in times])


def draw_best_of(errors: Mapping[str, float]) -> UInt8[np.ndarray, "h w 3"]:
    """Plot the error of the best of N samples against N, beside the error of linear interpolation.

    Args:
        errors: what `motion_errors` returned for a stochastic model.
    """
    counts = [n for n in BEST_OF if f"error_best_{n}" in errors]
    figure = Figure(figsize=(5, 3.2), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(counts, [errors[f"error_best_{n}"] for n in counts], marker="o", label="best of N samples")
    axes.axhline(errors["error_linear"], color="0.5", linestyle="--", label="linear interpolation")
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("N")
    axes.set_ylabel("error (half frame widths)")
    axes.set_ylim(bottom=0)
    axes.legend()
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _preview(clips: MotionClips, num_frames: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The indices of the clips with at least `num_frames` preview frames, and those frames; None if there are none."""
    long = {clip: x for clip, x in zip(clips.preview_clips, clips.preview, strict=True) if len(x) >= num_frames}
    if not long:
        return None, None
    return np.array(list(long)), to_float(np.stack([x[:num_frames] for x in long.values()]))

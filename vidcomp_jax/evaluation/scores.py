"""Scores the samples that a method generated of a few clips.

Input: completed and true frames of each clip, with keypoints where a method has them. Output: arrays over clips,
samples and frames. Means, intervals and the best of several samples are computed from them in `summary.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from vidcomp_jax.evaluation.lpips import LPIPS, lpips_distance
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.media.images import resize, to_channels
from vidcomp_jax.metrics import score
from vidcomp_jax.motion.evaluation import pairwise_distance as motion_diversity
from vidcomp_jax.replicas import Devices

Arrays = dict[str, np.ndarray]


class Metric(NamedTuple):
    """One column of the table.

    Attributes:
        name: key in the files.
        label: heading.
        better: which values are better; empty where neither is.
        digits: digits after the decimal point.
        meaning: one sentence for the legend.
    """

    name: str
    label: str
    better: Literal["lower", "higher", ""]
    digits: int
    meaning: str


METRICS = (
    Metric("l1", "L1", "lower", 4, "mean absolute error of the scored frames, in [0, 1]"),
    Metric("psnr", "PSNR (dB)", "higher", 2, "peak signal-to-noise ratio"),
    Metric("ssim", "SSIM", "higher", 4, "structural similarity with the Gaussian window of Wang et al., 2004"),
    Metric("lpips", "LPIPS", "lower", 4, "learned perceptual distance of Zhang et al., 2018, version 0.1"),
    Metric("keypoints", "keypoints (px)", "lower", 2, "mean distance to the keypoints of the true frames"),
    Metric("joints", "joints (px)", "lower", 2, "mean distance to the true joints, by a linear fit to the keypoints"),
    Metric("jitter", "jitter", "", 4, "mean absolute second difference of the frames over time, in [0, 4]"),
    Metric("diversity", "APD", "", 4, "average pairwise distance: mean absolute difference of two samples"),
    Metric("keypoint_diversity", "APD, keypoints (px)", "", 2, "mean distance between the keypoints of two samples"),
    Metric("seconds", "s/clip", "", 4, "seconds to generate one clip, without the first batch, which compiles"),
)
"""The columns of the table but for the Fréchet distance, whose name depends on the network and the number of clips."""

HIGHER = {metric.name for metric in METRICS if metric.better == "higher"}
"""Names of the metrics of which higher values are better."""

SAMPLE_METRICS = ("l1", "psnr", "ssim", "lpips", "keypoints", "joints", "jitter")
"""Metrics that every sample of a clip has."""


def score_samples(
    clips: Float[np.ndarray, "b s t h w c"],
    truth: Float[np.ndarray, "b t h w c"],
    protocol: Protocol,
    lpips: LPIPS | None = None,
    *,
    devices: Devices = None,
) -> Arrays:
    """Compare the scored frames of all samples with the true frames.

    Args:
        clips: s samples of each of b clips, all frames, in [0, 1].
        truth: the true clips.
        protocol: which frames are scored, and how.
        lpips: network for LPIPS; None leaves it out.
        devices: devices of this process that share the frames for LPIPS; all of them if None.

    Returns:
        `l1`, `mse`, `psnr`, `ssim` and, with a network, `lpips`, [b, s, g] each for g scored frames; `jitter` [b, s],
        over all frames; and `diversity` [b], NaN for a single sample.

    Raises:
        InputError: frames are too small for SSIM or LPIPS.
    """
    gap = list(protocol.gap)
    inner = clips[:, :, gap]
    expected = np.broadcast_to(truth[:, None, gap], inner.shape)
    found = score(inner, expected)
    arrays = {
        "l1": found.l1,
        "mse": np.square(np.asarray(inner, np.float64) - expected).mean((-3, -2, -1)),
        "psnr": found.psnr,
        "ssim": found.ssim,
        "jitter": jitter(clips),
        "diversity": pairwise_distance(inner),
    }
    if protocol.eight_bit_gray:
        gray = (to_channels(_eight_bit(x), 1).reshape(*x.shape[:-1], 1) / np.float32(255) for x in (inner, expected))
        arrays["ssim"] = score(*gray).ssim
    if lpips is not None:
        pair = (_for_lpips(x, protocol) for x in (inner, expected))
        arrays["lpips"] = lpips_distance(lpips, *pair, devices=devices)
    return arrays


def jitter(clips: Float[np.ndarray, "*b t h w c"]) -> Float[np.ndarray, "*b"]:
    """Mean absolute second difference over time: 0 for frames that change at constant speed or not at all.

    A method that flickers has more than the true clips, one that blends has less.
    """
    return np.abs(np.diff(np.asarray(clips, np.float32), n=2, axis=-4)).mean((-4, -3, -2, -1), dtype=np.float64)


def pairwise_distance(samples: Float[np.ndarray, "b s ..."]) -> Float[np.ndarray, " b"]:
    """Mean absolute difference between two different samples of a clip, over all pairs; NaN for a single sample."""
    count = samples.shape[1]
    pairs = [(i, j) for i in range(count) for j in range(i)]
    if not pairs:
        return np.full(len(samples), np.nan)
    axes = tuple(range(1, samples.ndim - 1))
    return np.mean([np.abs(samples[:, i] - samples[:, j]).mean(axes, dtype=np.float64) for i, j in pairs], axis=0)


def score_keypoints(
    found: Float[np.ndarray, "b s w k 2"],
    truth: Float[np.ndarray, "b w k 2"],
    scored: Sequence[int],
    scale: Float[np.ndarray, "2"],
) -> Arrays:
    """Distances between generated keypoints and those of the true frames, in pixels.

    Args:
        found: positions of the samples in the frames of the protocol's window, in [-1, 1].
        truth: positions that the same model detects in the true frames.
        scored: indices of the g scored frames within the window.
        scale: pixels per unit of both coordinates, (size - 1) / 2.

    Returns:
        `keypoints` [b, s, g] of the scored frames, and `keypoint_diversity` [b], the mean distance between two samples,
        NaN for one.
    """
    samples, expected = np.asarray(found, np.float64) * scale, truth[:, None] * scale
    diversity = [motion_diversity(clip[None]) if samples.shape[1] > 1 else np.nan for clip in samples]
    return {
        "keypoints": np.linalg.norm(samples - expected, axis=-1).mean(-1)[..., list(scored)],
        "keypoint_diversity": np.asarray(diversity),
    }


def per_sample(found: Mapping[str, np.ndarray], metric: str, protocol: Protocol) -> Float[np.ndarray, "n s"]:
    """The value of a metric for every clip and sample: its mean over the scored frames, by the protocol's rule."""
    if metric == "psnr" and protocol.psnr == "clip":
        return -10 * np.log10(np.maximum(found["mse"].mean(-1), 1e-10))
    values = found[metric]
    return values.mean(tuple(range(2, values.ndim)))


def _eight_bit(frames: Float[np.ndarray, "*t h w c"]) -> UInt8[np.ndarray, "n h w c"]:
    """Frames as torchvision's `ToPILImage` makes them: scaled to 0..255 and cut off, not rounded."""
    return (np.clip(frames, 0, 1) * 255).astype(np.uint8).reshape(-1, *frames.shape[-3:])


def _for_lpips(frames: Float[np.ndarray, "*t h w c"], protocol: Protocol) -> Float[np.ndarray, "*t h2 w2 c"]:
    if protocol.eight_bit_gray or protocol.lpips_size:
        pixels = _eight_bit(frames)
        pixels = resize(pixels, protocol.lpips_size) if protocol.lpips_size else pixels
        return (pixels / np.float32(255)).reshape(*frames.shape[:-3], *pixels.shape[1:])
    return np.asarray(frames, np.float32)

"""Means of scores over clips with bootstrap intervals, the best of several samples, and the Fréchet distance.

Input: the scores of every batch of clips. Output: one row per method, or two for a stochastic method: the mean of its
samples and the best of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from vidcomp_jax.evaluation.batches import CEILING, TRUTH
from vidcomp_jax.evaluation.frechet import Extrapolated, extrapolated_distance, frechet_distance
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.scores import HIGHER, SAMPLE_METRICS, Arrays, per_sample

NUM_RESAMPLES = 1000
"""Bootstrap resamples of the clips."""


class Estimate(NamedTuple):
    """A mean over clips and its 95 % interval.

    Attributes:
        value: the mean.
        low, high: percentiles 2.5 and 97.5 of the mean over bootstrap resamples of the clips (Efron, 1979); None where
            there is no such interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


class VideoDistance(NamedTuple):
    """The Fréchet video distance of one method.

    Attributes:
        value: mean over the samples of the distance between the first, second, ... sample of all clips and the truth.
        infinite: the same, extrapolated to infinitely many clips; None with fewer than 16.
    """

    value: float
    infinite: Extrapolated | None


class Row(NamedTuple):
    """One row of the table.

    Attributes:
        title: such as `wgan, best of 3`.
        method: name of the method.
        estimates: means by the name of the metric; missing for what was not computed.
        clips: value of every clip by the name of the metric, in the order of the clips.
    """

    title: str
    method: str
    estimates: dict[str, Estimate]
    clips: dict[str, Float[np.ndarray, " n"]]


class Summary(NamedTuple):
    """Everything that is reported.

    Attributes:
        rows: of the table, the methods in the order given, then the ceiling.
        fvd_name: name of the Fréchet distance with its network, number of clips and frames; empty without one.
        fvd: distances by method.
        true_jitter: mean jitter of the true clips.
        by_frame: by method and metric, the mean over clips and samples for each scored frame.
        best_of: by stochastic method and metric, the mean best of 1, 2, ... samples.
        joints: by method, the mean error of each joint in pixels.
    """

    rows: list[Row]
    fvd_name: str
    fvd: dict[str, VideoDistance]
    true_jitter: float
    by_frame: dict[str, dict[str, list[float]]]
    best_of: dict[str, dict[str, list[float]]]
    joints: dict[str, list[float]]


def gather(batches: Iterable[Arrays]) -> dict[str, Arrays]:
    """The scores of all batches by method, each joined over the clips; frames to show are left out."""
    parts: dict[str, dict[str, list[np.ndarray]]] = {}
    for batch in batches:
        for name, value in batch.items():
            method, _, score = name.rpartition("/")
            if not name.startswith("shown/"):
                parts.setdefault(method, {}).setdefault(score, []).append(value)
    return {
        method: {name: np.stack(x) if x[0].ndim == 0 else np.concatenate(x) for name, x in found.items()}
        for method, found in parts.items()
    }


def summarize(scores: Mapping[str, Arrays], protocol: Protocol, *, i3d: str = "", seed: int = 0) -> Summary:
    """Compute everything that is reported.

    Args:
        scores: see `gather`.
        protocol: how clips are scored, and how the best sample is chosen.
        i3d: name of the network of the Fréchet video distance; empty without one.
        seed: seed of the bootstrap resamples.

    Raises:
        InputError: a Fréchet distance of fewer than two clips.
    """
    truth = scores[TRUTH]
    count = len(truth["jitter"])
    resamples = np.random.default_rng(seed).integers(0, count, (NUM_RESAMPLES, count))
    methods = {name: found for name, found in scores.items() if name != TRUTH}
    rows, fvd, best = [], {}, {}
    for name, found in methods.items():
        values = {metric: per_sample(found, metric, protocol) for metric in SAMPLE_METRICS if metric in found}
        of_clips = {metric: x.mean(1) for metric, x in values.items()}
        of_clips |= {
            metric: found[metric]
            for metric in ("diversity", "keypoint_diversity")
            if metric in found and not np.isnan(found[metric]).any()
        }
        num_samples = values["l1"].shape[1]
        extra = {}
        if "seconds" in found and not np.isnan(found["seconds"]).all():
            extra["seconds"] = Estimate(float(np.nanmean(found["seconds"])))
        estimates = {metric: estimate(x, resamples) for metric, x in of_clips.items()} | extra
        title = name if num_samples == 1 else f"{name}, mean of {num_samples}"
        rows.append(Row(title, name, estimates, of_clips))
        if i3d:
            fvd[name] = _video_distance(truth["features"], found["features"], seed)
        if num_samples > 1:
            curves = {metric: expected_best(x, _order(values, metric, protocol)) for metric, x in values.items()}
            best[name] = {metric: x.mean(0).tolist() for metric, x in curves.items()}
            of_best = {metric: x[:, -1] for metric, x in curves.items()}
            rows.append(
                Row(
                    f"{name}, best of {num_samples}",
                    name,
                    {metric: estimate(x, resamples) for metric, x in of_best.items()},
                    of_best,
                )
            )
    rows.sort(key=lambda row: row.method == CEILING)
    return Summary(
        rows=rows,
        fvd_name=f"fvd_{i3d}_n{count}_t{protocol.num_frames}" if i3d else "",
        fvd=fvd,
        true_jitter=float(truth["jitter"].mean()),
        by_frame={name: _by_frame(found) for name, found in methods.items()},
        best_of=best,
        joints={name: found["joints"].mean((0, 1, 2)).tolist() for name, found in methods.items() if "joints" in found},
    )


def estimate(values: Float[np.ndarray, " n"], resamples: np.ndarray) -> Estimate:
    """The mean of the clips with its bootstrap interval; without one for a single clip."""
    if len(values) < 2:
        return Estimate(float(values.mean()))
    low, high = np.percentile(values[resamples].mean(1), [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def expected_best(values: Float[np.ndarray, "n s"], order: Float[np.ndarray, "n s"]) -> Float[np.ndarray, "n s"]:
    """The value of the best of 1, 2, ..., s samples of every clip, expected over all choices of so many samples.

    Args:
        values: a metric of every clip and sample.
        order: what the best sample is chosen by, higher is better.

    Returns:
        Column m - 1 is for m samples: the first is the mean of all, the last the value of the best one.
    """
    count = values.shape[1]
    ranked = np.take_along_axis(values, np.argsort(order, axis=1, kind="stable"), axis=1)  # the best last
    # Of the C(s, m) choices of m samples, C(rank, m - 1) have the sample of this rank, from 0, as their best.
    chances = [[math.comb(rank, m - 1) / math.comb(count, m) for rank in range(count)] for m in range(1, count + 1)]
    return ranked @ np.transpose(chances)


def _order(values: Mapping[str, np.ndarray], metric: str, protocol: Protocol) -> np.ndarray:
    chosen = metric if protocol.best_by == "each" else protocol.best_by
    return values[chosen] if chosen in HIGHER else -values[chosen]


def _by_frame(found: Arrays) -> dict[str, list[float]]:
    curves: dict[str, list[float]] = {}
    for metric in ("l1", "psnr", "ssim", "lpips", "keypoints", "joints"):
        if metric in found:
            values = found[metric]
            curves[metric] = values.mean((0, 1, *range(3, values.ndim))).tolist()
    return curves


def _video_distance(real: Float[np.ndarray, "n d"], generated: Float[np.ndarray, "n s d"], seed: int) -> VideoDistance:
    samples: Sequence[np.ndarray] = [generated[:, s] for s in range(generated.shape[1])]
    infinite = [extrapolated_distance(real, features, seed=seed) for features in samples]
    found = [x for x in infinite if x is not None]
    mean = None
    if found:
        mean = Extrapolated(
            float(np.mean([x.value for x in found])),
            found[0].sizes,
            tuple(np.mean([x.distances for x in found], axis=0).tolist()),
        )
    return VideoDistance(float(np.mean([frechet_distance(real, features) for features in samples])), mean)

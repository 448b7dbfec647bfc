"""Completes and scores one batch of clips with every method.

Input: true clips. Output: named arrays, `METHOD/SCORE` over clips, samples and frames, small enough to keep for every
clip. Memory does not grow with the number of clips: only the current batch holds frames.
"""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from vidcomp_jax.completion.completers import Completer, Completion, KnownFrames
from vidcomp_jax.data.clips import Clips
from vidcomp_jax.devices import filled_up
from vidcomp_jax.evaluation.joints import JointFit
from vidcomp_jax.evaluation.lpips import LPIPS
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.scores import HIGHER, Arrays, jitter, per_sample, score_keypoints, score_samples
from vidcomp_jax.evaluation.video_features import VideoFeatures
from vidcomp_jax.fomm.animation import detect_keypoints
from vidcomp_jax.fomm.between import MAX_PIXELS, Render, render_between
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.media.images import to_float, to_uint8
from vidcomp_jax.replicas import Devices, Replicas

TRUTH = "truth"
CEILING = "true keypoints"
"""Name of the row that is rendered at the keypoints of the true frames: the best that any motion could give."""


class Instruments(NamedTuple):
    """What clips are completed and measured with.

    Attributes:
        completers: methods by name.
        protocol: what is given, and how it is scored.
        keypoint_model: detects the keypoints of the true frames, for the methods over keypoints; None without these.
        render: ends that the ceiling is rendered from.
        max_pixels: maximum number of pixels to render at once.
        joints: function from keypoints to joints; None for data without known joints.
        lpips: network for LPIPS, if there are weights.
        i3d: network for the Fréchet video distance, if there is one.
        seed: seed of the samples.
        devices: devices of this process that share the detection and rendering of true frames, and LPIPS; all of them
            if None. Completers have devices of their own.
    """

    completers: Mapping[str, Completer]
    protocol: Protocol
    keypoint_model: FirstOrderMotionModel | None = None
    render: Render = "both"
    max_pixels: int = MAX_PIXELS
    joints: JointFit | None = None
    lpips: LPIPS | None = None
    i3d: VideoFeatures | None = None
    seed: int = 0
    devices: Devices = None


class Batch(NamedTuple):
    """The true frames of some clips.

    Attributes:
        number: index of the batch, which determines the random keys of its samples.
        frames: in [0, 1].
        joints: true positions of joints in all frames, where known.
        shown: indices within the batch of the clips whose frames are kept for the report.
    """

    number: int
    frames: Float[np.ndarray, "b t h w c"]
    joints: Float[np.ndarray, "b t j 2"] | None = None
    shown: Sequence[int] = ()


def read_batch(clips: Clips, chosen: Sequence[int], number: int, num_frames: int, shown: Sequence[int]) -> Batch:
    """Read the first `num_frames` frames of some clips of a data set."""
    indices = np.arange(num_frames)
    frames = to_float(np.stack([clips.frames(clip, indices) for clip in chosen]))
    joints = getattr(clips, "joints", None)
    true_joints = None if joints is None else np.stack([joints(clip)[:num_frames] for clip in chosen])
    return Batch(number, frames, true_joints, shown)


def evaluate_batch(tools: Instruments, batch: Batch, batch_size: int, *, timed: bool = True) -> Arrays:
    """Complete and score a batch with every method, and render the ceiling.

    Args:
        tools: methods and networks.
        batch: true clips; fewer than `batch_size` are filled up, so that one compiled program serves all batches.
        batch_size: number of clips that are completed at a time.
        timed: whether to report seconds; the first batch of a process compiles, which would count.

    Returns:
        Arrays named `METHOD/SCORE` (see `scores.score_samples`), `METHOD/seconds` for one clip (NaN if not timed),
        `truth/jitter`, and with I3D `METHOD/features` [b, s, 400] and `truth/features` [b, 400]. For the clips to show,
        `shown/CLIP/TITLE/frames` (uint8) and `shown/CLIP/TITLE/positions`.
    """
    protocol, truth = tools.protocol, batch.frames
    arrays: Arrays = {f"{TRUTH}/jitter": jitter(truth)}
    true_keypoints = None
    if tools.keypoint_model is not None:
        true_keypoints = _detect(tools, truth)
    if tools.i3d is not None:
        arrays[f"{TRUTH}/features"] = tools.i3d(truth)
    _show(arrays, batch, TRUTH, truth, None if true_keypoints is None else np.asarray(true_keypoints.position))
    given = KnownFrames(truth[:, list(protocol.known)], protocol.known)
    for name, completer in tools.completers.items():
        count = protocol.samples if completer.stochastic else 1
        keys = [
            jax.random.fold_in(jax.random.fold_in(jax.random.key(tools.seed), sample), batch.number)
            for sample in range(count)
        ]
        full = KnownFrames(filled_up(given.frames, batch_size), given.times)
        start = time.perf_counter()
        samples = [complete_gap(completer, full, protocol, key) for key in keys]
        seconds = (time.perf_counter() - start) / (count * batch_size)
        samples = [jax.tree.map(lambda x: x[: len(truth)], sample) for sample in samples]
        arrays[f"{name}/seconds"] = np.asarray(seconds if timed else np.nan)
        _score(arrays, tools, batch, name, samples, true_keypoints)
    if tools.keypoint_model is not None and true_keypoints is not None:
        frames = _render_truth(tools, truth, true_keypoints, batch_size)
        _score(arrays, tools, batch, CEILING, [Completion(frames, true_keypoints)], true_keypoints)
    return arrays


def complete_gap(completer: Completer, given: KnownFrames, protocol: Protocol, key: jax.Array) -> Completion:
    """Fill in the scored frames, and return all frames of the clips.

    Methods that take the first and the last frame alone get the given frames next to the gap. Keypoints, if there are
    any, are those of the protocol's window alone.
    """
    window, keypoints = protocol.window, None
    if completer.ends_only:
        ends = [given.times.index(window[i]) for i in (0, -1)]
        near = KnownFrames(given.frames[:, ends], (0, len(window) - 1))
        inner, keypoints = completer.complete(near, len(window), key)
    else:
        inner, found = completer.complete(given, protocol.num_frames, key)
        inner = inner[:, list(window)]
        keypoints = None if found is None else Keypoints(*(np.asarray(x)[:, list(window)] for x in found))
    frames = np.empty((len(inner), protocol.num_frames, *inner.shape[2:]), np.float32)
    frames[:, list(protocol.known)] = given.frames
    frames[:, list(protocol.gap)] = inner[:, protocol.gap_in_window]
    return Completion(frames, keypoints)


def best_sample(scores: Mapping[str, np.ndarray], protocol: Protocol) -> Int[np.ndarray, " b"]:
    """Index of the best sample of each clip, by the metric of the protocol; where each metric has its own, by PSNR."""
    metric = "psnr" if protocol.best_by == "each" else protocol.best_by
    values = per_sample(scores, metric, protocol)
    return values.argmax(1) if metric in HIGHER else values.argmin(1)


def _score(
    arrays: Arrays,
    tools: Instruments,
    batch: Batch,
    name: str,
    samples: Sequence[Completion],
    true_keypoints: Keypoints | None,
) -> None:
    """Add the scores of one method, and the frames to show."""
    protocol = tools.protocol
    clips = np.stack([sample.frames for sample in samples], axis=1)
    found = score_samples(clips, batch.frames, protocol, tools.lpips, devices=tools.devices)
    positions = None
    if samples[0].keypoints is not None and true_keypoints is not None:
        truth = np.asarray(true_keypoints.position)
        positions = np.repeat(truth[:, None], len(samples), axis=1)
        gap, window, scored = list(protocol.gap), list(protocol.window), protocol.gap_in_window
        inner = [np.asarray(x.keypoints.position) for x in samples if x.keypoints is not None]
        positions[:, :, gap] = np.stack([x[:, gap] if name == CEILING else x[:, scored] for x in inner], axis=1)
        height, width = batch.frames.shape[2:4]
        scale = np.array([width - 1, height - 1]) / 2
        found |= score_keypoints(positions[:, :, window], truth[:, window], scored, scale)
        if tools.joints is not None and batch.joints is not None:
            found["joints"] = tools.joints.errors(positions[:, :, gap], batch.joints[:, gap], scale)
    if tools.i3d is not None:
        found["features"] = np.stack([tools.i3d(clips[:, s]) for s in range(clips.shape[1])], axis=1)
    arrays |= {f"{name}/{key}": value for key, value in found.items()}
    if len(samples) == 1:
        _show(arrays, batch, name, clips[:, 0], None if positions is None else positions[:, 0])
        return
    best = best_sample(found, protocol)
    rows = np.arange(len(clips))
    titles = {f"{name} 1": 0 * best, f"{name} best of {len(samples)}": best}
    for title, chosen in titles.items():
        _show(arrays, batch, title, clips[rows, chosen], None if positions is None else positions[rows, chosen])


def _show(arrays: Arrays, batch: Batch, title: str, frames: np.ndarray, positions: np.ndarray | None) -> None:
    for clip in batch.shown:
        pixels: UInt8[np.ndarray, "t h w c"] = to_uint8(frames[clip])
        arrays[f"shown/{clip}/{title}/frames"] = pixels
        if positions is not None:
            arrays[f"shown/{clip}/{title}/positions"] = np.asarray(positions[clip], np.float32)


def _render_truth(
    tools: Instruments, truth: Float[np.ndarray, "b t h w c"], keypoints: Keypoints, batch_size: int
) -> Float[np.ndarray, "b t h w c"]:
    """The clips with their scored frames rendered at the keypoints of the true frames."""
    assert tools.keypoint_model is not None  # for the type checker
    times, gap = list(tools.protocol.known), list(tools.protocol.gap)
    known = filled_up(truth[:, times], batch_size)
    filled = Keypoints(*(filled_up(np.asarray(x), batch_size) for x in keypoints))
    rendered = render_between(
        tools.keypoint_model,
        *(known, times, filled),
        render=tools.render,
        max_pixels=tools.max_pixels,
        devices=tools.devices,
    )
    frames = truth.copy()
    frames[:, gap] = rendered[: len(truth), gap]
    return frames


def _detect(tools: Instruments, clips: Float[np.ndarray, "b t h w c"]) -> Keypoints:
    """Keypoints [b, t, k, ...] of all frames, detected clip by clip, each by all devices."""
    assert tools.keypoint_model is not None  # for the type checker
    network, length = Replicas(tools.keypoint_model, tools.devices), clips.shape[1]
    found = [network.run(detect_keypoints, network.filled_up(frames, length), axes=(0,)) for frames in clips]
    return Keypoints(*(np.stack([np.asarray(x)[:length] for x in part]) for part in zip(*found, strict=True)))

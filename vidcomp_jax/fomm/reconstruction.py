"""Reconstruction of clips from their first frame: the frames, their scores, and a panel of examples.

The evaluation of the First Order Motion Model (Siarohin et al., NeurIPS 2019, section 4): every frame of a held-out
clip is rendered from the clip's first frame and its own keypoints.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from vidcomp_jax.background import WriteBehind
from vidcomp_jax.data.clips import Clips, Index, spread
from vidcomp_jax.fomm.animation import Chunk, animate
from vidcomp_jax.fomm.keypoints import Keypoints
from vidcomp_jax.fomm.model import EncodedSource, FirstOrderMotionModel, Rendered
from vidcomp_jax.media.images import to_float, to_uint8, write_strip
from vidcomp_jax.media.panels import PanelConfig, draw_keypoints, keypoint_colors, panel, with_border
from vidcomp_jax.media.video import VideoWriter
from vidcomp_jax.metrics import FrameScores, score
from vidcomp_jax.nn.frames import unit_frames
from vidcomp_jax.nn.geometry import RandomWarp, RandomWarpConfig
from vidcomp_jax.replicas import Devices, Replicas

TITLES = ("source", "driving", "source keypoints", "driving keypoints", "deformed source", "occlusion", "prediction")
PLAIN = PanelConfig()


class Reconstruction(NamedTuple):
    """One reconstructed clip.

    Attributes:
        truth: the clip's frames, in [0, 1].
        keypoints: the keypoints detected in them.
        rendered: the same frames, rendered from the first one.
    """

    truth: Float[np.ndarray, "t h w c"]
    keypoints: Keypoints
    rendered: Rendered

    def score(self) -> FrameScores:
        """Score each rendered frame against the clip's."""
        return score(self.rendered.prediction, self.truth)


def reconstruct(
    model: FirstOrderMotionModel, frames: Float[np.ndarray, "t h w c"], chunk: int = 16, *, devices: Devices = None
) -> Reconstruction:
    """Render all frames of a clip from its first one.

    Args:
        model: a trained model.
        frames: the clip's frames, in [0, 1].
        chunk: number of frames processed at a time, on all devices together. Clips are padded to a multiple of it, so
            that clips of all lengths share one compiled program.
        devices: devices of this process that share the frames of each chunk; all of them if None.
    """
    unit = unit_frames(frames)
    source = unit[0]
    keypoints = model.detect(source)
    network = Replicas(model, devices)
    encoded = network.shared(model.encode(source, keypoints))
    parts, before = [], None
    for start in range(0, len(frames), chunk):
        part = unit[start : start + chunk]
        done = network.run(_detect_and_render, encoded, network.filled_up(part, chunk), axes=(None, 0))
        if before is not None:  # fetched while the devices work on the next chunk
            parts.append(_fetched(*before))
        before = done, len(part)
    assert before is not None
    found, rendered = jax.tree.map(lambda *xs: np.concatenate(xs), *parts, _fetched(*before))
    return Reconstruction(frames, found, rendered)


def _detect_and_render(
    model: FirstOrderMotionModel, encoded: EncodedSource, frames: Float[Array, "t h w c"]
) -> tuple[Keypoints, Rendered]:
    found = model.detect(frames)
    return found, model.render(encoded, None, found)


def _fetched(results: Any, count: int) -> Any:
    """The first `count` examples of results on devices, on the host."""
    return jax.tree.map(lambda x: np.asarray(x)[:count], results)


def reconstructions(
    model: FirstOrderMotionModel, clips: Clips, max_clips: int | None = None, max_frames: int | None = None
) -> Iterator[Reconstruction]:
    """Reconstruct clips one after another, up to `max_frames` frames of each.

    At most `max_clips` clips are used, spread over the data set because neighbors often show the same person.
    """
    count = len(clips.names)
    for clip in spread(count, max_clips or count):
        length = int(clips.lengths[clip])
        frames = clips.frames(clip, np.arange(length if max_frames is None else min(length, max_frames)))
        yield reconstruct(model, to_float(frames))


def reconstruction_error(
    model: FirstOrderMotionModel, clips: Clips, max_clips: int = 64, max_frames: int = 32
) -> float:
    """Mean L1 error of reconstructed clips, with frames in [0, 1]; see `reconstructions` for which clips are used."""
    return float(np.mean([found.score().l1.mean() for found in reconstructions(model, clips, max_clips, max_frames)]))


@dataclasses.dataclass(frozen=True)
class ReconstructionScores:
    """Mean scores of reconstructed frames of one clip, or of many clips.

    Attributes:
        l1: mean absolute error, of values in [0, 1].
        l1_of_first_frame: the same when the first frame is repeated.
        num_frames: number of frames scored.
        psnr: peak signal-to-noise ratio in decibels.
        ssim: structural similarity.
    """

    l1: float
    l1_of_first_frame: float
    num_frames: int
    psnr: float
    ssim: float

    @staticmethod
    def mean(scores: list["ReconstructionScores"]) -> "ReconstructionScores":
        """The mean over all frames of all clips, as in the published evaluation."""
        weights = [score.num_frames for score in scores]

        def mean(field: str) -> float:
            return float(np.average([getattr(score, field) for score in scores], weights=weights))

        return ReconstructionScores(mean("l1"), mean("l1_of_first_frame"), sum(weights), mean("psnr"), mean("ssim"))


def score_clip(
    model: FirstOrderMotionModel,
    clips: Clips,
    clip: Index,
    *,
    max_frames: int | None = None,
    chunk: int = 8,
    video: Path | None = None,
    strip: Path | None = None,
    devices: Devices = None,
) -> ReconstructionScores:
    """Reconstruct one clip and score it, in chunks, so that memory use does not grow with its length.

    Args:
        model: a trained model.
        clips: the data set.
        clip: index of the clip in it.
        max_frames: number of frames to use at most, from the clip's start; None uses all.
        chunk: number of frames rendered at a time, on all devices together.
        video: file to write, with the source, the true and the rendered frame side by side; none by default.
        strip: image to write, with all rendered frames side by side; none by default.
        devices: devices of this process that share the frames of each chunk; all of them if None.
    """
    length = int(clips.lengths[clip]) if max_frames is None else min(max_frames, int(clips.lengths[clip]))
    source = clips.frames(clip, [0])[0]
    chunks = frames_in_chunks(clips, clip, length, chunk)
    rendered = animate(model, source, chunks, chunk=chunk, devices=devices)
    parts, repeated, kept = [], [], []
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(VideoWriter(video, fps=clips.fps)) if video is not None else None
        behind = stack.enter_context(WriteBehind())
        stack.enter_context(contextlib.closing(rendered))
        for truth, result in zip(frames_in_chunks(clips, clip, length, chunk), rendered, strict=True):
            unit = to_float(truth)
            parts.append(score(result, unit))
            repeated.append(score(to_float(source), unit).l1)
            if strip is not None:
                kept.append(to_uint8(result))
            if writer is not None:
                beside = [np.broadcast_to(source, truth.shape), truth, to_uint8(result)]
                behind(writer.write, np.concatenate(beside, axis=2))
    if strip is not None:
        write_strip(strip, np.concatenate(kept))
    l1, psnr, ssim = (float(np.concatenate(x).mean()) for x in zip(*parts, strict=True))
    return ReconstructionScores(l1, float(np.concatenate(repeated).mean()), length, psnr, ssim)


def frames_in_chunks(clips: Clips, clip: Index, length: int, chunk: int) -> Iterator[Chunk]:
    """The first `length` frames of a clip, up to `chunk` at a time."""
    for start in range(0, length, chunk):
        yield clips.frames(clip, np.arange(start, min(start + chunk, length)))


def reconstruction_panel(
    model: FirstOrderMotionModel, clips: Clips, num_rows: int = 6, config: PanelConfig = PLAIN
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture with one reconstruction per row, of clips spread over the data set.

    Each row shows how the 16th frame of a clip, or the last of a shorter one, is rendered from the first.
    """
    rows = []
    for clip in spread(len(clips.names), num_rows):
        frames = to_float(clips.frames(clip, [0, min(int(clips.lengths[clip]), 16) - 1]))
        cells = _cells(model, frames, config)
        shown = [with_border(image) for image in cells.values()] if config.border else list(cells.values())
        rows.append(shown)
    return panel(rows, list(cells))


def _cells(
    model: FirstOrderMotionModel, frames: Float[np.ndarray, "2 h w c"], config: PanelConfig
) -> dict[str, Float[np.ndarray, "_h _w _c"]]:
    """The images of one row, by their titles."""
    found = reconstruct(model, frames, chunk=2)
    rendered = jax.tree.map(lambda x: x[1], found.rendered)
    draw = functools.partial(draw_keypoints, radius=config.keypoint_size or None, colormap=config.colormap)
    drawn = [draw(frame, position) for frame, position in zip(frames, found.keypoints.position, strict=True)]
    outputs = [rendered.deformed_source, rendered.occlusion_map, rendered.prediction]
    cells = dict(zip(TITLES, [*frames, *drawn, *outputs], strict=True))
    if config.equivariance:
        warp = RandomWarp.draw(jax.random.split(jax.random.key(0), 1), RandomWarpConfig())
        warped = np.asarray(warp.warp_frame(frames[1:], align_corners=model.config.align_corners)[0])
        cells["warped driving"] = draw(warped, np.asarray(model.detect(warped).position))
    if config.motions:
        masks = np.moveaxis(rendered.masks, -1, 0)[..., None]
        colors = np.concatenate([np.zeros((1, 3)), keypoint_colors(len(masks) - 1, config.colormap)])
        for i, (motion, mask) in enumerate(zip(rendered.sparse_deformed, masks, strict=True)):
            cells[f"motion {i}"] = motion
            cells[f"mask {i}"] = mask * colors[i].astype(np.float32) if i else mask
        cells["masks"] = np.einsum("mhwc,md->hwd", masks, colors)
    return cells

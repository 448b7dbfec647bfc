"""Scores of batches as they are stored, made up, and a report of them."""

import dataclasses

import numpy as np

from vidcomp_jax.evaluation.batches import CEILING
from vidcomp_jax.evaluation.plots import plots_of
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.report import shown_clips, write_report
from vidcomp_jax.evaluation.summary import gather, summarize
from vidcomp_jax.evaluation.table import make_table

FRAMES = 3


def scores(seed, samples, count=6, features=False):
    rng = np.random.default_rng(seed)
    found = {name: rng.random((count, samples, FRAMES)) for name in ("l1", "mse", "psnr", "ssim")}
    found |= {"jitter": rng.random((count, samples)), "seconds": np.array(0.25)}
    found["diversity"] = rng.random(count) if samples > 1 else np.full(count, np.nan)
    if features:
        found["features"] = rng.normal(size=(count, samples, 4))
    return found


def batch(seed, count=6, features=False):
    """Return the scores of one batch, as they are stored."""
    methods = {"net_1": scores(seed, 3, count, features), "blend": scores(seed + 1, 1, count, features)}
    ceiling = scores(seed + 2, 1, count, features)
    del ceiling["seconds"]
    ceiling["psnr"] += 10
    methods[CEILING] = ceiling
    arrays = {f"{name}/{key}": value for name, found in methods.items() for key, value in found.items()}
    truth = {"truth/jitter": np.full(count, 0.5), "shown/0/blend/frames": np.zeros((5, 16, 16, 1), np.uint8)}
    if features:
        truth["truth/features"] = np.random.default_rng(seed + 3).normal(size=(count, 4))
    return {**truth, **arrays}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a report lists as settings."""

    note: str = "</pre><script>alert(1)</script>"


def batch_to_show(seed=0):
    """Return a batch with the frames and keypoints of two clips: a bright square that moves to the right."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((5, 16, 16, 1), np.uint8)
    for t in range(5):
        frames[t, 4:8, 2 * t : 2 * t + 4] = 200
    arrays = batch(seed)
    del arrays["shown/0/blend/frames"]
    for clip in (0, 3):
        for title in ("truth", "net_1 1", "net_1 best of 3", "blend", CEILING):
            arrays[f"shown/{clip}/{title}/frames"] = frames
            if title != "blend":
                arrays[f"shown/{clip}/{title}/positions"] = rng.uniform(-0.8, 0.8, (5, 3, 2)).astype(np.float32)
    return arrays


def make_report(folder, names):
    """Write the report of one batch of six clips with these names into a folder."""
    protocol, arrays = Protocol(num_frames=5), batch_to_show()
    summary = summarize(gather([arrays]), protocol)
    losses = {"gan": {"loss": [(1, 2.0), (2, 1.0)], "steps_per_second": [(1, 1.0), (2, 1.0)]}}
    write_report(
        folder,
        summary,
        make_table(summary),
        plots_of(summary, protocol, losses),
        shown_clips([arrays], 6, names),
        protocol,
        Settings(),
        fps=10.0,
    )
    return folder / "report.html"

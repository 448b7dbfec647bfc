"""The demo, the whole job on data made on the spot: `make demo`.

Trains a small First Order Motion Model on synthetic clips, extracts the motion of its keypoints, trains every motion
model and 3D-convolution in-betweening, completes held-out clips with every method, and scores them. Ends with one
table, `report.html`, which plays the clips of all methods, and `completion.gif`. The same command after an interruption
goes on where it was; `--dataset=kth --data-dir=DIR` does the same with the videos of KTH.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import (
    evaluate,
    extract_motion,
    train_autoregressive,
    train_flow,
    train_fomm,
    train_inbetween,
    train_motion_gan,
)
from experiments.commands import run
from experiments.demo_plan import DemoConfig, Plan, plan
from experiments.extract_motion import ExtractMotionConfig
from vidcomp_jax.data import Clips, SyntheticClips, open_clips
from vidcomp_jax.data.clips import spread
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.files import TEXT_TABLE
from vidcomp_jax.evaluation.joints import fit_joints
from vidcomp_jax.evaluation.records import CLIPS, METRICS_FILE, Records
from vidcomp_jax.evaluation.report import REPORT, shown_clips
from vidcomp_jax.fomm.loading import load_fomm
from vidcomp_jax.fomm.model import FirstOrderMotionModel
from vidcomp_jax.fomm.reconstruction import reconstruction_panel, reconstructions
from vidcomp_jax.media.images import write_image
from vidcomp_jax.media.panels import panel
from vidcomp_jax.media.player import Row
from vidcomp_jax.media.video import VideoWriter
from vidcomp_jax.metrics import score
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.config import claim_workdir
from vidcomp_jax.storage.folders import mark, marker_of

RECONSTRUCTION = "reconstruction.txt"
PANEL = "panel.png"
GIF = "completion.gif"
_IN_GIF = ("truth", "blend", "linear", "flow 1")
_GIF_ROWS, _GIF_SCALE = 4, 2


class Stage(NamedTuple):
    """One stage of the demo: what it does, and the function that does it and returns an exit code."""

    title: str
    run: Callable[[], int | None]


def main(config: DemoConfig) -> int:
    """Run all stages, print the scores, and return the exit code."""
    settings, folder = plan(config), config.folder
    claim_folder(folder, config)
    began = time.monotonic()
    for stopped in run_stages(stages(settings, folder)):
        if stopped:
            return stopped
    print(f"\nHeld-out clips, rendered from their first frame:\n{(folder / RECONSTRUCTION).read_text()}")
    print("Held-out clips, completed from their first and last frame:")
    print((settings.evaluate.output / TEXT_TABLE).read_text())
    print(f"{minutes(time.monotonic() - began)} in all. Look at:")
    for name in (REPORT, GIF, PANEL):
        print(f"  {folder / name}")
    return 0


def claim_folder(folder: Path, config: DemoConfig) -> None:
    """Make the folder of the results, or check that an existing one holds a demo with the same settings.

    Raises:
        InputError: the folder holds other things, or a demo with other settings.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        marker = marker_of(folder)
        if marker is None or marker.kind != "demo":
            raise InputError(f"`output` is {folder}: holds other things than a demo; name another folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        mark(folder, "demo", growing=True)
    claim_workdir(folder, config)


def stages(settings: Plan, folder: Path) -> list[Stage]:
    """All stages, in order. Each goes on from what an earlier run left."""
    steps = f"{settings.fomm.train.num_steps} steps"
    return [
        Stage(f"train keypoints and rendering, {steps}", lambda: train_fomm.train(settings.fomm)),
        Stage("reconstruct held-out clips", lambda: _reconstruct(settings, folder)),
        Stage("extract motion", lambda: _extract(settings.motion)),
        Stage(
            f"train flow matching, {settings.flow.train.num_steps} steps",
            lambda: train_flow.main(settings.flow),
        ),
        Stage(
            f"train the motion GAN, {settings.wgan.train.num_steps} steps",
            lambda: train_motion_gan.main(settings.wgan),
        ),
        Stage(
            f"train the next-frame model, {settings.autoregressive.train.num_steps} steps",
            lambda: train_autoregressive.main(settings.autoregressive),
        ),
        Stage(
            f"train 3D convolutions, {settings.inbetween.train.num_steps} steps",
            lambda: train_inbetween.train(settings.inbetween),
        ),
        Stage("complete and score held-out clips", lambda: _evaluate(settings, folder)),
    ]


def run_stages(all_stages: list[Stage]) -> Iterator[int]:
    """Run stages one after another, with a line before and after each, and yield their exit codes."""
    for number, stage in enumerate(all_stages, 1):
        head = f"[{number}/{len(all_stages)}] {stage.title}"
        print(f"\n{head}", flush=True)
        began = time.monotonic()
        code = stage.run() or 0
        print(f"{head}: {'stopped after ' if code else ''}{minutes(time.monotonic() - began)}", flush=True)
        yield code


def minutes(seconds: float) -> str:
    """A duration, such as `3 min 07 s`."""
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"


def _reconstruct(settings: Plan, folder: Path) -> None:
    if (folder / RECONSTRUCTION).exists():
        return
    model = load_fomm(settings.fomm.workdir)
    train, test = (open_clips(settings.fomm.data, split) for split in ("train", "test"))
    write_image(folder / PANEL, reconstruction_panel(model, test))
    with new_file(folder / RECONSTRUCTION) as temporary:
        temporary.write_text(reconstruction_scores(model, train, test))


def reconstruction_scores(model: FirstOrderMotionModel, train: Clips, test: Clips) -> str:
    """Errors of reconstructed clips beside two baselines, and, where joints are known, the error of each."""
    mean = np.mean([train.frames(i, range(train.lengths[i])).mean(0) for i in range(len(train.names))], axis=0) / 255
    errors, positions = [], []
    for found in reconstructions(model, test):
        truth = found.truth
        errors.append([score(frames, truth).l1.mean() for frames in (found.rendered.prediction, truth[:1], mean)])
        positions.append(np.asarray(found.keypoints.position))
    titles = ("this model", "repeating the frame", "the mean image")
    lines = [f"  {title:20} L1 {error:.4f}" for title, error in zip(titles, np.mean(errors, axis=0), strict=True)]
    if isinstance(train, SyntheticClips) and isinstance(test, SyntheticClips):
        fit, scale = fit_joints(model.detect, train), np.array(test.frame_shape[1::-1]) / 2 - 0.5
        joints = np.stack([test.joints(clip) for clip in range(len(test.names))])
        fitted = fit.errors(np.stack(positions)[:, None], joints, scale).mean((0, 1, 2))
        fixed = fit.errors_of_mean(joints, scale).mean((0, 1))
        lines += ["Joints, by a linear fit to the keypoints (error in pixels; in brackets, that of a fixed point):"]
        rows = [*zip(fit.names, fitted, fixed, strict=True), ("mean", fitted.mean(), fixed.mean())]
        lines += [f"  {name.replace('_', ' '):20} {error:.2f} ({other:.2f})" for name, error, other in rows]
    return "\n".join(lines) + "\n"


def _extract(configs: tuple[ExtractMotionConfig, ...]) -> None:
    for config in configs:
        if not config.output.exists():
            extract_motion.main(config)


def _evaluate(settings: Plan, folder: Path) -> None:
    output = settings.evaluate.output
    if not (output / METRICS_FILE).exists():
        evaluate.main(settings.evaluate)
    shutil.copyfile(output / REPORT, folder / REPORT)
    choices = json.loads((output / METRICS_FILE).read_text())
    size = choices["settings"]["batch_size"]
    batches = Records(output / CLIPS).batches(-(-choices["settings"]["num_clips"] // size))
    rows = shown_clips(batches, size, choices["clips"])
    write_gif(folder / GIF, [rows[i] for i in spread(len(rows), _GIF_ROWS)])


def write_gif(path: Path, rows: list[Row]) -> None:
    """Write a GIF that plays clips, one a row: the truth, a cross-fade, and two methods."""
    players = [{player.title: player for player in row.players} for row in rows]
    titles = [title for title in _IN_GIF if all(title in found for found in players)]
    if not titles:
        raise InputError(f"{path}: no clips to show")
    count = min(len(found[titles[0]].frames) for found in players)
    with VideoWriter(path, fps=8) as video:
        for t in range(count):
            cells = [[_enlarged(found[title].frames[t]) for title in titles] for found in players]
            video.write(panel(cells, [title.removesuffix(" 1") for title in titles])[None])


def _enlarged(frame: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(frame, _GIF_SCALE, axis=0), _GIF_SCALE, axis=1)


if __name__ == "__main__":
    run(main, DemoConfig)

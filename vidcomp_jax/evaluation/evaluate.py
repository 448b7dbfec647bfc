"""Evaluates methods on clips, batch by batch, and writes all results into one folder.

The same call after an interruption goes on from the batches that are scored.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from tqdm import tqdm

from vidcomp_jax.background import read_ahead
from vidcomp_jax.completion.completers import Completer, FrameFormat
from vidcomp_jax.completion.frame_formats import check_frame_size
from vidcomp_jax.completion.methods import MethodSettings
from vidcomp_jax.data.clips import Clips, spread, spread_long
from vidcomp_jax.errors import InputError
from vidcomp_jax.evaluation.batches import Batch, Instruments, evaluate_batch, read_batch
from vidcomp_jax.evaluation.files import write_metrics, write_tables
from vidcomp_jax.evaluation.plots import plots_of
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.records import Records, finish_records
from vidcomp_jax.evaluation.report import shown_clips, write_report
from vidcomp_jax.evaluation.summary import gather, summarize
from vidcomp_jax.evaluation.table import Table, make_table
from vidcomp_jax.evaluation.video_features import MIN_FRAMES
from vidcomp_jax.inbetween.tfhub import find_module
from vidcomp_jax.metrics import SMALLEST
from vidcomp_jax.storage.checksums import checksum_of, checksum_of_weights
from vidcomp_jax.storage.config import ADDED_LATER
from vidcomp_jax.training.curves import read_scalars
from vidcomp_jax.training.run_log import METRICS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choices:
    """Everything that affects a number. An interrupted evaluation goes on only with the same choices."""

    methods: tuple[str, ...]
    """Names of the methods."""
    protocol: Protocol
    """What is given and how it is scored."""
    data: dict
    """Settings of the data."""
    render: str
    """Ends that frames are rendered from."""
    frame_shape: tuple[int, ...]
    """Height, width and channels of the frames."""
    num_clips: int
    """Number of clips."""
    clips: str
    """Checksum of the names of the clips, in order."""
    batch_size: int
    """Number of clips completed at a time, which determines the random keys of the samples."""
    seed: int
    """Seed of the samples."""
    report_clips: int
    """Number of clips whose frames are kept for the report."""
    weights: dict[str, str]
    """Checksums of the weights, by what they are for."""
    video_resizing: str = ""
    """How clips are resized for the Fréchet video distance."""
    precision: str = dataclasses.field(default="float32", metadata=ADDED_LATER)
    """What the networks compute in."""


def choose_clips(clips: Clips, protocol: Protocol) -> Int[np.ndarray, " n"]:
    """The clips of a protocol: spread evenly over those that are long enough.

    Raises:
        InputError: no clip is long enough.
    """
    chosen = spread_long(clips.lengths, protocol.num_frames, protocol.num_clips or len(clips.names))
    if not len(chosen):
        raise InputError(
            f"`num_frames` is {protocol.num_frames}; the longest of {len(clips.names)} clips has {clips.lengths.max()}"
        )
    return chosen


def check_frames(formats: Iterable[FrameFormat], frame_shape: tuple[int, int, int], *, setting: str = "size") -> None:
    """Raise an `InputError` unless all methods take frames of this height, width and number of channels.

    `setting` is the name of the setting that changes the size, for the message.
    """
    height, width, channels = frame_shape
    check_frame_size(list(formats), height, width, setting=setting)
    for f in formats:
        if f.num_channels not in (None, channels):
            raise InputError(
                f"frames of {channels} channels, but {f.needed_by} takes {f.num_channels}; give "
                f"`num_channels`={f.num_channels}"
            )
    if min(height, width) < SMALLEST:
        raise InputError(f"frames of {width}x{height} pixels; SSIM needs at least {SMALLEST} in both directions")


def check_video_distance(num_clips: int, protocol: Protocol) -> None:
    """Raise an `InputError` unless a Fréchet video distance can be computed of so many clips of this length."""
    if num_clips < 2:
        raise InputError(f"{num_clips} clip to evaluate; `i3d` computes a Fréchet distance, which needs at least 2")
    if protocol.num_frames < MIN_FRAMES:
        raise InputError(f"`num_frames` is {protocol.num_frames}; with `i3d` it must be at least {MIN_FRAMES}")


def checksums(settings: MethodSettings, completers: Mapping[str, Completer]) -> dict[str, str]:
    """Checksums of the weights that the methods use, by the name of their setting."""
    found = {}
    if any(completer.over_keypoints for completer in completers.values()):
        found["fomm"] = checksum_of_weights(settings.fomm, settings.which)
    for i, run in enumerate(settings.motion_model):
        found[f"motion_model.{i}"] = checksum_of_weights(run, settings.which)
    if "inbetween" in completers and settings.inbetween is not None:
        found["inbetween"] = checksum_of_weights(settings.inbetween, settings.which)
    if "tfhub" in completers:
        found["module"] = checksum_of(find_module(settings.module))
    return found


def digest_of_names(names: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that identify a list of names."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def score_clips(
    records: Records, clips: Clips, chosen: Int[np.ndarray, " n"], tools: Instruments, choices: Choices
) -> int:
    """Score all batches that are not yet there, with a progress bar; return the number of batches.

    A thread reads the next batch while one is scored.
    """
    size = choices.batch_size
    starts = range(0, len(chosen), size)
    shown = set(spread(len(chosen), choices.report_clips).tolist())
    missing = [number for number in range(len(starts)) if not records.has(number)]
    done = len(starts) - len(missing)

    def read(number: int) -> Batch:
        rows = range(starts[number], min(starts[number] + size, len(chosen)))
        return read_batch(
            clips,
            [int(chosen[row]) for row in rows],
            number,
            choices.protocol.num_frames,
            [i for i, row in enumerate(rows) if row in shown],
        )

    with (
        tqdm(total=len(starts), initial=done, desc="evaluating", unit="batch") as bar,
        contextlib.closing(read_ahead(map(read, missing))) as batches,
    ):
        for position, batch in enumerate(batches):
            records.save(batch.number, evaluate_batch(tools, batch, size, timed=position > 0))
            bar.update()
    return len(starts)


def write_results(
    output: Path,
    records: Records,
    num_batches: int,
    names: Sequence[str],
    tools: Instruments,
    choices: Choices,
    *,
    fps: float,
    runs: Mapping[str, Path] | None = None,
) -> Table:
    """Summarize the scores of all batches, and write the tables, the report and, last, `metrics.json`.

    Args:
        output: folder to write into.
        records: the scores.
        num_batches: number of batches.
        names: of all clips.
        tools: what they were scored with.
        choices: all settings.
        fps: frames per second of the clips.
        runs: training runs whose losses are shown, by what they are called; those without a log are left out.
    """
    i3d = "" if tools.i3d is None else tools.i3d.name
    summary = summarize(gather(records.batches(num_batches)), choices.protocol, i3d=i3d)
    table = make_table(summary)
    if len(names) < choices.protocol.num_clips and choices.protocol.name:
        table.notes.append(
            f"Protocol {choices.protocol.name} has {choices.protocol.num_clips} clips, this data {len(names)}: do not "
            "compare these numbers with published ones."
        )
    write_tables(output, table, summary, names)
    joint_names = () if tools.joints is None else tools.joints.names
    logs = {name: read_scalars(run / METRICS) for name, run in (runs or {}).items() if (run / METRICS).is_file()}
    plots = plots_of(summary, choices.protocol, logs)
    rows = shown_clips(records.batches(num_batches), choices.batch_size, names)
    write_report(output, summary, table, plots, rows, choices.protocol, choices, fps=fps)
    write_metrics(output, summary, table, choices, names, joint_names)
    finish_records(output)
    return table

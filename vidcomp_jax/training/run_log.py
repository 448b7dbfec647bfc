"""The log of a training run: JSON lines, TensorBoard events, image files and progress on the terminal."""

import io
import json
import logging
import math
import os
import pathlib
import socket
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import numpy as np
import tqdm
from jaxtyping import UInt8
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from vidcomp_jax.media.panels import encode_png
from vidcomp_jax.storage.atomic import new_file

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
PANELS = "panels"
_log = logging.getLogger(__name__)


class RunLog:
    """Writes the reports of a run to `workdir` and to the terminal. A context manager.

    On a terminal, a progress bar is shown at the bottom; elsewhere, each report is printed as one line. When a run is
    resumed, log entries after the step it resumes from are removed, so that no step appears twice.

    Args:
        workdir: folder for `metrics.jsonl`, `tensorboard/` and `panels/`.
        step: number of steps completed so far; entries of later steps are removed.
        num_steps: total number of steps of the run.
        stream: stream to print progress to, standard error by default.
    """

    def __init__(self, workdir: pathlib.Path, step: int, num_steps: int, stream: io.TextIOBase | None = None):
        self.workdir = pathlib.Path(workdir)
        self.num_steps = num_steps
        self._stream = stream or sys.stderr
        self._lines = _open_lines(self.workdir / METRICS, step)
        self._events = _Events(self.workdir / TENSORBOARD, step)
        self._bar = (
            tqdm.tqdm(total=num_steps, initial=step, unit="step", file=self._stream, dynamic_ncols=True)
            if self._stream.isatty()
            else None
        )

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, error_type, error, traceback):
        if self._bar is not None:
            self._bar.close()
        self._lines.close()
        self._events.close()

    def say(self, text: str) -> None:
        """Print one line, above the progress bar if there is one."""
        if self._bar is not None:
            self._bar.write(text, file=self._stream)
        else:
            print(text, file=self._stream, flush=True)

    def advance(self, step: int) -> None:
        """Move the progress bar to `step`."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def progress(self, step: int, metrics: Mapping[str, float], steps_per_second: float, data_wait: float) -> None:
        """Log the metrics of `step` and the speed of the run.

        Args:
            step: step that the metrics belong to.
            metrics: finite numbers by name.
            steps_per_second: speed since the last report; NaN if not known yet.
            data_wait: fraction of that time spent waiting for data, in [0, 1]; NaN if not known yet.
        """
        speed = {"steps_per_second": steps_per_second, "data_wait": data_wait}
        self.scalars(step, {**metrics, **{name: value for name, value in speed.items() if math.isfinite(value)}})
        losses = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._bar is not None:
            self._bar.set_postfix_str(f"{losses}  data wait {data_wait:.0%}")
            return
        known = math.isfinite(steps_per_second) and steps_per_second > 0
        remaining = _duration((self.num_steps - step) / steps_per_second) if known else "?"
        pace = f"{steps_per_second:.3g} steps/s  data wait {data_wait:.0%}  ETA {remaining}" if known else ""
        self.say(f"step {step}/{self.num_steps}  {losses}  {pace}".rstrip())

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Append `values` to the log as one JSON line and one TensorBoard event."""
        line = {"step": step, **{name: float(value) for name, value in values.items()}}
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()
        self._events.write(
            step, [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        )

    def images(self, step: int, images: Mapping[str, UInt8[np.ndarray, "h w c"]]) -> None:
        """Write each image to `panels/NAME-STEP.png` and to TensorBoard."""
        values = []
        for name, image in images.items():
            png = encode_png(image)
            path = self.workdir / PANELS / f"{name}-{step:08d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(path) as temporary:
                temporary.write_bytes(png)
            height, width, channels = image.shape
            picture = summary_pb2.Summary.Image(
                height=height, width=width, colorspace=channels, encoded_image_string=png
            )
            values.append(summary_pb2.Summary.Value(tag=f"panels/{name}", image=picture))
        self._events.write(step, values)


class _Events:
    """A TensorBoard event file. It avoids TensorBoard's own writer, which imports TensorFlow if it is installed."""

    def __init__(self, directory: pathlib.Path, step: int):
        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (directory / name).open("wb")
        self._records = RecordWriter(self._file)
        self._add(event_pb2.Event(file_version="brain.Event:2"))
        # Makes TensorBoard discard what an interrupted run logged for later steps.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(event_pb2.Event(step=step + 1, session_log=start))

    def write(self, step: int, values: list[summary_pb2.Summary.Value]) -> None:
        self._add(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=values)))

    def close(self) -> None:
        self._file.close()

    def _add(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._file.flush()


def entry_of(line: bytes) -> dict[str, int | float] | None:
    """The numbers in a line of `metrics.jsonl`, by name, with `step` among them; None if it is no such line."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    numbers = isinstance(entry, dict) and all(_is_number(value) for value in entry.values())
    return entry if numbers and isinstance(entry.get("step"), int) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e100  # beyond, charts overflow; no metric is


def _open_lines(path: pathlib.Path, step: int) -> TextIO:
    """Open `path` for appending, keeping only complete lines of steps up to `step`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept, damaged = [], 0
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        entry = entry_of(line)
        if entry is None or not line.endswith(b"\n"):
            damaged += number < len(lines)  # the last line may be that of a run that was killed while writing it
        elif entry["step"] <= step:
            kept.append(line)
    if damaged:
        _log.warning("%s: %d of %d lines cannot be read and are left out", path, damaged, len(lines))
    with new_file(path) as temporary:
        temporary.write_bytes(b"".join(kept))
    return path.open("a")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"

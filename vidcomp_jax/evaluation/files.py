"""Writes the numbers of an evaluation: `metrics.json`, `metrics.csv`, and the table as text, Markdown and LaTeX."""

import csv
import dataclasses
import io
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import msgspec

from vidcomp_jax.evaluation.batches import CEILING
from vidcomp_jax.evaluation.records import METRICS_FILE
from vidcomp_jax.evaluation.scores import METRICS
from vidcomp_jax.evaluation.summary import NUM_RESAMPLES, Summary
from vidcomp_jax.evaluation.table import Table, to_latex, to_markdown, to_text
from vidcomp_jax.storage.atomic import new_file

TEXT_TABLE = "table.txt"
_PACKAGES = ("vidcomp_jax", "jax", "flax", "numpy", "tensorflow", "torch")


def write_tables(output: Path, table: Table, summary: Summary, clips: Sequence[str]) -> None:
    """Write the table in three formats, and `metrics.csv` with a row for each clip and row of the table."""
    _write(output / TEXT_TABLE, to_text(table))
    _write(output / "table.md", to_markdown(table))
    _write(output / "table.tex", to_latex(table))
    names = [m.name for m in METRICS if any(m.name in row.clips for row in summary.rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "method", *names])
    for i, clip in enumerate(clips):
        for row in summary.rows:
            numbers = [f"{row.clips[name][i]:.8g}" if name in row.clips else "" for name in names]
            writer.writerow([clip, row.title, *numbers])
    _write(output / "metrics.csv", text.getvalue())


def write_metrics(
    output: Path,
    summary: Summary,
    table: Table,
    settings: Any,
    clips: Sequence[str],
    joint_names: Sequence[str] = (),
) -> None:
    """Write `metrics.json`, which marks the evaluation as finished: all numbers, and every choice that affects them.

    Args:
        output: folder of the evaluation.
        summary: the numbers.
        table: for its notes.
        settings: dataclass of all choices, as given to `open_records`.
        clips: names of the clips.
        joint_names: of the joints whose errors are in the summary.
    """
    rows = [
        {
            "title": row.title,
            "method": row.method,
            "is_ceiling": row.method == CEILING,
            "metrics": {name: x._asdict() for name, x in row.estimates.items()},
        }
        for row in summary.rows
    ]
    fvd = {
        name: {"value": x.value, "infinite": None if x.infinite is None else x.infinite._asdict()}
        for name, x in summary.fvd.items()
    }
    content: Mapping[str, Any] = {
        "rows": rows,
        summary.fvd_name or "fvd": fvd or None,
        "true_jitter": summary.true_jitter,
        "by_frame": summary.by_frame,
        "best_of": summary.best_of,
        "joints": {name: dict(zip(joint_names, x, strict=True)) for name, x in summary.joints.items()},
        "notes": table.notes,
        "meanings": {metric.name: metric.meaning for metric in METRICS},
        "settings": dataclasses.asdict(settings),
        "fixed": {
            "value_range": "[0, 1]",
            "intervals": f"95 %, percentiles of the means of {NUM_RESAMPLES} bootstrap resamples of the clips",
            "resizing": "data: bilinear, with a filter that widens when shrinking (vidcomp_jax/media/images.py)",
            "ssim": "11 x 11 Gaussian window, sigma 1.5, K1 0.01, K2 0.03, windows within the frame, channels averaged",
            "psnr": "peak 1, capped at 100 dB",
        },
        "versions": _versions(),
        "clips": list(clips),
    }
    encoded = msgspec.json.encode(content, enc_hook=str)
    with new_file(output / METRICS_FILE) as temporary:
        temporary.write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _write(path: Path, text: str) -> None:
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

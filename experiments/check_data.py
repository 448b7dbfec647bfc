"""Check a data set before training: `python -m experiments.check_data --dataset=kth --data-dir=DIR`.

Reads the whole data set, reports what it contains and what cannot be used, draws random clips, and writes a data card.
The exit code is 0 if training can start, and 1 if it cannot.
"""

import dataclasses
import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from experiments.commands import run
from experiments.configs import CONFIGS, Preset
from experiments.options import DataOptions, name_options
from vidcomp_jax.data import Clips, DataConfig
from vidcomp_jax.data.data_card import duration, is_data_card, write_data_card
from vidcomp_jax.data.datasets import READERS, place_of
from vidcomp_jax.data.inspection import SplitReport, contact_sheet, duplicates, inspect_split
from vidcomp_jax.errors import InputError, require_at_least
from vidcomp_jax.media.images import write_image, written_as
from vidcomp_jax.storage.atomic import check_output_file

_SHOWN = 10
_SHEET = "contact sheet"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckDataConfig:
    """Check a data set before training."""

    dataset: Preset = "kth"
    contact_sheet: Path = Path("contact_sheet.png")
    """Image of random clips to write; an earlier contact sheet is replaced."""
    data_card: Path = Path("data_card.md")
    """Page of Markdown to write, with the counts, sizes, rates, durations, subjects and licences of the data set; an
    earlier data card is replaced."""
    overwrite: bool = False
    """Replace the files of --contact-sheet and --data-card, whatever they are."""
    rows: int = 6
    """Number of clips of each split on the contact sheet."""
    seed: int = 0
    """Seed of the random choice of clips."""
    data: Annotated[DataOptions, tyro.conf.arg(name="")] = DataOptions()
    """Where the clips come from, and what their frames look like."""

    def __post_init__(self):
        require_at_least(self, rows=1, seed=0)


def main(config: CheckDataConfig) -> int:
    """Print the report, write the contact sheet, and return the exit code."""
    earlier = written_as(config.contact_sheet, _SHEET)
    check_output_file(config.contact_sheet, overwrite=config.overwrite or earlier, field="contact_sheet")
    earlier = is_data_card(config.data_card)
    check_output_file(config.data_card, overwrite=config.overwrite or earlier, field="data_card")
    reports = {split: inspect_split(config.data, split) for split in ("train", "test")}
    print(f"{config.data.kind}: {_place(config.data)}")
    for split, report in reports.items():
        _print_split(split, report, config.data)
    train, test = reports.values()
    both = sorted(set(train.subjects) & set(test.subjects))
    print(f"subjects in both splits: {_some(both) or 'none'}")
    _print_list("test clips whose frames are also in train", [" = ".join(p) for p in duplicates(train, test)])
    for split, report in reports.items():
        _print_list(
            f"clips that duplicate another clip of {split}", [" = ".join(p) for p in duplicates(report, report)]
        )
    if clips := [report.clips for report in reports.values() if report.clips is not None]:
        _draw(clips, config)
        command = shlex.join(["python", "-m", f"experiments.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
        write_data_card(config.data_card, config.data, place_of(config.data), reports, command)
        print(f"data card: {config.data_card}")
    found = {split: name_options(report.problem, CheckDataConfig, []) for split, report in reports.items()}
    problems = [f"{split}: {problem}" for split, problem in found.items() if problem]
    print(f"training cannot start; {'; '.join(problems)}" if problems else "training can start")
    return 1 if problems else 0


def _place(data: DataConfig) -> str:
    try:
        return str(place_of(data) or "drawn")
    except InputError:  # the reports of both splits say why
        return "not found"


def _print_remarks(report: SplitReport) -> None:
    clips, seconds = report.clips, ""
    assert clips is not None
    if report.seconds:
        seconds = f", of videos of {duration(report.seconds)}"
    lengths = clips.lengths
    shortest, longest, total = (duration(n / clips.fps) for n in (lengths.min(), lengths.max(), lengths.sum()))
    print(f"  durations: clips of {shortest} to {longest}, {total} in all{seconds}")
    for remark in report.remarks:
        print(f"  {name_options(remark, CheckDataConfig, [])}")


def _print_split(split: str, report: SplitReport, data: DataConfig) -> None:
    if report.clips is None:
        print(f"{split}: nothing")
        return
    lengths = report.clips.lengths
    print(
        f"{split}: {report.num_videos} {READERS[data.kind].files}, "
        f"{len(lengths)} clips of {lengths.min()} to {lengths.max()} frames, {np.sum(lengths)} frames, "
        f"read as {data.size}x{data.size}, {'gray' if data.num_channels == 1 else 'RGB'}, {report.clips.fps:g} fps"
    )
    for what, kinds in report.kinds.items():
        if kinds:
            print(f"  {what}: {kinds}")
    _print_remarks(report)
    print(f"  subjects: {len(report.subjects)}: {_some(report.subjects)}")
    if report.windows is not None:
        frames, total, drawn = report.windows
        print(f"  training: {total} windows of {frames} frames start at every frame; an epoch draws {drawn}")
    _print_list("  too short", report.too_short)
    _print_list("  unreadable", report.unreadable)


def _draw(clips: list[Clips], config: CheckDataConfig) -> None:
    try:
        sheet = contact_sheet(clips, rows=config.rows, columns=8, seed=config.seed)
    except InputError as error:
        print(f"contact sheet: none, {error}")
        return
    write_image(config.contact_sheet, sheet, written_as=_SHEET)
    print(f"contact sheet: {config.contact_sheet}")


def _print_list(what: str, items: list[str]) -> None:
    print(f"{what}: {len(items)}")
    for item in items:
        print(f"    {name_options(item, CheckDataConfig, [])}")


def _some(items: list[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


PRESETS = {name: CheckDataConfig(dataset=name, data=config.data) for name, config in CONFIGS.items()}

if __name__ == "__main__":
    logging.getLogger("vidcomp_jax.data").setLevel(logging.ERROR)  # the report already lists what is left out
    run(main, CheckDataConfig, PRESETS)

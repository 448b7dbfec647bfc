"""Describes a data set on one page of Markdown, its data card."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from vidcomp_jax.data.datasets import DataConfig, settings_of
from vidcomp_jax.data.inspection import SplitReport
from vidcomp_jax.errors import InputError, printable
from vidcomp_jax.storage.atomic import new_file
from vidcomp_jax.storage.untrusted import read_text

_MARK = "<!-- A data card, written by vidcomp_jax; it is replaced when it is written again. -->"
_LICENCE = re.compile(r"(licen[cs]e|copying|copyright)s?([._-].*)?", re.IGNORECASE)
_MOST = 20


def is_data_card(path: Path) -> bool:
    """Whether the file at `path` is a data card that `write_data_card` wrote; it need not exist."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MARK)) == _MARK.encode()


def write_data_card(
    path: Path, config: DataConfig, place: Path | None, reports: Mapping[str, SplitReport], command: str
) -> None:
    """Write the data card of a data set; the file appears under its name only when it is complete.

    Args:
        path: of the Markdown file.
        config: how the data set was read.
        place: its folder or list; None if it needs none.
        reports: of its splits, by their names.
        command: which makes the same card again.
    """
    with new_file(path) as temporary:
        temporary.write_text("\n".join(_lines(config, place, reports, command)) + "\n", encoding="utf-8")


def licences(place: Path) -> list[tuple[str, str]]:
    """Files that are named like a licence, and the first line of text in each; at most 20.

    They are looked for everywhere below a folder of data, and beside a list of videos.
    """
    folder, found = (place if place.is_dir() else place.parent), []
    for parent, folders, names in os.walk(folder):
        if folder != place:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(filter(_LICENCE.fullmatch, names)):
            path = Path(parent) / name
            found.append((path.relative_to(folder).as_posix(), _first_line(path)))
            if len(found) == _MOST:
                return found
    return found


def duration(seconds: float) -> str:
    """A duration as text: 8.5 s, 2:05 min, or 1:02:05 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02} h" if hours else f"{minutes}:{whole % 60:02} min"


def _first_line(path: Path) -> str:
    try:
        lines = read_text(path).split("\n")
    except InputError:
        return "not a text file"
    line = printable(next((line.strip(" \t\r#*=-") for line in lines if line.strip(" \t\r#*=-")), "empty"))
    return line if len(line) <= 120 else f"{line[:120]} ..."


def _lines(config: DataConfig, place: Path | None, reports: Mapping[str, SplitReport], command: str) -> Iterator[str]:
    yield from (_MARK, "", f"# Data card: {_cell(place.resolve().name if place else config.kind)}", "")
    columns = [_facts(report, config) for report in reports.values()]
    yield f"| | {' | '.join(reports)} |"
    yield f"|---|{'---|' * len(reports)}"
    for name in dict.fromkeys(name for column in columns for name in column):
        yield f"| {name} | {' | '.join(_cell(column.get(name, '')) for column in columns)} |"
    for split, report in reports.items():
        yield from ("", f"## Subjects of {split}", "", _cell(", ".join(report.subjects)) or "none")
    for split, report in reports.items():
        left_out = [*report.too_short, *report.unreadable, *([report.problem] if report.problem else [])]
        yield from ("", f"## Notes on {split}", "")
        lines = [line.replace("`", "") for line in dict.fromkeys([*report.remarks, *left_out])]
        yield from [f"- {_cell(line)}" for line in lines] or ["Everything is used."]
    yield from ("", "## Licences", "")
    found = licences(place) if place is not None else []
    yield from [f"- {_cell(name)}: {_cell(line)}" for name, line in found] or [
        "There is no file named LICENSE, LICENCE or COPYING beside the data."
        if place is not None
        else "The clips are drawn by the program."
    ]
    yield from ("", "## Settings", "", "```", *_settings(config), "```")
    yield from (
        "",
        "Written by this command, which replaces the whole page when it is run again:",
        "",
        "```",
        printable(command),
        "```",
    )


def _facts(report: SplitReport, config: DataConfig) -> dict[str, str]:
    if report.clips is None:
        return {"clips": "none"}
    lengths, fps = report.clips.lengths, report.clips.fps
    return {
        "files": str(report.num_videos),
        **{f"stored {name}": kinds for name, kinds in report.kinds.items()},
        "stored duration": duration(report.seconds) if report.seconds else "not stated",
        "clips": str(len(lengths)),
        "frames": str(int(lengths.sum())),
        "frames of a clip": f"{lengths.min()} to {lengths.max()}",
        "duration of a clip": f"{duration(lengths.min() / fps)} to {duration(lengths.max() / fps)}",
        "duration of all clips": duration(lengths.sum() / fps),
        "read as": f"{config.size}x{config.size}, {'gray' if config.num_channels == 1 else 'RGB'}, {fps:g} fps",
        "subjects": str(len(report.subjects)),
        "too short": str(len(report.too_short)),
        "unreadable": str(len(report.unreadable)),
    }


def _settings(config: DataConfig) -> list[str]:
    settings = settings_of(config)
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return [f"{name}: {msgspec.json.encode(value, enc_hook=str).decode()}" for name, value in values.items()]


def _cell(text: str) -> str:
    """`text` on one line, without anything that Markdown takes for markup."""
    return re.sub(r"([\\|<>\[\]*_`#&~])", r"\\\1", printable(text))

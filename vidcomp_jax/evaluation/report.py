"""Writes the report of an evaluation: one self-contained HTML file, and the plots and panels in it as PNG files.

The report has the table, players of all methods in step, curves, panels of frames, training losses and all settings.
It loads nothing from elsewhere, and works on a phone, in dark mode, by keyboard and with a screen reader.
"""

import base64
import dataclasses
import html
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vidcomp_jax.evaluation.plots import Plot
from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.scores import Arrays
from vidcomp_jax.evaluation.summary import Summary
from vidcomp_jax.evaluation.table import Cell, Column, Table, explanations
from vidcomp_jax.media.images import to_float
from vidcomp_jax.media.panels import encode_png, panel
from vidcomp_jax.media.player import Player, Row, page, players
from vidcomp_jax.storage.atomic import new_file

REPORT = "report.html"
PLOTS, PANELS = "plots", "panels"
_PANEL_ROWS = 5


def shown_clips(batches: Iterable[Arrays], batch_size: int, names: Sequence[str]) -> list[Row]:
    """The clips whose frames were kept, with a player for the truth and for each method.

    Args:
        batches: scores of all batches.
        batch_size: number of clips in each, but for the last.
        names: of all clips.
    """
    rows: list[Row] = []
    for number, batch in enumerate(batches):
        found: dict[int, list[Player]] = {}
        for key, frames in batch.items():
            parts = key.split("/")
            if parts[0] == "shown" and parts[-1] == "frames":
                positions = batch.get(key.removesuffix("frames") + "positions")
                title = "/".join(parts[2:-1])
                player = Player(title, to_float(frames), positions)
                found.setdefault(int(parts[1]), []).append(player)
        rows += [Row(names[number * batch_size + clip], found[clip]) for clip in sorted(found)]
    return rows


def write_report(
    output: Path,
    summary: Summary,
    table: Table,
    plots: Sequence[Plot],
    rows: Sequence[Row],
    protocol: Protocol,
    settings: Any,
    *,
    fps: float,
) -> None:
    """Write `report.html`, `plots/` and `panels/`; each file appears under its name only when it is complete.

    Args:
        output: folder of the evaluation.
        summary: the numbers.
        table: the table.
        plots: curves.
        rows: clips to play.
        protocol: what was given and scored.
        settings: dataclass of all choices.
        fps: frames per second of the clips.
    """
    for folder in (PLOTS, PANELS):
        (output / folder).mkdir(exist_ok=True)
    for plot in plots:
        _write(output / PLOTS / f"{plot.name}.png", plot.light)
    panels = [_panel(row, protocol) for row in rows]
    for i, image in enumerate(panels):
        _write(output / PANELS / f"clip-{i + 1}.png", image)
    count = len(next(iter(summary.rows)).clips["l1"])
    about = (
        f"{count} clips of {protocol.num_frames} frames; {len(protocol.known)} frames of each are given, the "
        f"{len(protocol.gap)} others are scored."
    )
    if protocol.name:
        about += f" Protocol {protocol.name}."
    curves = [plot for plot in plots if not plot.name.startswith("losses")]
    losses = [plot for plot in plots if plot.name.startswith("losses")]
    sections = [
        f"<p>{html.escape(about)}</p>",
        _section("Scores", _table(table)),
        _section("Clips", players(rows, fps=fps) if rows else ""),
        _section("Curves", "".join(map(_plot, curves))),
        _section("Panels", _panels([row.name for row in rows], panels)),
        _section("Training", "".join(map(_plot, losses))),
        _section("Settings", _settings(settings)),
    ]
    text = page("Evaluation", "\n".join(sections), style=_resource("report.css"), script=_resource("report.js"))
    _write(output / REPORT, text.encode())


def _section(title: str, body: str) -> str:
    return f'<section aria-label="{title}"><h2>{title}</h2>{body}</section>' if body else ""


def _table(table: Table) -> str:
    heads = [_head(Column("method", "method", "", "")), *map(_head, table.columns)]
    rows = []
    for title, cells, is_ceiling in zip(table.titles, table.cells, table.is_ceiling, strict=True):
        kind = ' class="ceiling"' if is_ceiling else ""
        name = html.escape(title)
        rows.append(f'<tr{kind}><th scope="row" data-value="{name}">{name}</th>{"".join(map(_cell, cells))}</tr>')
    notes = "".join(f'<p class="note">{_with_code(note)}</p>' for note in explanations(table))
    legend = "".join(f"<dt>{html.escape(c.label)}</dt><dd>{html.escape(c.meaning)}</dd>" for c in table.columns)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table of scores"><table id="scores">'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{notes}"
        f"<details><summary>What the columns mean</summary><dl>{legend}</dl></details>"
    )


def _with_code(note: str) -> str:
    """A note as HTML, with what is between backticks as code."""
    return re.sub("`([^`]*)`", r"<code>\1</code>", html.escape(note))


def _head(column: Column) -> str:
    label = html.escape(column.label)
    return f'<th scope="col" data-better="{column.better}"><button type="button">{label}</button></th>'


def _cell(cell: Cell) -> str:
    if cell.number is None:
        return '<td data-value="">-</td>'
    value = f"<strong>{cell.text}</strong>" if cell.best else cell.text
    interval = f"<small>{cell.interval}</small>" if cell.interval else ""
    return f'<td data-value="{cell.number:.9g}">{value}{interval}</td>'


def _plot(plot: Plot) -> str:
    title, description = html.escape(plot.title), html.escape(plot.description)
    return (
        f'<h3>{title}</h3><figure class="picture"><picture>'
        f'<source srcset="{_data_url(plot.dark)}" media="(prefers-color-scheme: dark)">'
        f'<img src="{_data_url(plot.light)}" alt="{description}"></picture></figure>'
    )


def _panels(names: Sequence[str], images: Sequence[bytes]) -> str:
    figures = "".join(map(_panel_figure, names, images))
    return f'<div class="panels">{figures}</div>' if figures else ""


def _panel_figure(name: str, image: bytes) -> str:
    label = html.escape(name)
    description = f"Frames of {label}, evenly spaced from top to bottom; the truth and each method from left to right"
    return f'<figure class="picture"><h3>{label}</h3><img src="{_data_url(image)}" alt="{description}"></figure>'


def _panel(row: Row, protocol: Protocol) -> bytes:
    times = np.linspace(protocol.window[0], protocol.window[-1], _PANEL_ROWS).round().astype(int)
    pictures = [[player.frames[t] for player in row.players] for t in times]
    drawn = panel(pictures, [player.title for player in row.players])
    scale = max(1, 96 // max(row.players[0].frames.shape[1:3]))
    return encode_png(drawn.repeat(scale, 0).repeat(scale, 1))


def _settings(settings: Any) -> str:
    encoded = msgspec.json.encode(dataclasses.asdict(settings), enc_hook=str)
    text = msgspec.json.format(encoded, indent=2).decode()
    return (
        f"<details><summary>All choices that affect a number</summary><pre>{html.escape(text)}</pre></details>"
        '<p class="note">metrics.json has the same, with the names of all clips and the versions of the packages.</p>'
    )


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _write(path: Path, content: bytes) -> None:
    with new_file(path) as temporary:
        temporary.write_bytes(content)


def _resource(name: str) -> str:
    return resources.files("vidcomp_jax.evaluation").joinpath(name).read_text(encoding="utf-8")

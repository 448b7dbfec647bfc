"""The table of an evaluation, as plain text, as Markdown and as LaTeX.

Input: a summary. Output: cells that the report shows as well, and text. Only what was computed is printed; a column
that lacks its weights says what is missing.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from vidcomp_jax.evaluation.batches import CEILING
from vidcomp_jax.evaluation.scores import METRICS
from vidcomp_jax.evaluation.summary import Estimate, Summary

NONE = "-"
FVD = "fvd"

NO_LPIPS = (
    "LPIPS was not computed: it needs weights, `--lpips=FILE`, which `python -m converters.convert_lpips "
    "--backbone=alexnet.pth --heads=alex.pth --output=FILE` makes."
)
NO_FVD = (
    "FVD was not computed: it needs an I3D network, `--i3d=deepmind/i3d-kinetics-400/1`, a folder with that module, or "
    "the TorchScript file of StyleGAN-V."
)
"""Notes about columns that lack their weights."""


class Column(NamedTuple):
    """A column: name in the files, heading, which values are better, and what it means."""

    name: str
    label: str
    better: Literal["lower", "higher", ""]
    meaning: str


class Cell(NamedTuple):
    """A number of the table.

    Attributes:
        text: the value, or a dash.
        interval: the 95 % interval, such as `24.1, 25.6`; empty if there is none.
        number: the value itself; None for a dash.
        best: whether it is the best of its column.
    """

    text: str = NONE
    interval: str = ""
    number: float | None = None
    best: bool = False


class Table(NamedTuple):
    """A table.

    Attributes:
        columns: headings.
        titles: of the rows.
        is_ceiling: whether each row is the ceiling, which is no method.
        cells: of each row.
        notes: on what was not computed.
    """

    columns: list[Column]
    titles: list[str]
    is_ceiling: list[bool]
    cells: list[list[Cell]]
    notes: list[str]


def make_table(summary: Summary) -> Table:
    """Arrange a summary. LPIPS and FVD have a column even if they were not computed, with a note how to get them."""
    present = {name for row in summary.rows for name in row.estimates} | {"lpips"}
    columns: list[Column] = []
    rows: list[list[Cell]] = [[] for _ in summary.rows]
    notes: list[str] = []
    for metric in METRICS:
        if metric.name not in present:
            continue
        label = f"{metric.label} (truth {summary.true_jitter:.4f})" if metric.name == "jitter" else metric.label
        columns.append(Column(metric.name, label, metric.better, metric.meaning))
        found = [row.estimates.get(metric.name) for row in summary.rows]
        for cells, cell in zip(rows, _cells(summary, found, metric.better, metric.digits), strict=True):
            cells.append(cell)
    meaning = "Fréchet video distance of the logits of I3D"
    columns.append(Column(summary.fvd_name or FVD, summary.fvd_name or "FVD", "lower", meaning))
    seen: set[str] = set()
    distances = []
    for row in summary.rows:  # the distance belongs to a method, and stands in its first row
        known = row.method in summary.fvd and row.method not in seen
        distances.append(Estimate(summary.fvd[row.method].value) if known else None)
        seen.add(row.method)
    for cells, cell in zip(rows, _cells(summary, distances, "lower", 2), strict=True):
        cells.append(cell)
    if not any("lpips" in row.estimates for row in summary.rows):
        notes.append(NO_LPIPS)
    if not summary.fvd_name:
        notes.append(NO_FVD)
    if not any("seconds" in row.estimates for row in summary.rows):
        notes.append("Seconds per clip were not measured: all clips fit into one batch, which includes compilation.")
    titles, ceiling = [row.title for row in summary.rows], [row.method == CEILING for row in summary.rows]
    return Table(columns, titles, ceiling, rows, notes)


def to_markdown(table: Table) -> str:
    """The table in Markdown, with intervals in brackets, the best of each column in bold, and the notes."""
    lines = [
        "| method | " + " | ".join(_markdown(column.label) for column in table.columns) + " |",
        "|---|" + "---|" * len(table.columns),
    ]
    for title, cells in zip(table.titles, table.cells, strict=True):
        shown = [(f"**{c.text}**" if c.best else c.text) + (f" [{c.interval}]" if c.interval else "") for c in cells]
        lines.append(f"| {_markdown(title)} | " + " | ".join(shown) + " |")
    lines += ["", *(note for note in explanations(table))]
    return "\n".join(lines) + "\n"


def to_text(table: Table) -> str:
    """The table for a terminal: means alone, the best of each column marked, and no columns that were not computed."""
    kept = [i for i in range(len(table.columns)) if any(cells[i].number is not None for cells in table.cells)]
    rows = [["method", *(table.columns[i].label for i in kept)]]
    for title, cells in zip(table.titles, table.cells, strict=True):
        rows.append([title, *(cells[i].text + ("*" if cells[i].best else " ") for i in kept)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    return "\n".join([*lines, "", "* the best of a column, the ceiling aside", *table.notes]) + "\n"


def to_latex(table: Table) -> str:
    """The table in LaTeX; it needs the package `booktabs`."""
    arrows = {"lower": r" $\downarrow$", "higher": r" $\uparrow$", "": ""}
    heads = [_latex(column.label) + arrows[column.better] for column in table.columns]
    lines = [
        "% Needs \\usepackage{booktabs}.",
        r"\begin{tabular}{l" + "r" * len(heads) + "}",
        r"\toprule",
        " & ".join(["method", *heads]) + r" \\",
        r"\midrule",
    ]
    for title, cells in zip(table.titles, table.cells, strict=True):
        shown = []
        for cell in cells:
            value = "--" if cell.number is None else rf"\textbf{{{cell.text}}}" if cell.best else cell.text
            shown.append(value + (rf" {{\scriptsize[{cell.interval}]}}" if cell.interval else ""))
        lines.append(" & ".join([_latex(title), *shown]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", *(f"% {note}" for note in explanations(table))]
    return "\n".join(lines) + "\n"


def explanations(table: Table) -> list[str]:
    """What stands below the table: how to read it, and what was not computed."""
    intervals = "Intervals are 95 % bootstrap intervals over clips. Bold: the best of a column, the ceiling aside."
    return [intervals, *table.notes]


def _cells(summary: Summary, found: Sequence[Estimate | None], better: str, digits: int) -> list[Cell]:
    texts = [NONE if x is None else f"{x.value:.{digits}f}" for x in found]
    compared = [
        float(text)
        for text, x, row in zip(texts, found, summary.rows, strict=True)
        if x is not None and row.method != CEILING
    ]
    best = None
    if compared and better:
        best = min(compared) if better == "lower" else max(compared)
    cells = []
    for text, x, row in zip(texts, found, summary.rows, strict=True):
        if x is None:
            cells.append(Cell())
            continue
        interval = "" if x.low is None or x.high is None else f"{x.low:.{digits}f}, {x.high:.{digits}f}"
        cells.append(Cell(text, interval, x.value, row.method != CEILING and float(text) == best))
    return cells


def _markdown(text: str) -> str:
    return text.replace("|", "\\|")


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)

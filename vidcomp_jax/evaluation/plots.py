"""Plots of an evaluation as PNG images, in colors for a light or a dark page, drawn with matplotlib."""

import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vidcomp_jax.evaluation.protocols import Protocol
from vidcomp_jax.evaluation.scores import METRICS
from vidcomp_jax.evaluation.summary import Summary

_COLUMNS = 3
_LIGHT = {"ink": "#1f2328", "line": "#d1d9e0", "ground": "#ffffff"}
_DARK = {"ink": "#e6edf3", "line": "#3d444d", "ground": "#0d1117"}
_COLORS = ("#3b7dd8", "#e07b00", "#2fa04a", "#d64550", "#9a6dd7", "#8c6d5a", "#d960ae", "#8a8f98", "#a3a52c", "#1aa6b7")
_STYLES = ("-", "--", "-.", ":")  # with the colors, lines can be told apart without seeing colors
_SKIPPED = ("steps_per_second", "data_wait")


class Curve(NamedTuple):
    """A line of a chart."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


class Chart(NamedTuple):
    """A chart: heading, label of the horizontal axis, and lines."""

    title: str
    x_label: str
    curves: list[Curve]


class Plot(NamedTuple):
    """A plot of several charts.

    Attributes:
        name: of its file, without the ending.
        title: heading.
        description: what it shows, for those who cannot see it.
        light, dark: PNG images.
    """

    name: str
    title: str
    description: str
    light: bytes
    dark: bytes


def plots_of(
    summary: Summary, protocol: Protocol, losses: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]]
) -> list[Plot]:
    """All plots of an evaluation.

    Args:
        summary: its numbers.
        protocol: which frames are scored.
        losses: the log of each training run, by the name of the run; see `training.curves.read_scalars`.
    """
    labels = {metric.name: metric.label for metric in METRICS}
    frames = list(protocol.gap)
    found = [
        _plot("by_frame", "Metric against frame index", "frame", labels, _by_metric(summary.by_frame, frames)),
        _plot("best_of", "Best of N samples against N", "samples", labels, _by_metric(summary.best_of, None)),
    ]
    for run, scalars in losses.items():
        lines = {
            name: [Curve(name, [step for step, _ in points], [value for _, value in points])]
            for name, points in scalars.items()
            if len(points) > 1 and name not in _SKIPPED
        }
        name = "losses-" + run.replace(" ", "-")
        found.append(_plot(name, f"Training of the {run}", "step", {}, lines))
    return [plot for plot in found if plot is not None]


def draw(charts: Sequence[Chart], *, dark: bool = False) -> bytes:
    """Draw charts side by side as one PNG, with one legend for all."""
    colors = _DARK if dark else _LIGHT
    columns = min(_COLUMNS, len(charts))
    rows = -(-len(charts) // columns)
    names = list(dict.fromkeys(curve.label for chart in charts for curve in chart.curves))
    figure = Figure(
        figsize=(4.2 * columns, 2.9 * rows + 0.5), dpi=110, facecolor=colors["ground"], layout="constrained"
    )
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(charts))]
    for chart, axis in zip(charts, axes, strict=True):
        _draw(axis, chart, names, colors)
    if len(names) > 1:
        handles = {line.get_label(): line for axis in axes for line in axis.get_lines()}
        shown = [handles[name] for name in names]
        legend = figure.legend(shown, names, loc="outside lower center", ncols=min(len(names), 5), frameon=False)
        for text in legend.get_texts():
            text.set_color(colors["ink"])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _draw(axis: Axes, chart: Chart, names: Sequence[str], colors: Mapping[str, str]) -> None:
    for curve in chart.curves:
        i = names.index(curve.label)
        axis.plot(
            curve.x,
            curve.y,
            label=curve.label,
            color=_COLORS[i % len(_COLORS)],
            linestyle=_STYLES[i % len(_STYLES)],
            marker="o" if len(curve.x) < 40 else None,
            markersize=3,
        )
    axis.set_title(chart.title, color=colors["ink"], fontsize=11)
    axis.set_xlabel(chart.x_label, color=colors["ink"])
    axis.set_facecolor(colors["ground"])
    axis.tick_params(colors=colors["ink"])
    axis.grid(color=colors["line"], linewidth=0.6)
    axis.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    for spine in axis.spines.values():
        spine.set_color(colors["line"])


def _by_metric(curves: Mapping[str, Mapping[str, Sequence[float]]], x: Sequence[int] | None) -> dict[str, list[Curve]]:
    """Lines of all methods by metric; numbered from 1 if `x` is None."""
    found: dict[str, list[Curve]] = {}
    for method, metrics in curves.items():
        for metric, values in metrics.items():
            places = range(1, len(values) + 1) if x is None else x
            found.setdefault(metric, []).append(Curve(method, list(places), values))
    return found


def _plot(
    name: str, title: str, x_label: str, labels: Mapping[str, str], lines: Mapping[str, list[Curve]]
) -> Plot | None:
    if not lines:
        return None
    charts = [Chart(labels.get(metric, metric), x_label, curves) for metric, curves in lines.items()]
    ends = "; ".join(
        f"{chart.title}: " + ", ".join(f"{c.label} from {c.y[0]:.4g} to {c.y[-1]:.4g}" for c in chart.curves)
        for chart in charts
    )
    return Plot(name, title, f"{title}, by {x_label}. {ends}.", draw(charts), draw(charts, dark=True))

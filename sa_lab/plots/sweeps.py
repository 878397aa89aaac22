"""What a sweep found: a surface over two dials, lines over one, all dials at once, and quality against time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from sa_lab.plots.style import COLOURS, DASHES, finish

MARKS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star")


@dataclass(frozen=True)
class Point:
    """A loss with its dials, and what came of it.

    Attributes:
        loss: its name.
        dials: values by name; None where the loss does not use a dial.
        mean, low, high: of the measure that is shown, over the runs; NaN for the bounds of one run.
        seconds: of a training, on average; NaN where nobody noted them.
        runs: how many.
    """

    loss: str
    dials: Mapping[str, Any]
    mean: float
    low: float
    high: float
    seconds: float = math.nan
    runs: int = 1

    @property
    def interval(self) -> str:
        """The bounds as they are read on hover."""
        return (
            "one run" if math.isnan(self.low) else f"95 % interval {self.low:.1f} to {self.high:.1f}, {self.runs} runs"
        )


def response_surface(points: Sequence[Point], x: str, y: str, *, measure: str, title: str) -> go.Figure:
    """A heat map of a measure over two dials; the interval is read on hover, the best cell has a frame.

    Args:
        points: of one loss, one for each pair of values.
        x, y: names of dials.
        measure: what is shown, with its unit; more is better.
        title: says what is seen.

    Raises:
        ValueError: no points, points of several losses, or two of the same values.
    """
    if len({point.loss for point in points}) != 1:
        raise ValueError(f"points are of {sorted({p.loss for p in points})}, expected one loss")
    at = {(point.dials[x], point.dials[y]): point for point in points}
    if len(at) < len(points):
        raise ValueError(f"{len(points)} points have {len(at)} values of {x} and {y}, expected each once")
    columns, rows = (sorted({key[i] for key in at}, key=_order) for i in (0, 1))
    grid = [[at.get((column, row)) for column in columns] for row in rows]
    figure = go.Figure(
        go.Heatmap(
            x=[*map(str, columns)], y=[*map(str, rows)], z=[[one.mean if one else None for one in row] for row in grid],
            text=[[f"{one.mean:.1f}" if one else "" for one in row] for row in grid], texttemplate="%{text}",
            customdata=[[one.interval if one else "not trained" for one in row] for row in grid],
            colorscale="Cividis", colorbar={"title": {"text": measure}}, hoverongaps=False,
            hovertemplate=f"{_short(x)} %{{x}}, {_short(y)} %{{y}}<br>{measure}: %{{z:.1f}}<br>%{{customdata}}"
            "<extra></extra>",
        )
    )  # fmt: skip
    best = max(at, key=lambda key: at[key].mean)
    i, j = columns.index(best[0]), rows.index(best[1])
    figure.add_shape(type="rect", x0=i - 0.5, x1=i + 0.5, y0=j - 0.5, y1=j + 0.5, line={"color": "black", "width": 4})
    figure.update_xaxes(title=_short(x), type="category", constrain="domain")
    figure.update_yaxes(title=_short(y), type="category")
    return finish(figure, title)


def over_dial(points: Sequence[Point], dial: str, *, measure: str, title: str) -> go.Figure:
    """A line for each loss over the values of a dial, evenly spaced, with intervals; level for a loss without the dial.

    Raises:
        ValueError: a loss has several points of one value.
    """
    figure = go.Figure()
    if len({(point.loss, str(point.dials[dial])) for point in points}) < len(points):
        raise ValueError(f"points have other dials besides {dial}, expected one point per loss and value")
    values = sorted({point.dials[dial] for point in points if point.dials[dial] is not None}, key=_order)
    for i, loss in enumerate(dict.fromkeys(point.loss for point in points)):
        mine = [point for point in points if point.loss == loss]
        if mine[0].dials[dial] is None:
            mine = [mine[0]] * len(values)
        else:
            mine.sort(key=lambda point: _order(point.dials[dial]))
        at = [value if mine[0].dials[dial] is None else p.dials[dial] for p, value in zip(mine, values, strict=False)]
        figure.add_scatter(
            x=[*map(str, at)], y=[p.mean for p in mine], name=loss, mode="lines+markers",
            line={"color": COLOURS[i % len(COLOURS)], "dash": DASHES[i % len(DASHES)]},
            marker={"symbol": MARKS[i % len(MARKS)], "size": 9}, customdata=[p.interval for p in mine],
            error_y={"type": "data", "symmetric": False, "array": [p.high - p.mean for p in mine],
                     "arrayminus": [p.mean - p.low for p in mine]},
            hovertemplate=f"{_short(dial)} %{{x}}<br>{measure}: %{{y:.1f}}<br>%{{customdata}}<extra>{loss}</extra>",
        )  # fmt: skip
    figure.update_xaxes(
        title=_short(dial), type="category", categoryorder="array", categoryarray=[*map(str, values)]
    )  # fmt: skip
    figure.update_yaxes(title=measure)
    return finish(figure, title)


def parallel(points: Sequence[Point], *, measure: str, title: str) -> go.Figure:
    """Parallel coordinates: an axis for the loss and for each dial that differs, coloured by the measure.

    Raises:
        ValueError: there are no points.
    """
    if not points:
        raise ValueError("points is empty, expected one or more")
    names = [name for name in points[0].dials if len({str(point.dials[name]) for point in points}) > 1]
    columns = {"loss": [point.loss for point in points]}
    columns |= {_short(name): ["-" if p.dials[name] is None else p.dials[name] for p in points] for name in names}
    axes = []
    for name, values in columns.items():
        order = sorted(dict.fromkeys(values), key=_order)
        axes.append(
            {"label": name, "values": [order.index(value) for value in values],
             "tickvals": [*range(len(order))], "ticktext": [*map(str, order)]}
        )  # fmt: skip
    means = [point.mean for point in points]
    axes.append({"label": measure, "values": means})
    line = {"color": means, "colorscale": "Viridis", "showscale": True, "colorbar": {"title": {"text": measure}}}
    figure = go.Figure(go.Parcoords(dimensions=axes, line=line))
    return finish(figure, title).update_layout(margin={"l": 90, "r": 60, "t": 90, "b": 40})


def pareto(points: Sequence[Point], *, measure: str, title: str) -> go.Figure:
    """The measure against seconds of a training; a line joins those that no other one beats in both."""
    known = [point for point in points if not math.isnan(point.seconds)]
    figure = go.Figure()
    for i, loss in enumerate(dict.fromkeys(point.loss for point in known)):
        mine = [point for point in known if point.loss == loss]
        dials = ["; ".join(f"{_short(k)} {v}" for k, v in p.dials.items() if v is not None) for p in mine]
        figure.add_scatter(
            x=[p.seconds for p in mine], y=[p.mean for p in mine], name=loss, mode="markers",
            marker={"symbol": MARKS[i % len(MARKS)], "size": 10, "color": COLOURS[i % len(COLOURS)]},
            customdata=[*zip(dials, [p.interval for p in mine], strict=True)],
            hovertemplate=f"%{{customdata[0]}}<br>%{{x:.0f}} s, {measure}: %{{y:.1f}}<br>%{{customdata[1]}}"
            f"<extra>{loss}</extra>",
        )  # fmt: skip
    front = [p for p in known if not any((o.mean, -o.seconds) != (p.mean, -p.seconds) and o.mean >= p.mean
                                         and o.seconds <= p.seconds for o in known)]  # fmt: skip
    front.sort(key=lambda point: point.seconds)
    figure.add_scatter(
        x=[p.seconds for p in front], y=[p.mean for p in front], name="not beaten in both", mode="lines",
        line={"color": "black", "width": 1, "shape": "hv"}, hoverinfo="skip",
    )  # fmt: skip
    figure.update_xaxes(title="seconds of a training")
    figure.update_yaxes(title=measure)
    return finish(figure, title)


def _order(value: Any) -> tuple[bool, float, str]:
    """Numbers by size, then everything else as text."""
    number = isinstance(value, (int, float))
    return not number, value if number else 0.0, str(value)


def _short(dial: str) -> str:
    return dial.split(".")[-1].replace("_", " ")

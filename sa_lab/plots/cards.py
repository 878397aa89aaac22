"""Overlap of the spectra at one glance: cosines, densities, measures along training, runs side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int, Num
from plotly.subplots import make_subplots

from sa_lab.plots.projections import projection
from sa_lab.plots.style import COLOURS, DASHES, SPECTRA, finish

MOST_RUNS = 4
"""Most runs that a card compares."""
MARKS = ("circle", "square", "diamond", "triangle-up")
_TICKS = 24  # of a heat map, at most


@dataclass(frozen=True)
class RunCard:
    """What a card shows of a run.

    Attributes:
        samples: coordinates in the plane.
        person_ids, modality: of the samples.
        prototypes: (2C,2) coordinates, visible half first.
        pairs: similarities by kind of pair, such as "same person, other spectrum".
        measures: (mean, low, high) by title.
        trustworthiness: of the coordinates, in [0,1].
        prototype_ids: as in `projection`.
    """

    samples: Float[np.ndarray, "N 2"]
    person_ids: Int[np.ndarray, " N"]
    modality: Int[np.ndarray, " N"]
    prototypes: Float[np.ndarray, "M 2"]
    pairs: Mapping[str, np.ndarray]
    measures: Mapping[str, tuple[float, float, float]]
    trustworthiness: float
    prototype_ids: Int[np.ndarray, " C"] | None = None


def heat_map(cosines: Float[np.ndarray, "M M"], person_ids: Int[np.ndarray, " C"], *, title: str) -> go.Figure:
    """Cosines between all prototypes, an identity's two beside each other, identities in ascending order.

    Args:
        cosines: (2C,2C) in [-1,1], visible half first.
        person_ids: of the C identities.
        title: says what is seen.

    Raises:
        ValueError: not two prototypes an identity.
    """
    half = len(person_ids)
    if len(cosines) != 2 * half:
        raise ValueError(f"cosines has shape {cosines.shape}, expected {(2 * half, 2 * half)} for {half} identities")
    first = np.argsort(person_ids)
    order = np.stack([first, first + half], axis=1).ravel()
    names = [f"{person} {spectrum}" for person in person_ids[first] for spectrum in SPECTRA]
    every = 1 if 2 * half <= _TICKS else 2 * -(-half // _TICKS)
    figure = go.Figure(
        go.Heatmap(
            x=names, y=names, z=cosines[np.ix_(order, order)].astype(np.float32), zmin=-1, zmax=1,
            colorscale="RdBu", reversescale=True, colorbar={"title": {"text": "cosine"}},
            hovertemplate="%{y} and %{x}<br>cosine %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    axis = {"type": "category", "tickvals": names[::every], "tickfont": {"size": 10}, "constrain": "domain"}
    figure.update_xaxes(title="prototype: identity and spectrum", tickangle=-90, **axis)
    figure.update_yaxes(title="prototype: identity and spectrum", autorange="reversed", scaleanchor="x", **axis)
    return finish(figure, title, height=680, width=760).update_layout(margin={"l": 110, "b": 110})


def histograms(
    values: Mapping[str, Float[np.ndarray, " N"]], *, title: str, x_title: str, num_bins: int = 60
) -> go.Figure:
    """Overlaid densities on one axis, as steps; only the counts go into the figure, not the values."""
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), num_bins)
    figure = go.Figure(
        [
            go.Scatter(
                x=(edges[:-1] + edges[1:]) / 2, y=np.histogram(v, edges, density=True)[0], name=name, mode="lines",
                fill="tozeroy", opacity=0.7, line={"color": COLOURS[i], "shape": "hvh", "dash": DASHES[i % 5]},
            )
            for i, (name, v) in enumerate(values.items())
        ]
    )  # fmt: skip
    figure.update_xaxes(title=x_title).update_yaxes(title="density")
    return finish(figure, title)


def over_training(
    steps: Num[np.ndarray, " T"],
    columns: Mapping[str, Mapping[str, Float[np.ndarray, " T"]]],
    titles: Mapping[str, str],
    *,
    title: str = "Overlap of the spectra while training",
) -> go.Figure:
    """One panel per measure, one line per run; NaN where a measure was not taken.

    Args:
        steps: at which measures were taken.
        columns: values by run and measure.
        titles: of the panels, by measure.
        title: says what is seen.
    """
    across = min(3, len(titles))
    down = -(-len(titles) // across)
    figure = make_subplots(down, across, horizontal_spacing=0.11, vertical_spacing=0.36 / down if down > 1 else 0)
    for panel, name in enumerate(titles.values()):
        place = {"row": panel // across + 1, "col": panel % across + 1}
        figure.update_yaxes(title={"text": "<br>".join(textwrap.wrap(name, 30)), "standoff": 4}, **place)
    for i, (run, measures) in enumerate(columns.items()):
        for panel, measure in enumerate(titles):
            if measure not in measures:
                continue
            taken = np.isfinite(measures[measure])
            figure.add_scatter(
                x=steps[taken], y=measures[measure][taken].astype(np.float32), name=run, legendgroup=run,
                showlegend=measure == next(name for name in titles if name in measures), mode="lines+markers",
                line={"color": COLOURS[i % 10], "dash": DASHES[i % 5], "width": 2}, marker={"symbol": i, "size": 6},
                row=panel // across + 1, col=panel % across + 1,
            )  # fmt: skip
    figure.update_xaxes(title="step")
    finish(figure, title, height=160 + 240 * down, width=820)
    return figure.update_layout(
        legend={"orientation": "h", "yref": "container", "y": 0.01, "yanchor": "bottom"}, margin={"t": 90, "b": 100}
    )


def overlap_card(runs: Mapping[str, RunCard], *, title: str = "Overlap of the spectra") -> go.Figure:
    """Up to four runs side by side in one picture: projection, similarities, and below each measure with its interval.

    Args:
        runs: by the name they are shown with.
        title: says what is seen.

    Raises:
        ValueError: no run, or more than four.
    """
    if not 1 <= len(runs) <= MOST_RUNS:
        raise ValueError(f"runs has {len(runs)} entries, expected 1..{MOST_RUNS}")
    measures = list(dict.fromkeys(name for card in runs.values() for name in card.measures))
    lines = -(-len(measures) // 4)
    heights = [250, 130, *[44 + 28 * len(runs)] * lines]
    gaps = [88, 110, *[96] * lines]  # below each row of panels
    panels = _Panels(heights, gaps)
    for i, (name, card) in enumerate(runs.items()):
        heading = "<br>".join(textwrap.wrap(name, 96 // len(runs)))
        _add_projection(panels, panels.at(0, i, len(runs), heading), card, first=i == 0)
        _add_pairs(panels, panels.at(1, i, len(runs)), runs, card, first=i == 0)
    for k, measure in enumerate(measures):
        _add_measure(panels, panels.at(2 + k // 4, k % 4, min(4, len(measures))), runs, measure, k % 4 == 0)
    finish(panels.figure, title, height=panels.height, width=820)
    return panels.figure.update_layout(
        margin={"l": panels.LEFT, "r": panels.RIGHT, "t": panels.TOP, "b": gaps[-1]},
        legend={"orientation": "h", "yref": "container", "y": 0.005, "yanchor": "bottom", "font": {"size": 11}},
    )


class _Panels:
    """Rows of panels that stand on a figure by pixels."""

    WIDTH, LEFT, RIGHT, TOP, GAP = 820, 96, 20, 110, 22

    def __init__(self, heights: Sequence[int], gaps: Sequence[int]) -> None:
        self.figure, self._count = go.Figure(), 0
        self._inside = sum(heights) + sum(gaps[:-1])
        self.height = self.TOP + self._inside + gaps[-1]
        tops = [sum(heights[:row]) + sum(gaps[:row]) for row in range(len(heights))]
        self._rows = [
            (1 - (top + tall) / self._inside, 1 - top / self._inside) for top, tall in zip(tops, heights, strict=True)
        ]

    def at(self, row: int, column: int, columns: int, heading: str = "") -> int:
        """Number of a new panel, one of ``columns`` in its row."""
        self._count += 1
        gap = self.GAP / (self.WIDTH - self.LEFT - self.RIGHT)
        wide = (1 - gap * (columns - 1)) / columns
        left, (low, high) = column * (wide + gap), self._rows[row]
        axes = {"xaxis": (left, min(1, left + wide), "y"), "yaxis": (max(0, low), min(1, high), "x")}
        for axis, (start, end, other) in axes.items():
            self.figure.layout[f"{axis}{self._count}"] = {
                "domain": [start, end], "anchor": f"{other}{self._count}", "tickfont": {"size": 11},
                "title": {"standoff": 6, "font": {"size": 12}},
            }  # fmt: skip
        self.figure.add_annotation(
            text=heading, x=left + wide / 2, y=high, xref="paper", yref="paper", xanchor="center", yanchor="bottom",
            yshift=4, showarrow=False, font={"size": 12},
        )  # fmt: skip
        return self._count

    def draw(self, panel: int, trace: Any, **axes: Mapping[str, Any]) -> None:
        """Put a trace into a panel; ``axes``: x and y, properties of its axes."""
        self.figure.add_trace(trace.update(xaxis=f"x{panel}", yaxis=f"y{panel}"))
        for letter, properties in axes.items():
            self.figure.layout[f"{letter}axis{panel}"].update(properties)


def _add_projection(panels: _Panels, panel: int, card: RunCard, first: bool) -> None:
    drawn = projection(
        card.samples, card.person_ids, card.modality, title="", prototypes=card.prototypes, colour_by="identity",
        prototype_ids=card.prototype_ids,
    )  # fmt: skip
    below = f"arbitrary<br>trustworthiness {card.trustworthiness:.2f}"
    bare = {"showticklabels": False, "zeroline": False}
    for trace in drawn.data:
        trace.update(legendgroup=trace.name, showlegend=first)
        if trace.mode == "markers":
            trace.marker.size = 4 if trace.customdata is not None else 9
            trace.marker.line.width = None if trace.customdata is not None else 2
        panels.draw(
            panel, trace, x={"title": {"text": below}, **bare}, y={"title": {"text": "arbitrary" * first}, **bare}
        )


def _add_pairs(panels: _Panels, panel: int, runs: Mapping[str, RunCard], card: RunCard, first: bool) -> None:
    everything = np.concatenate([values for one in runs.values() for values in one.pairs.values()])
    edges = np.histogram_bin_edges(everything, 40)
    shared = {} if first else {"matches": "y2", "showticklabels": False}
    for i, (kind, values) in enumerate(card.pairs.items()):
        density = np.histogram(values, edges, density=True)[0]
        trace = go.Scatter(
            x=((edges[:-1] + edges[1:]) / 2).astype(np.float32), y=density.astype(np.float32), name=kind, mode="lines",
            fill="tozeroy", line={"color": COLOURS[3 + i], "shape": "hvh", "dash": DASHES[i], "width": 2},
            legendgroup=kind, showlegend=first,
        )  # fmt: skip
        ends = {"title": {"text": "similarity"}, "range": [edges[0], edges[-1]]}
        panels.draw(panel, trace, x=ends, y={"title": {"text": "density" * first}, "rangemode": "tozero", **shared})


def _add_measure(panels: _Panels, panel: int, runs: Mapping[str, RunCard], measure: str, first: bool) -> None:
    names = ["<br>".join(textwrap.wrap(name, 15, max_lines=2, placeholder="…")) for name in runs]
    ticks = {"tickfont": {"size": 10}, "tickvals": list(range(len(runs))), "ticktext": names}
    known = [i for i, card in enumerate(runs.values()) if measure in card.measures]
    cards = list(runs.values())
    mean, low, high = np.array([cards[i].measures[measure] for i in known], dtype=np.float32).T
    trace = go.Scatter(
        x=mean, y=known, text=[list(runs)[i] for i in known], name=measure, mode="markers", showlegend=False,
        hovertemplate="%{text}: %{x:.3g}<extra></extra>",
        marker={"symbol": [MARKS[i] for i in known], "size": 9, "color": [COLOURS[i] for i in known]},
        error_x={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low, "color": "grey"},
    )  # fmt: skip
    panels.draw(
        panel, trace, x={"nticks": 4, "zeroline": False, "title": {"text": "<br>".join(textwrap.wrap(measure, 24))}},
        y={**ticks, "range": [len(runs) - 0.5, -0.5], "showticklabels": first, "zeroline": False},
    )  # fmt: skip

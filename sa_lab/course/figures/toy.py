"""The toy world: where samples and prototypes stand, where each term pulls, and how losses and overlap run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int
from plotly.subplots import make_subplots

from sa_lab.plots.style import COLOURS, DASHES, SPECTRA, SYMBOLS, TERMS, finish

_OVERLAP = {"stranger_ratio": "modality gap", "prototype_alignment": "prototype cosine"}


def toy_world(
    samples: Float[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    prototypes: Float[np.ndarray, "C2 D"],
    centres: Float[np.ndarray, "C2 D"],
    pulls: Mapping[str, Float[np.ndarray, "C2 D"]],
    rows: Sequence[Mapping[str, float | int]],
    *,
    title: str,
    arrow_scale: float = 2.5,
) -> go.Figure:
    """A circle (D=2) or sphere (D=3) with its samples, prototypes and pulls; losses and overlap over the steps beside.

    Args:
        samples, labels, modality, prototypes, centres, pulls: as in `sa_lab.course.toy.Scene`.
        rows: one a step, as in `sa_lab.course.toy.Toy`.
        title: says what is seen.
        arrow_scale: length of an arrow for a gradient of length 1; arrows are at most half the radius long, and those
            below a fiftieth of it are left out.
    """
    flat, radius = samples.shape[1] == 2, round(float(np.linalg.norm(samples[0])), 3)
    figure = make_subplots(
        2, 2, specs=[[{"rowspan": 2, "type": "xy" if flat else "scene"}, {}], [None, {}]], column_widths=[0.56, 0.44],
        horizontal_spacing=0.1, vertical_spacing=0.2, subplot_titles=["", "loss terms", "overlap of the spectra"],
    )  # fmt: skip
    draw = go.Scatter if flat else go.Scatter3d

    def add(places: np.ndarray, **how: Any) -> None:
        gaps = [[None if np.isnan(value) else value for value in column] for column in places.T.tolist()]
        columns = dict(zip("xyz", gaps, strict=False))
        figure.add_trace(draw(columns, hoverinfo="skip", **how), 1, 1)

    half = len(prototypes) // 2
    people = [COLOURS[label % len(COLOURS)] for label in range(half)]
    add(radius * _circles(flat), mode="lines", name="where embeddings lie", line={"color": "#DDDDDD", "width": 1.5})
    add(_segments(prototypes[:half], prototypes[half:]), mode="lines", name="an identity's two prototypes",
        line={"color": "grey", "width": 1.5})  # fmt: skip
    for m, spectrum in enumerate(SPECTRA):
        seen = modality == m
        marker = {"symbol": SYMBOLS[m], "color": [people[label] for label in labels[seen]], "size": 10 if flat else 4}
        add(samples[seen], mode="markers", name=f"{spectrum} sample", marker={**marker, "opacity": 0.75})
    for m, spectrum in enumerate(SPECTRA):
        marker = {"symbol": f"{SYMBOLS[m]}-open", "color": people, "size": 17 if flat else 9}
        line = {"line": {"width": 3.5, "color": people}} if flat else {}
        add(
            prototypes[m * half : (m + 1) * half], mode="markers+text", name=f"{spectrum} prototype, with its identity",
            text=[str(label) for label in range(half)], textfont={"size": 10}, marker=marker | line,
        )  # fmt: skip
    for lane, term in enumerate(("identity", "sa_softmax", "absolute")):
        name, colour, _ = TERMS[term]
        pull = arrow_scale * pulls.get(term, np.zeros_like(centres))
        length = np.linalg.norm(pull, axis=1, keepdims=True)
        pull = pull * np.minimum(1, radius / 2 / np.maximum(length, 1e-9))
        pull[length[:, 0] < 0.02 * radius] = np.nan  # too short to have a direction
        start = (1.1 + 0.09 * lane) * centres + 0 * pull  # one lane a term outside the circle
        add(
            _segments(start, start + pull), mode="lines+markers", name=f"{name}: pull and loss", legendgroup=term,
            line={"color": colour, "width": 2.5 if flat else 4}, marker=_heads(colour, len(centres), flat),
        )  # fmt: skip
    steps = [row["step"] for row in rows]
    for term, (name, colour, dash) in TERMS.items():
        figure.add_scatter(
            x=steps, y=[row.get(term) for row in rows], mode="lines+markers", name=f"{name} loss",
            legendgroup=term, showlegend=term == "prototype", marker={"size": 3},
            line={"color": colour, "dash": dash, "width": 2}, row=1, col=2,
        )  # fmt: skip
    for i, (measure, name) in enumerate(_OVERLAP.items()):
        figure.add_scatter(
            x=steps, y=[row.get(measure) for row in rows], mode="lines+markers", name=name,
            line={"color": COLOURS[4 + i], "dash": DASHES[i], "width": 2}, marker={"size": 3}, row=2, col=2,
        )  # fmt: skip
    reach = 1.6 * radius
    while reach < float(np.abs(prototypes).max()):
        reach *= 1.5
    _axes(figure, flat, reach)
    figure.update_yaxes(title="nats", row=1, col=2).update_yaxes(title="cosine, ratio", range=[-1.1, 1.5], row=2, col=2)
    figure.update_xaxes(title="step", col=2)
    finish(figure, title, height=620, width=820)
    return figure.update_layout(legend={"orientation": "h", "y": -0.14, "font": {"size": 11}}, uirevision="same")


def _axes(figure: go.Figure, flat: bool, reach: float) -> None:
    if flat:
        place = {"range": [-reach, reach], "row": 1, "col": 1}
        figure.update_xaxes(title="first coordinate (arbitrary)", constrain="domain", **place)
        figure.update_yaxes(title="second coordinate (arbitrary)", scaleanchor="x", **place)
    else:
        names = {"x": "1st", "y": "2nd", "z": "3rd"}
        axes = {f"{x}axis": {"title": {"text": name}, "range": [-reach, reach]} for x, name in names.items()}
        figure.update_scenes(aspectmode="cube", camera={"eye": {"x": 1.3, "y": 1.3, "z": 0.9}}, **axes)


def _circles(flat: bool) -> np.ndarray:
    """The unit circle, or three great circles of the sphere, (M,D)."""
    turn = np.linspace(0, 2 * np.pi, 73)
    cos, sin, none = np.cos(turn), np.sin(turn), np.zeros_like(turn)
    if flat:
        return np.stack([cos, sin], axis=1)
    gap = np.full((1, 3), np.nan)
    rings = [np.stack(axes, axis=1) for axes in ((cos, sin, none), (cos, none, sin), (none, cos, sin))]
    return np.concatenate([rings[0], gap, rings[1], gap, rings[2]])


def _segments(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Lines from each start to its end, with gaps between them, (3M,D)."""
    joined = np.full((3 * len(start), start.shape[1]), np.nan)
    joined[0::3], joined[1::3] = start, end
    return joined


def _heads(colour: str, count: int, flat: bool) -> dict[str, Any]:
    """Marks on the ends of segments alone."""
    if flat:
        return {"symbol": "arrow", "angleref": "previous", "size": [0, 10, 0] * count, "color": colour}
    return {"symbol": "diamond", "size": [0, 3, 0] * count, "color": colour, "line": {"width": 0}}

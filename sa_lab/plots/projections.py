"""Samples and prototypes in the plane or in space: as they are, and as they move along training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int, Shaped
from plotly.subplots import make_subplots

from sa_lab.plots.style import COLOURS, SPECTRA, SYMBOLS, finish

MOST_CATEGORIES = 10
"""Most colours that a figure tells apart."""
_TEN = [(edge / 10, COLOURS[i]) for i in range(10) for edge in (i, i + 1)]
_NAMES = ("first", "second", "third")


def projection(
    samples: Float[np.ndarray, "N K"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    *,
    title: str,
    prototypes: Float[np.ndarray, "M K"] | None = None,
    colour_by: str = "modality",
    values: Shaped[np.ndarray, " N"] | None = None,
    unit: str = "",
    prototype_ids: Int[np.ndarray, " C"] | None = None,
) -> go.Figure:
    """Samples, shape by modality; prototypes as large open marks, an identity's two joined by a line, with its number
    where colours stand for identities and these are few.

    The ``customdata`` of a sample is [row, identity], where row is its place in ``samples``.

    Args:
        samples: coordinates, K is 2 or 3.
        person_ids, modality: of the samples.
        title: says what is seen.
        prototypes: (2C,K) coordinates, visible half first.
        colour_by: "modality", "identity" (ten colours, then again from the first), or the name of ``values``.
        values: what other colours stand for: whole numbers, booleans and texts are categories, each with a place in
            the legend, other numbers a scale.
        unit: of the scale.
        prototype_ids: identities of the prototypes. Left out: those of the samples in ascending order, or, where their
            number is another, counted from 0.

    Raises:
        ValueError: K is neither 2 nor 3, an odd number of prototypes, other colours without values, values that are
            not finite, or more than ten categories.
    """
    _check(samples, prototypes, colour_by, values)
    half = 0 if prototypes is None else len(prototypes) // 2
    if prototype_ids is None:
        prototype_ids = np.unique(person_ids)
        prototype_ids = prototype_ids if len(prototype_ids) == half else np.arange(half)
    identities = np.unique(np.concatenate([person_ids, prototype_ids]))
    flat = samples.shape[1] == 2
    draw = go.Scatter if flat else go.Scatter3d
    keys = np.stack([np.arange(len(samples)), person_ids], axis=1).astype(np.int32)
    figure = go.Figure()
    for group in _groups(modality, colour_by, values, np.searchsorted(identities, person_ids), unit):
        marker = {"symbol": SYMBOLS[group.modality], "size": 6 if flat else 4, "opacity": 0.65, **group.marker}
        text = f"identity %{{customdata[1]}}, {SPECTRA[group.modality]}{group.text}<extra></extra>"
        figure.add_trace(
            draw(_columns(samples[group.rows]), mode="markers", name=group.name, customdata=keys[group.rows],
                 marker=marker, hovertemplate=text)
        )  # fmt: skip
    if prototypes is not None and half:
        _add_prototypes(figure, prototypes, prototype_ids, np.searchsorted(identities, prototype_ids), colour_by)
    finish(figure, title, height=max(520, 150 + 19 * len(figure.data)))
    if _is_scale(values, colour_by):
        bar = {"title": {"text": f"{colour_by}<br>{unit}" if unit else colour_by}, "y": 0, "yanchor": "bottom"}
        figure.update_layout(coloraxis={"colorscale": "Cividis", "colorbar": {**bar, "len": 0.6}})
    figure.update_layout(legend={"font": {"size": 11}})
    return _name_axes(figure, flat)


def film(
    steps: Sequence[int],
    samples: Sequence[Float[np.ndarray, "N 2"]],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    prototypes: Sequence[Float[np.ndarray, "M 2"]],
    *,
    title: str,
    colour_by: str = "modality",
    prototype_ids: Int[np.ndarray, " C"] | None = None,
) -> go.Figure:
    """A projection that moves along training: a slider of steps, Play and Pause; no kernel is needed.

    It opens at the last step, which is what a reader on paper sees; Play then begins with the first.

    Args:
        steps: T steps, ascending.
        samples, prototypes: one array per step, all in the same coordinates.
        person_ids, modality, title, prototype_ids: as in `projection`.
        colour_by: "modality" or "identity".

    Raises:
        ValueError: not one array of samples and one of prototypes per step, or no step.
    """
    if not steps or not len(steps) == len(samples) == len(prototypes):
        counts = f"{len(steps)} steps, {len(samples)} arrays of samples and {len(prototypes)} of prototypes"
        raise ValueError(f"a film has {counts}, expected the same number of each, at least one")
    shared: dict[str, Any] = {"title": title, "colour_by": colour_by, "prototype_ids": prototype_ids}
    stills = [
        projection(places, person_ids, modality, prototypes=marks, **shared)
        for places, marks in zip(samples, prototypes, strict=True)
    ]
    names = [f"step {step}" for step in steps]
    figure = stills[-1]
    figure.frames = [
        go.Frame(name=name, data=[go.Scatter(x=trace.x, y=trace.y) for trace in still.data])
        for name, still in zip(names, stills, strict=True)
    ]
    everything = np.concatenate([*samples, *prototypes])
    low, high = everything.min(axis=0), everything.max(axis=0)
    ranges = np.stack([low, high], axis=1) + 0.08 * np.maximum(high - low, 1e-6)[:, None] * [-1, 1]
    figure.update_xaxes(range=ranges[0].tolist()).update_yaxes(range=ranges[1].tolist())
    figure.update_layout(modebar_remove=["select2d", "lasso2d"])  # plotly.js cannot move points that are selected
    return figure.update_layout(height=600, margin={"b": 140}, updatemenus=[_buttons()], sliders=[_slider(names)])


def films(shown: Sequence[go.Figure], *, title: str) -> go.Figure:
    """Films of the same steps beside each other, moved by one slider.

    Args:
        shown: each of `film`; their titles stand over them.
        title: of all.

    Raises:
        ValueError: no film, or films of other steps.
    """
    steps = [[frame.name for frame in one.frames] for one in shown]
    if not steps or any(names != steps[0] for names in steps):
        raise ValueError(f"films have the steps {steps}, expected films of the same steps")
    figure = make_subplots(1, len(shown), subplot_titles=[one.layout.title.text for one in shown])
    for column, one in enumerate(shown, start=1):
        traces = go.Figure(one).data  # copies
        places = {"rows": [1] * len(traces), "cols": [column] * len(traces)}
        for trace in traces:  # an entry of the legend is for all films
            trace.update(legendgroup=trace.name, showlegend=trace.showlegend if column == 1 else False)
        figure.add_traces(traces, **places)
        figure.update_xaxes(range=one.layout.xaxis.range, title=one.layout.xaxis.title.text, row=1, col=column)
        figure.update_yaxes(range=one.layout.yaxis.range, title=one.layout.yaxis.title.text, row=1, col=column)
    figure.frames = [
        go.Frame(name=together[0].name, data=[trace for frame in together for trace in frame.data])
        for together in zip(*(one.frames for one in shown), strict=True)
    ]
    figure.update_annotations(font_size=13)
    finish(figure, title, width=410 * len(shown))  # two fit into a notebook at 1280 pixels
    return figure.update_layout(
        modebar_remove=["select2d", "lasso2d"], height=600, margin={"t": 120, "b": 140},
        updatemenus=[_buttons()], sliders=[_slider(steps[0])],
        title={"y": 0.98, "yanchor": "top"},
        legend={"orientation": "h", "yref": "container", "y": 0.93, "yanchor": "top"},
    )  # fmt: skip


def with_choice(figures: Mapping[str, go.Figure], label: str = "colour by") -> go.Figure:
    """Projections of the same points as one figure with a list to choose from; no kernel is needed.

    Args:
        figures: by what stands in the list; the first is shown. Their titles are alike.
        label: what is chosen.
    """
    first = next(iter(figures.values()))
    whole = go.Figure(layout=first.layout)
    owner = [name for name, figure in figures.items() for _ in figure.data]
    for name, figure in figures.items():
        bar = figure.layout.coloraxis.to_plotly_json()
        if bar:
            whole.layout.coloraxis = bar
        whole.add_traces([trace.update(visible=name == owner[0]) for trace in figure.data])
    scales = {name: bool(figure.layout.coloraxis.to_plotly_json()) for name, figure in figures.items()}
    if any(scales.values()):
        whole.layout.coloraxis.showscale = scales[owner[0]]
    entries = [
        {"label": f"{label}: {name}", "method": "update",
         "args": [{"visible": [one == name for one in owner]}, {"coloraxis.showscale": scales[name]}]}
        for name in figures
    ]  # fmt: skip
    menu = {"buttons": entries, "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom", "pad": {"b": 4}}
    tallest = max(figure.layout.height for figure in figures.values())
    return whole.update_layout(updatemenus=[menu], height=tallest + 40, margin_t=100)  # the list stands below the title


class _Group(NamedTuple):
    """Samples that share a place in the legend."""

    rows: np.ndarray
    modality: int
    name: str
    marker: dict[str, Any]
    text: str


def _groups(
    modality: np.ndarray, colour_by: str, values: np.ndarray | None, person: np.ndarray, unit: str
) -> Iterator[_Group]:
    if colour_by in ("modality", "identity"):
        values = None
    kinds = [None] if values is None or _is_scale(values, colour_by) else np.unique(values).tolist()
    for k, kind in enumerate(kinds):
        for m, spectrum in enumerate(SPECTRA):
            rows = np.flatnonzero((modality == m) & (True if kind is None else values == kind))
            name, text, marker = f"{spectrum} sample", "", {"color": COLOURS[m]}
            if colour_by == "identity":
                marker = {"color": (person[rows] % 10).astype(np.uint8), "colorscale": _TEN, "cmin": -0.5, "cmax": 9.5}
            elif kind is not None:
                label = f"{colour_by}: {('no', 'yes')[kind] if isinstance(kind, bool) else kind}"
                name, text, marker = f"{label}, {spectrum}", f"<br>{label}", {"color": COLOURS[k]}
            elif values is not None:
                text = f"<br>{colour_by}: %{{marker.color:.3g}} {unit}".rstrip()
                marker = {"color": values[rows].astype(np.float32), "coloraxis": "coloraxis"}
            if kind is None or len(rows):
                yield _Group(rows, m, name, marker, text)


def _add_prototypes(
    figure: go.Figure, prototypes: np.ndarray, ids: np.ndarray, person: np.ndarray, colour_by: str
) -> None:
    half, flat = len(ids), prototypes.shape[1] == 2
    draw = go.Scatter if flat else go.Scatter3d
    under = {"zorder": -1} if flat else {}  # no sample is hidden
    few = np.round(prototypes.astype(np.float64), 3)  # as text, in lists that can have gaps
    pairs = zip(few[:half].tolist(), few[half:].tolist(), strict=True)
    joined = [[None] * prototypes.shape[1] if place is None else place for a, b in pairs for place in (a, b, None)]
    figure.add_trace(
        draw(dict(zip("xyz", map(list, zip(*joined, strict=True)), strict=False)), mode="lines", hoverinfo="skip",
             name="an identity's two prototypes", line={"color": "grey", "width": 1 if flat else 3}, **under)
    )  # fmt: skip
    for m, spectrum in enumerate(SPECTRA):
        colours = {"modality": COLOURS[m], "identity": [COLOURS[i % 10] for i in person]}
        numbered = m == 0 and colour_by == "identity" and half <= MOST_CATEGORIES
        marker = {"symbol": f"{SYMBOLS[m]}-open", "color": colours.get(colour_by, "#333333"), "size": 13 if flat else 8}
        figure.add_trace(
            draw(_columns(prototypes[m * half : (m + 1) * half]), mode="markers+text" if numbered else "markers",
                 name=f"{spectrum} prototype", text=ids.astype(np.int32), textposition="top center",
                 marker=marker | ({"line": {"width": 3}} if flat else {}),
                 hovertemplate=f"prototype of identity %{{text}}, {spectrum}<extra></extra>", **under)
        )  # fmt: skip


def _columns(places: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip("xyz", places.T.astype(np.float32), strict=False))


def _is_scale(values: np.ndarray | None, colour_by: str) -> bool:
    return values is not None and colour_by not in ("modality", "identity") and values.dtype.kind == "f"


def _name_axes(figure: go.Figure, flat: bool) -> go.Figure:
    bare = {"showticklabels": False, "zeroline": False}
    if flat:
        figure.update_xaxes(title=f"{_NAMES[0]} coordinate (arbitrary)", **bare)
        return figure.update_yaxes(title=f"{_NAMES[1]} coordinate (arbitrary)", **bare)
    titles = [{"text": f"{name} (arbitrary)", "font": {"size": 11}} for name in _NAMES]
    axes = {f"{x}axis": {"title": title, "showspikes": False, **bare} for x, title in zip("xyz", titles, strict=True)}
    camera = {"eye": {"x": 1.5, "y": 1.5, "z": 1.0}, "center": {"x": 0, "y": 0, "z": -0.12}}
    return figure.update_scenes(aspectmode="cube", camera=camera, **axes)


def _check(samples: np.ndarray, prototypes: np.ndarray | None, colour_by: str, values: np.ndarray | None) -> None:
    if samples.shape[1] not in (2, 3):
        raise ValueError(f"samples has shape {samples.shape}, expected (N, 2) or (N, 3)")
    if prototypes is not None and len(prototypes) % 2:
        raise ValueError(f"prototypes has {len(prototypes)} rows, expected an even number, visible half first")
    if colour_by in ("modality", "identity"):
        return
    if values is None:
        raise ValueError(f"colour_by is {colour_by!r}, expected 'modality', 'identity' or a name with its values")
    if _is_scale(values, colour_by):
        if not np.isfinite(values).all():
            raise ValueError(f"values of {colour_by!r} hold NaN or infinity, expected finite numbers")
    elif (count := len(np.unique(values))) > MOST_CATEGORIES:
        raise ValueError(f"values of {colour_by!r} has {count} categories, expected at most {MOST_CATEGORIES}")


def _slider(names: Sequence[str]) -> dict[str, Any]:
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 200}}
    return {
        "steps": [{"method": "animate", "label": name, "args": [[name], still]} for name in names],
        "active": len(names) - 1, "x": 0.28, "len": 0.72, "y": 0, "yanchor": "top", "pad": {"t": 60, "b": 10},
        "currentvalue": {"visible": True, "xanchor": "left"}, "transition": {"duration": 200},
    }  # fmt: skip


def _buttons() -> dict[str, Any]:
    pace = {"duration": 900, "redraw": False}
    go_on = {"frame": pace, "transition": {"duration": 700, "easing": "cubic-in-out"}, "fromcurrent": True}
    stop = {"mode": "immediate", "frame": {"duration": 0, "redraw": False}, "transition": {"duration": 0}}
    return {
        "type": "buttons", "direction": "left", "showactive": False, "x": 0, "xanchor": "left", "y": 0,
        "yanchor": "top", "pad": {"t": 70},
        "buttons": [
            {"label": "Play", "method": "animate", "args": [None, {**go_on, "mode": "immediate"}]},
            {"label": "Pause", "method": "animate", "args": [[None], stop]},
        ],
    }  # fmt: skip

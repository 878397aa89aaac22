"""Data in, plotly Figure out; nothing is computed here.

Colours are a colour-blind-safe set, doubled by marker shape: circles are visible, diamonds infrared.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from jaxtyping import Float, Int, UInt8
from PIL import Image
from plotly.colors import qualitative
from plotly.subplots import make_subplots

COLOURS = qualitative.Safe
SYMBOLS = ("circle", "diamond")
SPECTRA = ("visible", "infrared")
CONFIG = {
    "showSendToCloud": False,
    "displaylogo": False,
    "toImageButtonOptions": {"format": "svg"},
}
"""Configuration for ``fig.show(config=CONFIG)`` and a FigureWidget's ``_config``."""


def use_config() -> None:
    """Make every renderer of this session show figures with `CONFIG`."""
    for name in ("plotly_mimetype", "notebook", "notebook_connected", "browser"):
        pio.renderers[name].config = CONFIG


def _finish(figure: go.Figure, title: str, height: int = 420, width: int = 760) -> go.Figure:
    return figure.update_layout(
        title={"text": title, "x": 0.02, "font": {"size": 16}}, template="plotly_white", height=height, width=width,
        margin={"l": 70, "r": 20, "t": 60, "b": 60}, legend={"itemsizing": "constant"},
    )  # fmt: skip


def lines(
    x: Float[np.ndarray, " N"],
    curves: Mapping[str, Float[np.ndarray, " N"]],
    *,
    title: str,
    x_title: str,
    y_title: str,
    reference: tuple[float, str] | None = None,
) -> go.Figure:
    """Curves over one axis, dashes telling them apart; ``reference``: a horizontal line and its name."""
    dashes = ("solid", "dash", "dot", "dashdot", "longdash")
    figure = go.Figure(
        [
            go.Scatter(
                x=x, y=y, name=name, mode="lines", line={"color": COLOURS[i], "dash": dashes[i % 5], "width": 2.5}
            )
            for i, (name, y) in enumerate(curves.items())
        ]
    )
    if reference:
        figure.add_hline(
            y=reference[0],
            line_dash="dot",
            line_color="grey",
            annotation_text=reference[1],
            annotation_position="bottom right",
        )
    figure.update_xaxes(title=x_title).update_yaxes(title=y_title)
    return _finish(figure, title)


def scatter(
    x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"], *, title: str, x_title: str, y_title: str
) -> go.Figure:
    """Points."""
    figure = go.Figure(go.Scatter(x=x, y=y, mode="markers", marker={"color": COLOURS[1], "size": 7, "opacity": 0.7}))
    figure.update_xaxes(title=x_title).update_yaxes(title=y_title)
    return _finish(figure, title, width=520)


class LiveCurves:
    """Curves that grow while something trains; one panel a term, one line a run.

    Args:
        terms: panel titles by column of a training row.
        runs: names of the lines.
        every: steps between two redraws.

    Attributes:
        widget: the figure to display.
    """

    def __init__(self, terms: Mapping[str, str], runs: Sequence[str], every: int = 10) -> None:
        empty = {name: {"step": np.zeros(0), **{term: np.zeros(0) for term in terms}} for name in runs}
        self.widget = go.FigureWidget(training_curves(empty, terms))
        self.widget._config = CONFIG
        self._terms, self._runs, self._every = tuple(terms), tuple(runs), every
        self._rows: dict[str, list[Mapping[str, float]]] = {name: [] for name in runs}

    def watch(self, run: str) -> Callable[[Mapping[str, float]], None]:
        """A function to pass as ``watch`` to `sa_lab.experiment.run`."""
        rows, traces = self._rows[run], self.widget.data[self._runs.index(run) * len(self._terms) :]

        def add(row: Mapping[str, float]) -> None:
            rows.append(row)
            if len(rows) % self._every == 0:
                with self.widget.batch_update():
                    for term, trace in zip(self._terms, traces, strict=False):
                        trace.x, trace.y = [r["step"] for r in rows], [r[term] for r in rows]

        return add


def training_curves(runs: Mapping[str, Mapping[str, np.ndarray]], terms: Mapping[str, str]) -> go.Figure:
    """One panel a loss term, one line a run.

    Args:
        runs: columns of metrics.csv by run name.
        terms: panel titles by column.
    """
    figure = make_subplots(1, len(terms), subplot_titles=list(terms.values()), horizontal_spacing=0.07)
    for i, (name, columns) in enumerate(runs.items()):
        for panel, term in enumerate(terms, start=1):
            style = {"color": COLOURS[i], "dash": ("solid", "dash", "dot", "dashdot")[i % 4], "width": 2}
            figure.add_scatter(
                x=columns["step"], y=columns[term], name=name, legendgroup=name, showlegend=panel == 1,
                mode="lines", line=style, row=1, col=panel,
            )  # fmt: skip
    figure.update_xaxes(title="step").update_yaxes(title="loss, sum over parts", col=1)
    _finish(figure, "Loss terms while training", width=300 * len(terms) + 60)
    return figure.update_layout(legend={"orientation": "h", "y": -0.25}, margin={"b": 90})


def image_grid(
    images: UInt8[np.ndarray, "N 3 H W"],
    captions: Sequence[str],
    *,
    title: str,
    columns: int = 8,
    frames: Sequence[str | None] | None = None,
) -> go.Figure:
    """Images in rows, a caption under each; ``frames`` gives a border colour or None for each."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    pad, text = max(2, height // 16), height * 0.16
    figure = go.Figure()
    for i, image in enumerate(images):
        left = (i % columns) * (width + pad)
        top = -(i // columns) * (height + text + pad)
        figure.add_layout_image(
            source=_data_uri(image), x=left, y=top, sizex=width, sizey=height, xref="x", yref="y", sizing="stretch"
        )
        figure.add_annotation(
            x=left + width / 2, y=top - height, text=captions[i], showarrow=False, yanchor="top", font={"size": 10}
        )
        if frames and frames[i]:
            figure.add_shape(
                type="rect", x0=left, x1=left + width, y0=top - height, y1=top, line={"color": frames[i], "width": 3}
            )
    used_x, used_y = min(count, columns) * (width + pad), rows * (height + text + pad)
    figure.add_scatter(x=[0, used_x], y=[0, -used_y], mode="markers", marker={"opacity": 0}, hoverinfo="skip")
    figure.update_xaxes(visible=False, range=[-pad, used_x]).update_yaxes(
        visible=False, range=[-used_y, pad], scaleanchor="x"
    )
    pixels = 720
    return _finish(figure, title, height=int(80 + pixels * used_y / used_x), width=pixels + 40).update_layout(
        showlegend=False, margin={"l": 10, "r": 10, "b": 10}
    )


def _data_uri(image: UInt8[np.ndarray, "3 H W"]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def projection(
    samples: Float[np.ndarray, "N 2"],
    person_ids: Int[np.ndarray, " N"],
    modality: Int[np.ndarray, " N"],
    *,
    title: str,
    prototypes: Float[np.ndarray, "M 2"] | None = None,
    colour_by: str = "modality",
) -> go.Figure:
    """Samples in the plane, shape by modality; prototypes as large open marks, an identity's two joined by a line.

    Args:
        samples: coordinates.
        person_ids, modality: of the samples.
        title: says what is seen.
        prototypes: (2C,2) coordinates, visible half first, of the identities in ascending order.
        colour_by: "modality" or "identity" (ten colours, then again from the first).
    """
    figure = go.Figure()
    for m, spectrum in enumerate(SPECTRA):
        rows = modality == m
        colour: Any = COLOURS[m]
        if colour_by == "identity":
            colour = [COLOURS[i % 10] for i in np.unique(person_ids, return_inverse=True)[1][rows]]
        figure.add_scatter(
            x=samples[rows, 0], y=samples[rows, 1], mode="markers", name=f"{spectrum} sample",
            marker={"symbol": SYMBOLS[m], "color": colour, "size": 6, "opacity": 0.65},
            customdata=person_ids[rows], hovertemplate=f"identity %{{customdata}}, {spectrum}<extra></extra>",
        )  # fmt: skip
    if prototypes is not None and len(prototypes):
        half = len(prototypes) // 2
        joined = np.full((3 * half, 2), np.nan)
        joined[0::3], joined[1::3] = prototypes[:half], prototypes[half:]
        figure.add_scatter(
            x=joined[:, 0], y=joined[:, 1], mode="lines", name="own and cross prototype", hoverinfo="skip",
            line={"color": "grey", "width": 1},
        )  # fmt: skip
        for m, spectrum in enumerate(SPECTRA):
            chosen = prototypes[m * half : (m + 1) * half]
            colour = [COLOURS[i % 10] for i in range(half)] if colour_by == "identity" else COLOURS[m]
            figure.add_scatter(
                x=chosen[:, 0], y=chosen[:, 1], mode="markers", name=f"{spectrum} prototype", hoverinfo="skip",
                marker={"symbol": f"{SYMBOLS[m]}-open", "color": colour, "size": 13, "line": {"width": 3}},
            )  # fmt: skip
    figure.update_xaxes(title="first coordinate (arbitrary)", showticklabels=False)
    figure.update_yaxes(title="second coordinate (arbitrary)", showticklabels=False)
    return _finish(figure, title, height=520)


def histograms(
    values: Mapping[str, Float[np.ndarray, " N"]], *, title: str, x_title: str, num_bins: int = 60
) -> go.Figure:
    """Overlaid densities on one axis, as steps; only the counts go into the figure, not the values."""
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), num_bins)
    dashes = ("solid", "dash", "dot", "dashdot")
    figure = go.Figure(
        [
            go.Scatter(
                x=(edges[:-1] + edges[1:]) / 2, y=np.histogram(v, edges, density=True)[0], name=name, mode="lines",
                fill="tozeroy", opacity=0.7, line={"color": COLOURS[i], "shape": "hvh", "dash": dashes[i % 4]},
            )
            for i, (name, v) in enumerate(values.items())
        ]
    )  # fmt: skip
    figure.update_xaxes(title=x_title).update_yaxes(title="density")
    return _finish(figure, title)


def cmc_curves(curves: Mapping[str, Float[np.ndarray, " K"]], *, title: str) -> go.Figure:
    """Rank-k in % over k, one line a run."""
    figure = go.Figure(
        [
            go.Scatter(
                x=np.arange(1, len(curve) + 1), y=100 * curve, name=name, mode="lines+markers",
                marker={"symbol": i, "size": 8}, line={"color": COLOURS[i], "width": 2},
            )
            for i, (name, curve) in enumerate(curves.items())
        ]
    )  # fmt: skip
    figure.update_xaxes(title="rank k", dtick=1).update_yaxes(title="queries with a match in the first k, %")
    return _finish(figure, title)


def intervals(
    measures: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    title: str,
    y_title: str,
) -> go.Figure:
    """Means with intervals: groups on the x axis, one mark a run, ``measures[run][group] = (mean, low, high)``."""
    figure = go.Figure()
    for i, (run, groups) in enumerate(measures.items()):
        mean, low, high = (np.array(column) for column in zip(*groups.values(), strict=True))
        figure.add_scatter(
            x=np.arange(len(groups)) + (i - (len(measures) - 1) / 2) * 0.12, y=mean, name=run, mode="markers",
            marker={"symbol": i, "size": 11, "color": COLOURS[i]},
            error_y={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low},
        )  # fmt: skip
    names = list(next(iter(measures.values())))
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names).update_yaxes(title=y_title)
    return _finish(figure, title)

"""Numbers over an axis: curves, points, a training as it goes, the stages of an iteration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from sa_lab.plots.style import COLOURS, DASHES, TERMS, end_labels, finish


def lines(
    x: Float[np.ndarray, " N"],
    curves: Mapping[str, Float[np.ndarray, " N"]],
    *,
    title: str,
    x_title: str,
    y_title: str,
    reference: tuple[float, str] | None = None,
) -> go.Figure:
    """Curves over one axis, dash styles telling them apart; ``reference``: a horizontal line and its name."""
    figure = go.Figure(
        [
            go.Scatter(
                x=x, y=y, name=name, mode="lines", line={"color": COLOURS[i], "dash": DASHES[i % 5], "width": 2.5}
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
    return finish(figure, title)


def scatter(
    x: Float[np.ndarray, " N"],
    y: Float[np.ndarray, " N"],
    *,
    title: str,
    x_title: str,
    y_title: str,
    diagonal: str = "",
    groups: Sequence[str] = (),
) -> go.Figure:
    """Points; ``diagonal``: name of a line on which x equals y; ``groups``: what each point belongs to, N names, told
    apart by colour and mark."""
    figure = go.Figure()
    if not groups:
        figure.add_scatter(x=x, y=y, mode="markers", marker={"color": COLOURS[1], "size": 7, "opacity": 0.7})
    for i, name in enumerate(dict.fromkeys(groups)):
        rows = np.array([one == name for one in groups])
        figure.add_scatter(
            x=x[rows], y=y[rows], name=name, mode="markers", marker={"color": COLOURS[i], "size": 10, "symbol": i}
        )
    if diagonal:
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        figure.update_traces(name="points").add_scatter(
            x=ends, y=ends, mode="lines", name=diagonal, line={"color": "grey", "dash": "dot"}, hoverinfo="skip"
        )
    figure.update_xaxes(title=x_title).update_yaxes(title=y_title)
    return finish(figure, title, width=560 if diagonal or groups else 520)


def live_training(
    rows: Sequence[Mapping[str, float | int]], *, title: str, behind: Mapping[str, np.ndarray] | None = None
) -> go.Figure:
    """One training as it goes: loss terms, the weights in use, retrieval on validation identities, overlap.

    A panel without a value says so.

    Args:
        rows: one per step; measures of validation and overlap where they were taken.
        title: says what is seen.
        behind: columns of another training's log, drawn pale behind it, up to the same step.
    """
    until = len(rows)
    panels: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("loss terms", "nats, sum over parts", {term: name.split(" ")[0] for term, (name, _, _) in TERMS.items()}),
        ("weights in use", "weight; mask / 50",
         {"sas_weight": "SA weight", "similarity_weight": "similarity weight", "mask_value": "mask / 50"}),
        ("validation identities", "%", {"rank_1": "Rank-1", "mean_ap": "mAP"}),
        ("overlap of the spectra", "ratio, share, cosine",
         {"stranger_ratio": "modality gap", "modality_probe": "modality probe",
          "prototype_alignment": "prototype cosine"}),
    )  # fmt: skip
    scales = {"rank_1": 100.0, "mean_ap": 100.0, "mask_value": 0.02}
    titles = [name for name, _, _ in panels]
    figure = make_subplots(2, 2, subplot_titles=titles, vertical_spacing=0.18, horizontal_spacing=0.32)
    for panel, (_, unit, columns) in enumerate(panels):
        place = {"row": panel // 2 + 1, "col": panel % 2 + 1}
        for i, (column, name) in enumerate(columns.items()):
            colour, dash = TERMS[column][1:] if column in TERMS else (COLOURS[(4 * panel + i) % 10], DASHES[i])
            taken = [row for row in rows if column in row]
            if behind and column in behind:
                seen = np.isfinite(behind[column]) & (behind["step"] < until)
                figure.add_scatter(
                    x=behind["step"][seen], y=behind[column][seen] * scales.get(column, 1.0), mode="lines",
                    line={"color": colour, "width": 1, "shape": "linear"}, opacity=0.45, name="", **place,
                )  # fmt: skip
            figure.add_scatter(
                x=np.array([row["step"] for row in taken]), name=name, **place,
                y=np.array([row[column] for row in taken]) * scales.get(column, 1.0),
                mode="lines+markers" if panel > 1 else "lines", marker={"symbol": i, "size": 7},
                line={"color": colour, "dash": dash, "width": 2},
            )  # fmt: skip
        figure.update_yaxes(title=unit, **place).update_xaxes(title="step", range=[0, max(until, 1)], **place)
        lines = [trace.to_plotly_json() for trace in figure.select_traces(**place)]
        known = [line for line in lines if len(line["x"]) and line["name"]]
        figure.layout.annotations += tuple(end_labels(known, None, 180))
        if not known:
            middle = {"xref": "x domain", "yref": "y domain", "x": 0.5, "y": 0.5, **place}
            figure.add_annotation(text="not measured yet", showarrow=False, font={"color": "grey"}, **middle)
    finish(figure, title, height=560, width=860)
    return figure.update_layout(margin={"t": 80, "r": 140}, showlegend=False, uirevision="same")


def training_curves(runs: Mapping[str, Mapping[str, np.ndarray]], terms: Mapping[str, str]) -> go.Figure:
    """One panel per loss term, one line per run that has this term.

    Args:
        runs: columns of metrics.csv by run name.
        terms: panel titles by column.
    """
    figure = make_subplots(1, len(terms), subplot_titles=list(terms.values()), horizontal_spacing=0.07)
    named: set[str] = set()
    for i, (name, columns) in enumerate(runs.items()):
        for panel, term in enumerate(terms, start=1):
            style = {"color": COLOURS[i], "dash": DASHES[i % 5], "width": 2}
            if term not in columns:
                continue
            figure.add_scatter(
                x=columns["step"], y=columns[term], name=name, legendgroup=name, showlegend=name not in named,
                mode="lines", line=style, row=1, col=panel,
            )  # fmt: skip
            named.add(name)
    figure.update_xaxes(title="step").update_yaxes(title="loss, sum over parts", col=1)
    finish(figure, "Loss terms while training", width=820)
    return figure.update_layout(legend={"orientation": "h", "y": -0.25}, margin={"b": 90})


def cmc_curves(
    curves: Mapping[str, tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"], Float[np.ndarray, " K"]]],
    *,
    title: str,
) -> go.Figure:
    """Rank-k over k, one line per run with its interval as a band; ``curves[run] = (mean, low, high)`` in [0,1]."""
    figure = go.Figure()
    for i, (name, (mean, low, high)) in enumerate(curves.items()):
        ranks = np.arange(1, len(mean) + 1)
        figure.add_scatter(
            x=np.concatenate([ranks, ranks[::-1]]), y=100 * np.concatenate([high, low[::-1]]), fill="toself",
            fillcolor=COLOURS[i].replace("rgb", "rgba").replace(")", ", 0.2)"), line={"width": 0}, mode="lines",
            name=f"{name}, 95 % interval", legendgroup=name, hoverinfo="skip",
        )  # fmt: skip
        figure.add_scatter(
            x=ranks, y=100 * mean, name=name, mode="lines+markers", marker={"symbol": i, "size": 8},
            line={"color": COLOURS[i], "width": 2}, legendgroup=name,
        )  # fmt: skip
    figure.update_xaxes(title="rank k", dtick=1, range=[0.5, len(mean) + 0.5]).update_yaxes(
        title="queries with a match in the first k, %"
    )
    return finish(figure, title)


def effect(panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float, float]]]], *, title: str) -> go.Figure:
    """Means with intervals, one panel per measure: ``panels[measure][run][group] = (mean, low, high)``."""
    figure = make_subplots(1, len(panels), subplot_titles=list(panels), horizontal_spacing=0.12)
    for column, measures in enumerate(panels.values(), start=1):
        for trace in intervals(measures, title="", y_title="").data:
            figure.add_trace(trace.update(showlegend=column == 1), row=1, col=column)
        names = list(dict.fromkeys(name for groups in measures.values() for name in groups))
        figure.update_xaxes(
            tickvals=list(range(len(names))), ticktext=names, range=[-0.5, len(names) - 0.5], col=column
        )
    figure.update_yaxes(rangemode="tozero")
    return finish(figure, title)


def intervals(
    measures: Mapping[str, Mapping[str, tuple[float, float, float]]], *, title: str, y_title: str
) -> go.Figure:
    """Means with intervals: groups on the x axis, one mark per run, ``measures[run][group] = (mean, low, high)``."""
    figure = go.Figure()
    names = list(dict.fromkeys(name for groups in measures.values() for name in groups))
    for i, (run, groups) in enumerate(measures.items()):
        mean, low, high = (np.array(column) for column in zip(*groups.values(), strict=True))
        figure.add_scatter(
            x=np.array([names.index(name) for name in groups]) + (i - (len(measures) - 1) / 2) * 0.12,
            y=mean, name=run, mode="markers",
            marker={"symbol": i, "size": 11, "color": COLOURS[i % len(COLOURS)]},
            error_y={"type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low},
        )  # fmt: skip
    slant = {"tickangle": -40, "automargin": True} if len(names) > 8 else {}
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, **slant).update_yaxes(title=y_title)
    return finish(figure, title)

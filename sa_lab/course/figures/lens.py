"""One sample under the loss: its image, its prototypes, what each term pulls, and where it stands among all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8
from plotly.subplots import make_subplots

from sa_lab.plots import data_uri
from sa_lab.plots.style import COLOURS, TERMS, finish


def loss_lens(
    image: UInt8[np.ndarray, "3 H W"],
    names: Sequence[str],
    logits: Float[np.ndarray, " K"],
    probabilities: Float[np.ndarray, " K"],
    gradients: Mapping[str, float],
    everybody: Mapping[str, Float[np.ndarray, " N"]],
    *,
    title: str,
    num_bins: int = 40,
) -> go.Figure:
    """A sample and all samples.

    Args:
        image: the sample.
        names: of its prototypes, own and cross first.
        logits, probabilities: one per prototype.
        gradients: length of the sample's gradient by term.
        everybody: the same of all samples.
        title: says what is seen.
        num_bins: of the histogram.
    """
    figure = make_subplots(
        2, 4, specs=[[{}, None, {}, {}], [{"colspan": 4}, None, None, None]],  # the gap is for the prototypes' names
        column_widths=[0.15, 0.08, 0.43, 0.34], row_heights=[0.52, 0.48], horizontal_spacing=0.05, vertical_spacing=0.2,
        subplot_titles=["the sample", "logit, mean over the parts", "probability after the mask",
                        "gradient on the embedding, all samples; vertical lines: this sample"],
    )  # fmt: skip
    height, width = image.shape[1:]
    figure.add_layout_image(source=data_uri(image), x=0, y=0, sizex=width, sizey=height, xref="x", yref="y",
                            sizing="stretch", layer="above")  # fmt: skip
    figure.add_scatter(x=[0, width], y=[0, -height], mode="markers", marker={"opacity": 0}, hoverinfo="skip",
                       showlegend=False, row=1, col=1)  # fmt: skip
    figure.update_xaxes(visible=False, row=1, col=1).update_yaxes(visible=False, scaleanchor="x", row=1, col=1)
    colours = [COLOURS[0], COLOURS[1], *["#BBBBBB"] * (len(names) - 2)]
    for column, values in ((3, logits), (4, probabilities)):
        figure.add_bar(
            y=list(names), x=values, orientation="h", text=[f"{value:.3g}" for value in values], textposition="auto",
            marker={"color": colours, "line": {"color": "#333333", "width": 1}}, showlegend=False, hoverinfo="skip",
            row=1, col=column,
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", showticklabels=column == 3, row=1, col=column)
    figure.update_xaxes(range=[0, 1.02], title="share of 1", row=1, col=4).update_xaxes(title="f.W", row=1, col=3)
    top = max(1e-6, *(float(values.max()) for values in everybody.values()), *gradients.values())
    edges = np.linspace(0, top, num_bins + 1)
    for term, symbol in (("identity", "circle"), ("sa_softmax", "diamond"), ("absolute", "square")):
        name, colour, dash = TERMS[term]
        counts = np.histogram(everybody.get(term, np.zeros(0)), edges)[0]
        line = {"color": colour, "dash": dash, "width": 2}
        figure.add_scatter(x=edges[:-1], y=counts, mode="lines", name=name, line={**line, "shape": "hv"}, row=2, col=1)
        own = gradients.get(term, 0.0)
        figure.add_scatter(
            x=[own, own], y=[0, max(1, counts.max())], mode="lines+markers", line=line, showlegend=False,
            marker={"size": 8, "color": colour, "symbol": symbol}, name=f"{name}, this sample", row=2, col=1,
        )  # fmt: skip
    figure.update_yaxes(title="samples", row=2, col=1).update_xaxes(
        title="length of the weighted gradient, nats per unit of embedding",
        range=[-0.01 * top, 1.02 * top],
        row=2,
        col=1,
    )
    finish(figure, title, height=600, width=820)
    return figure.update_layout(legend={"orientation": "h", "y": -0.13}, margin={"t": 80})

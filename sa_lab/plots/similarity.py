"""Where the similarity of two images lies: painted over both, and part by part."""

from __future__ import annotations

import base64
import io

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8
from PIL import Image
from plotly.subplots import make_subplots

from sa_lab.plots.style import COLOURS, finish

_ADDS, _TAKES = (213, 43, 30), (0, 90, 181)


def painted(pixels: UInt8[np.ndarray, "3 H W"], shares: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "3 H W"]:
    """An image in grey with the shares of its places over it: red adds to the similarity, blue takes away.

    The colour is as strong as the square of the share, so that the places that matter stand out.
    """
    _, height, width = pixels.shape
    most = float(np.abs(shares).max()) or 1.0
    strength = Image.fromarray((shares / most).astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    signed = np.asarray(strength)[None]
    grey = pixels.mean(0, keepdims=True).repeat(3, 0)
    tint = np.where(signed > 0, np.array(_ADDS).reshape(3, 1, 1), np.array(_TAKES).reshape(3, 1, 1))
    weight = 0.75 * signed**2
    return np.asarray(((1 - weight) * grey + weight * tint).round().astype(np.uint8))


def data_uri(image: UInt8[np.ndarray, "3 H W"]) -> str:
    """The image as a small text that a page shows."""
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def similarity_map(
    images: tuple[UInt8[np.ndarray, "3 H W"], UInt8[np.ndarray, "3 H W"]],
    shares: tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]],
    parts: Float[np.ndarray, " P"],
    *,
    names: tuple[str, str],
    title: str,
) -> go.Figure:
    """Query and candidate, each as it is and with the places that carry their similarity, and what each part adds.

    Args:
        images: query and candidate.
        shares: of each, what its places add; both sum to the similarity.
        parts: what each horizontal part adds, the head first.
        names: of the two.
        title: says what is seen.
    """
    shown = [one for pixels, places in zip(images, shares, strict=True) for one in (pixels, painted(pixels, places))]
    titles = [names[0], "place by place", names[1], "place by place", "part by part"]
    figure = make_subplots(1, 5, subplot_titles=titles, column_widths=[1, 1, 1, 1, 1.6], horizontal_spacing=0.06)
    for column, pixels in enumerate(shown, start=1):
        _, height, width = pixels.shape
        where = {"x": 0, "y": 0, "sizex": width, "sizey": height, "xref": f"x{column}", "yref": f"y{column}"}
        figure.add_layout_image(source=data_uri(pixels), sizing="stretch", **where)
        figure.update_xaxes(visible=False, range=[0, width], fixedrange=True, col=column)
        figure.update_yaxes(visible=False, range=[-height, 0], fixedrange=True, scaleanchor=f"x{column}", col=column)
    numbers = [f"part {part + 1}" for part in range(len(parts))]
    figure.add_bar(
        x=parts, y=numbers, orientation="h", marker={"color": COLOURS[1]}, showlegend=False, row=1, col=5,
        hovertemplate="%{y}: %{x:.3f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title="share of the similarity", col=5).update_yaxes(autorange="reversed", col=5)
    figure.update_annotations(font_size=12)
    return finish(figure, title, height=330, width=820)

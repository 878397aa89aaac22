"""Images of a figure's points on a page without a kernel: beside the pointer, and below for a selection."""

from __future__ import annotations

import base64
import io
import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from jaxtyping import UInt8
from PIL import Image

from sa_lab.plots.style import CONFIG

TALLEST = 64
"""Height of a thumbnail at most, in pixels."""
_WIDEST = 16383  # of a WEBP picture
_HINT = "Select points with the box or the lasso of the tool bar: their images are listed here."
_STYLE = """\
{here} {{ max-width: {width}px; font: 13px/1.4 system-ui, "Liberation Sans", sans-serif; color: #1d2530 }}
{here} .tile {{ display: block; background-image: url("{uri}"); background-repeat: no-repeat }}
{here} .beside {{ position: fixed; z-index: 20; display: none; max-width: 240px; padding: 6px; background: #fff;
  border: 1px solid #5a6675; border-radius: 4px; pointer-events: none; white-space: pre-line }}
{here}.pointing .beside {{ display: block }}
{here}.pointing .hovertext {{ visibility: hidden }}
{here} .selected {{ display: flex; flex-wrap: wrap; gap: 8px; margin: 0; padding: 0; font-size: 11px;
  list-style: none }}
{here} .selected li {{ width: 88px }}
"""


@dataclass(frozen=True)
class Atlas:
    """All thumbnails in one picture, row by row.

    Attributes:
        uri: the picture as a text that a page shows.
        columns, rows: of thumbnails.
        width, height: of one thumbnail, in pixels.
        count: how many there are; the places after the last are white.
    """

    uri: str
    columns: int
    rows: int
    width: int
    height: int
    count: int


def atlas(images: UInt8[np.ndarray, "N 3 H W"], *, max_bytes: int = 2_000_000) -> Atlas:
    """One WEBP picture of all images, scaled down to `TALLEST` and made coarser until it fits.

    Args:
        images: at least one.
        max_bytes: of the picture; its text is a third longer.

    Raises:
        ValueError: no image, or so many that they do not fit.
    """
    if not len(images):
        raise ValueError("images is empty, expected at least one")
    for (width, height), quality in _settings(*images.shape[2:]):
        columns = min(len(images), max(1, math.ceil(math.sqrt(len(images) * height / width))), _WIDEST // width)
        rows = math.ceil(len(images) / columns)
        some = images[:: max(1, len(images) // 150)]  # tells what cannot fit in little time
        guess = len(_encoded(some, min(10, _WIDEST // width), width, height, quality))
        if rows * height > _WIDEST or guess * len(images) > 1.3 * max_bytes * len(some):
            continue
        picture = _encoded(images, columns, width, height, quality)
        if len(picture) <= max_bytes:
            uri = "data:image/webp;base64," + base64.b64encode(picture).decode()
            return Atlas(uri, columns, rows, width, height, len(images))
    raise ValueError(f"max_bytes is {max_bytes}, which is too little for {len(images)} images")


def page(figure: go.Figure, pictures: Atlas, *, name: str = "") -> str:
    """The figure as part of a page, with the images of its points.

    Pointing at a sample shows its image; a selection by box or lasso (in the plane) lists those selected below the
    figure. The page has to load plotly.js before this part; nothing else is loaded.

    Args:
        figure: one whose samples carry [row, identity], as in `projection` and `film`.
        pictures: image by row.
        name: id of this part, unique on its page; by default random.

    Raises:
        ValueError: a sample without an image.
    """
    rows = [trace.customdata[:, 0].max() for trace in figure.data if trace.customdata is not None and len(trace.x)]
    if max(rows, default=0) >= pictures.count:
        raise ValueError(f"figure has row {max(rows)}, but the atlas has {pictures.count} images")
    name = name or f"figure-{uuid.uuid4().hex[:12]}"
    drawn = figure.to_html(
        full_html=False, include_plotlyjs=False, config=CONFIG, div_id=f"{name}-graph", auto_play=False
    )
    still = not figure.frames and all(trace.type != "scatter3d" for trace in figure.data)
    hint = _HINT if still else ""  # nothing can be selected in space, or in a film
    style = _STYLE.format(here=f"#{name}", uri=pictures.uri, width=figure.layout.width or 820)
    sheet = json.dumps({key: value for key, value in asdict(pictures).items() if key != "uri"})
    script = Path(__file__).with_name("thumbnails.js").read_text(encoding="utf-8")
    return (
        f'<div id="{name}" class="thumbnails">\n<style>{style}</style>\n{drawn}\n'
        f'<div class="beside" role="tooltip"></div>\n<p class="told" role="status" aria-live="polite">{hint}</p>\n'
        f'<ul class="selected" aria-label="selected images"></ul>\n'
        f'<script>{{\n{script}thumbnails("{name}", {sheet});\n}}</script>\n</div>'
    )


def _settings(height: int, width: int) -> Iterator[tuple[tuple[int, int], int]]:
    """((width, height), quality) of thumbnails, the best first."""
    sizes = dict.fromkeys(min(height, tall) for tall in (TALLEST, 48, 32, 24, 16))
    for tall in sizes:
        for quality in (80, 60, 40, 20):
            yield (max(1, round(width * tall / height)), tall), quality


def _encoded(images: np.ndarray, columns: int, width: int, height: int, quality: int) -> bytes:
    sheet = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height), "white")
    for i, image in enumerate(images):
        tile = Image.fromarray(image.transpose(1, 2, 0))
        if tile.size != (width, height):
            tile = tile.resize((width, height), Image.Resampling.BOX)
        sheet.paste(tile, (i % columns * width, i // columns * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()

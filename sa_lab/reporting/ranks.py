"""What came back for each query, to look at: a contact sheet, and a page that opens offline and says why."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from html import escape
from pathlib import Path
from unicodedata import combining, normalize

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sa_lab.disk import atomic_path, write_text
from sa_lab.plots import data_uri, painted
from sa_lab.ranking import Ranking

HEIGHT = 160
"""Of a picture in sheet and page, in pixels."""
_PAD, _LINE = 6, 15
EXPLAINED = 10
"""Number of results explained place by place on the page."""
_FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf")
"""Fonts of operating systems that have letters with accents, which Pillow's own lacks."""


def sheet(ranking: Ranking) -> Image.Image:
    """One picture, a row per query: the query at the left, then the results, best first, with name and similarity."""
    _, _, height, width = ranking.query.store.images.shape
    tile = max(round(HEIGHT * width / height), 96)
    columns, step = 1 + ranking.best.shape[1], HEIGHT + 2 * _LINE + 2 * _PAD
    drawn = Image.new("RGB", (columns * (tile + _PAD) + _PAD, len(ranking.best) * step + _PAD), "white")
    pen, (font, spelled) = ImageDraw.Draw(drawn), _lettering()
    for row, found in enumerate(ranking.best):
        shown = [(ranking.query.image(row), ranking.query.store.paths[row], "query")]
        shown += [
            (ranking.gallery.image(int(i)), ranking.gallery.store.paths[i], f"{place + 1}: {one:.3f}")
            for place, (i, one) in enumerate(zip(found, ranking.similarity[row], strict=True))
        ]
        for column, (pixels, name, told) in enumerate(shown):
            left, top = _PAD + column * (tile + _PAD), _PAD + row * step
            picture = _picture(pixels).resize((round(HEIGHT * width / height), HEIGHT))
            drawn.paste(picture, (left, top))
            pen.text((left, top + HEIGHT + 2), told, "black", font)
            pen.text((left, top + HEIGHT + 2 + _LINE), _fitting(font, spelled(name), tile), "#5a6675", font)
        pen.line([(_PAD, (row + 1) * step), (drawn.width - _PAD, (row + 1) * step)], fill="#dfe4ea")
    return drawn


def beside(out: Path) -> Path:
    """Where the sheet of a page ``out`` is written."""
    return out.with_suffix(".png")


def write(ranking: Ranking, out: Path) -> Path:
    """Write the page, and the sheet beside it as PNG.

    Args:
        ranking: of `sa_lab.ranking.rank`.
        out: the page, .html.

    Returns:
        The sheet.
    """
    from sa_lab.reporting.page import with_figures

    picture = beside(out)
    with atomic_path(picture) as temporary:
        sheet(ranking).save(temporary, "PNG", optimize=True)
    body = [
        "<h1>Who comes back</h1>",
        f"<p>Network: {escape(ranking.run.folder.name)}. {len(ranking.gallery.store):,} pictures were searched. "
        "The similarity is 1 for an image and itself; it is a sum over the horizontal parts, the head first, and over "
        "the places of each map, so the shares below are exact. Where: red adds to the similarity, blue takes away; "
        "the stronger, the more.</p>",
    ]
    head = "".join(f"<th>part {part + 1}</th>" for part in range(ranking.parts.shape[2]))
    titles = (
        f"<th>place</th><th></th><th>picture</th><th>similarity</th>{head}<th>query: where</th><th>picture: where</th>"
    )
    for row, path in enumerate(ranking.query.store.paths):
        body += [f"<h2>{escape(path)}</h2>", tag(ranking.query.image(row), "query")]
        body.append(f"<table><thead><tr>{titles}</tr></thead><tbody>")
        body += [_found(ranking, row, place) for place in range(len(ranking.best[row]))]
        body.append("</tbody></table>")
    write_text(out, with_figures("Who comes back", body))
    return picture


def _found(ranking: Ranking, row: int, place: int) -> str:
    """What came back for a query at a place, as a row of the table."""
    name, similarity = ranking.names(row)[place]
    numbers = "".join(f"<td>{share:.3f}</td>" for share in ranking.parts[row, place])
    shown, where = tag(ranking.gallery.image(int(ranking.best[row, place])), name), "<td></td><td></td>"
    if place < EXPLAINED:
        why, alt = ranking.why(row, place), f"{name}: where the similarity lies"
        where = "".join(f"<td>{tag(painted(*pair), alt)}</td>" for pair in zip(why.images, why.shares, strict=True))
    return (
        f"<tr><td>{place + 1}</td><td>{shown}</td><td>{escape(name)}</td><td>{similarity:.3f}</td>{numbers}{where}</tr>"
    )


def _picture(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.transpose(1, 2, 0))


def tag(pixels: np.ndarray, name: str, style: str = "") -> str:
    """A picture as it stands in a page; ``style``: CSS."""
    return f'<img src="{data_uri(pixels)}" alt="{escape(name)}" style="height:{HEIGHT}px;{style}">'


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def _lettering() -> tuple[Font, Callable[[str], str]]:
    """A font, and how a name is spelled in it: where the machine has none but Pillow's, without accents."""
    for name in _FONTS:
        with suppress(OSError):
            return ImageFont.truetype(name, 12), str
    return ImageFont.load_default(12), _plain


def _plain(text: str) -> str:
    """Letters without accents, and a question mark for what is no Latin letter."""
    return "".join(one for one in normalize("NFKD", text) if not combining(one)).encode("ascii", "replace").decode()


def _fitting(font: Font, text: str, width: int) -> str:
    """The end of a text, as much of it as fits."""
    shown = text
    while font.getlength(shown) > width and len(shown) > 4:
        shown = "…" + shown[2:]
    return shown

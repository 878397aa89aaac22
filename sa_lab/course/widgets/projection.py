"""The projection browser: samples in the plane or in space, and the images behind them."""

from __future__ import annotations

import html
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import traitlets
from jaxtyping import Float, UInt8

from sa_lab import plots
from sa_lab.course.widgets.controls import Panel, choice
from sa_lab.course.widgets.live_figure import LiveFigure
from sa_lab.plots import data_uri
from sa_lab.plots.projections import MOST_CATEGORIES
from sa_lab.schema import Embeddings

MOST = 60
"""Images shown of a selection."""
_HINT = "Select points with the box or the lasso of the tool bar: their images are listed here."


class ProjectionBrowser(Panel):
    """Point at a sample to see its image, select some to see them all, and choose what the colours stand for.

    Args:
        embeddings: the source of identities, cameras, spectra and paths.
        samples: (N,2) or (N,3) their coordinates; in space there is no selection.
        images: their images.
        prototypes: coordinates, visible half first, of the identities in ``embeddings.prototype_ids``.
        colourings: further values for the colours, (N,) by name, as in `sa_lab.plots.projection`.
        title: of the figure.

    Attributes:
        selected: rows of the selected samples, ascending.
        figure: the live figure.

    Raises:
        ValueError: samples, images or a colouring of another length than the embeddings.
    """

    selected = traitlets.List(traitlets.Int())

    def __init__(
        self,
        embeddings: Embeddings,
        samples: Float[np.ndarray, "N K"],
        images: UInt8[np.ndarray, "N 3 H W"],
        prototypes: Float[np.ndarray, "M K"] | None = None,
        colourings: Mapping[str, np.ndarray] | None = None,
        title: str = "Samples and the images behind them",
    ) -> None:
        self.embeddings, self.samples, self.images, self.prototypes = embeddings, samples, images, prototypes
        self._title, self._lock = title, threading.RLock()
        few = len(np.unique(embeddings.camera_ids)) <= MOST_CATEGORIES
        self.colourings = ({"camera": embeddings.camera_ids} if few else {}) | dict(colourings or {})
        for name, values in {"samples": samples, "images": images, **self.colourings}.items():
            if len(values) != len(embeddings):
                raise ValueError(f"{name} has {len(values)} entries, expected {len(embeddings)} as the embeddings")
        self._uri = lru_cache(maxsize=512)(lambda row: data_uri(self.images[row]))
        self._rows: dict[int, np.ndarray] = {}
        self.colouring = choice("colour by", ["modality", "identity", *self.colourings], "what the colours stand for")
        self.picture = ipywidgets.HTML("Point at a sample to see its image.", layout={"min_height": "150px"})
        self.strip = ipywidgets.HTML(_HINT if samples.shape[1] == 2 else "")
        self.figure = LiveFigure(self._draw(), {"hover": self._pointed, "selected": self._selected})
        self.colouring.observe(lambda _: self.recolour(), "value")
        super().__init__([self.figure], [self.colouring, self.picture], [self.strip])

    def hover(self, row: int) -> None:
        """Show the image of a sample and say whose it is."""
        self.picture.value = f"{self._image(row, 128)}<br>{'<br>'.join(map(html.escape, self._words(row)))}"

    def select(self, rows: Sequence[int]) -> None:
        """List the images of these samples; none empties the list."""
        with self._lock:
            self.selected = sorted({int(row) for row in rows})
            fewer = f", the first {MOST} shown" if len(self.selected) > MOST else ""
            tiles = "".join(
                f'<div style="font-size:11px;line-height:1.3">{self._image(row, 64)}<br>{who}<br>{spectrum}</div>'
                for row in self.selected[:MOST]
                for who, spectrum in [self._words(row)[:2]]
            )
            box = f'<div style="display:flex;flex-wrap:wrap;gap:8px;max-width:820px">{tiles}</div>'
            told = f'<div role="status">{len(self.selected)} selected{fewer}</div>'
            self.strip.value = told + box if self.selected else _HINT

    def recolour(self) -> None:
        """Draw with the chosen colours, from the same viewpoint."""
        with self._lock:
            self.figure.show(self._draw())

    def _draw(self) -> go.Figure:
        name, these = self.colouring.value, self.embeddings
        figure = plots.projection(
            self.samples, these.person_ids, these.modality, title=self._title, prototypes=self.prototypes,
            prototype_ids=these.prototype_ids if self.prototypes is not None else None,
            colour_by=name, values=self.colourings.get(name),
        )  # fmt: skip
        self._rows = {k: one.customdata[:, 0] for k, one in enumerate(figure.data) if one.customdata is not None}
        for trace in figure.data:
            if trace.customdata is None:  # else a prototype would answer for the samples in its mark
                trace.update(hoverinfo="skip", hovertemplate=None)
        for k, rows in self._rows.items() if self.selected else ():
            figure.data[k].selectedpoints = np.flatnonzero(np.isin(rows, self.selected))
        return figure.update_layout(uirevision="same")

    def _selected(self, points: Sequence[tuple[int, list[int]]]) -> None:
        """A page tells of a selection; points of prototypes have no image."""
        self.select([int(self._rows[trace][place[0]]) for trace, place in points if trace in self._rows])

    def _pointed(self, points: Sequence[tuple[int, list[int]]]) -> None:
        """A page tells of what is pointed at."""
        for trace, place in points[:1]:
            if trace in self._rows:
                self.hover(int(self._rows[trace][place[0]]))

    def _words(self, row: int) -> list[str]:
        these = self.embeddings
        spectrum = plots.SPECTRA[these.modality[row]]
        name, extra = self.colouring.value, []
        if name in self.colourings and name != "camera":
            value = self.colourings[name][row]
            extra = [f"{name}: {value:.3g}" if isinstance(value, np.floating) else f"{name}: {value}"]
        return [
            f"identity {these.person_ids[row]}",
            spectrum,
            f"camera {these.camera_ids[row]}",
            *extra,
            these.paths[row],
        ]

    def _image(self, row: int, tall: int) -> str:
        text = html.escape(", ".join(self._words(row)), quote=True)
        return f'<img src="{self._uri(row)}" alt="{text}" title="{text}" style="height:{tall}px">'

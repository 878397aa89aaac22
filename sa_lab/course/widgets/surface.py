"""The surface browser: a frame on the response surface, and what the run of that cell finds."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import ipywidgets
import numpy as np
import plotly.graph_objects as go
import torch

from sa_lab import plots
from sa_lab.course import figures
from sa_lab.course.surface import FOUND, QUERIES, Surface, X, Y, key
from sa_lab.course.widgets.controls import Dial, Panel
from sa_lab.course.widgets.live_figure import LiveFigure
from sa_lab.data.store import ImageStore
from sa_lab.plots.sweeps import response_surface


class SurfaceBrowser(Panel):
    """Choose mask and similarity weight, or click a cell: a frame moves over the surface; beside it lie the map of that
    cell's run, and below what it finds for a query.

    Args:
        surface: what was measured.
        store: the images of its rankings.

    Attributes:
        mask, weight: sliders over the values that were trained.
        query: which of the rankings.
        figure, map, ranking: the live figures.
    """

    def __init__(self, surface: Surface, store: ImageStore) -> None:
        self.surface, self.store, self._lock = surface, store, threading.RLock()
        self._choosing = False
        wide = {"style": {"description_width": "112px"}, "layout": {"width": "236px"}, "readout": False}
        self.mask = ipywidgets.SelectionSlider(
            options=surface.masks, value=surface.masks[-1], description="mask value",
            tooltip="Feature Mask, taken off the own logit", **wide,
        )  # fmt: skip
        self.weight = ipywidgets.SelectionSlider(
            options=surface.weights, value=surface.weights[0], description="similarity weight",
            tooltip="weight of the absolute term", **wide,
        )  # fmt: skip
        self.query = Dial("query", 1, 1, QUERIES, 1, "which of the queries")
        self.figure = LiveFigure(self._surface(), {"click": self._clicked})
        self.map = LiveFigure(self._map(), least=520)
        self.ranking = LiveFigure(self._ranking(), least=600)
        for control in (self.mask, self.weight, self.query):
            control.observe(lambda _: self._moved(), "value")
        super().__init__([self.figure], [self.mask, self.weight, self.query], [self.map, self.ranking])

    def show(self) -> None:
        """Draw the chosen cell and query."""
        with self._lock:
            self.figure.show(self._surface())
            self.map.show(self._map())
            self.ranking.show(self._ranking())

    def _moved(self) -> None:
        if not self._choosing:
            self.show()

    def _clicked(self, points: Sequence[tuple[int, list[int]]]) -> None:
        """A page tells of a cell, by row and column."""
        for _, (row, column) in points[:1]:
            self._choosing = True  # both dials, then one picture
            self.mask.value, self.weight.value = sorted(self.surface.masks)[column], sorted(self.surface.weights)[row]
            self._choosing = False
            self.show()

    @property
    def _cell(self) -> dict[str, object]:
        return self.surface.cells[key(self.mask.value, self.weight.value)]

    @property
    def _where(self) -> str:
        return f"mask {self.mask.value:g}, similarity weight {self.weight.value:g}"

    def _surface(self) -> go.Figure:
        x, y = self.mask.value, self.weight.value
        points = self.surface.points()
        chosen = next(point for point in points if (point.dials[X], point.dials[Y]) == (x, y))
        title = f"Mask {x:g}, weight {y:g}: validation mAP {chosen.mean:.1f} % [{chosen.low:.1f}, {chosen.high:.1f}]"
        figure = response_surface(points, X, Y, measure="mAP, %", title=title)
        figure.add_scatter(
            x=[str(x)], y=[str(y)], mode="markers", hoverinfo="skip", name="chosen",
            marker={"symbol": "square-open", "size": 44, "line": {"width": 4, "color": "#d62728"}},
        )  # fmt: skip
        return figure.update_layout(width=520, height=430, showlegend=False)

    def _map(self) -> go.Figure:
        drawn = self._cell["map"]
        assert isinstance(drawn, dict)
        figure = plots.projection(
            np.array(drawn["samples"]), np.array(drawn["person_ids"]), np.array(drawn["modality"]),
            prototypes=np.array(drawn["prototypes"]), prototype_ids=np.array(drawn["prototype_ids"]),
            title=f"Its run: 8 training identities ({drawn['caption']})",
        )  # fmt: skip
        return figure.update_layout(width=560, height=430)

    def _ranking(self) -> go.Figure:
        rankings = self._cell["rankings"]
        assert isinstance(rankings, list)
        one = rankings[self.query.value - 1]
        persons = np.array(one["person_ids"])
        right = [None, *(persons[1:] == persons[0]).tolist()]
        captions = [f"query<br>id {persons[0]}", *(f"{'✓' if r else '✗'} id {p}" for r, p in zip(
            right[1:], persons[1:], strict=True))]  # fmt: skip
        images = self.store.gather(torch.from_numpy(self.store.find(tuple(one["paths"])))).numpy()
        title = f"{self._where}: what its run finds for query {self.query.value}"
        return figures.image_grid(images, captions, title=title, columns=FOUND + 1, right=right)

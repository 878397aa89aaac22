"""A figure in a page that follows its kernel.

plotly's own FigureWidget sends each change back with every default, begins anew with its first picture when a page is
loaded again, and is stuck at the width it began with. Here the page gets the whole figure as one text, which is the
widget's state: it draws the newest one, also after it is loaded again, and as wide as its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeAlias
from uuid import uuid4

import anywidget
import plotly.graph_objects as go
import traitlets
from plotly.io.json import to_json_plotly
from plotly.offline import get_plotlyjs

from sa_lab.plots import CONFIG

Drawn: TypeAlias = "go.Figure | dict[str, Any]"
"""A figure, or its data and layout as plain values, which plotly does not check."""
Heard = Callable[[Sequence[tuple[int, list[int]]]], None]
"""What is called with the trace and the place in it of each point: its number, or row and column in a heat map."""
_UNUSED = ["zoomIn2d", "zoomOut2d", "autoScale2d"]
"""Buttons of plotly's tool bar."""


class LiveFigure(anywidget.AnyWidget):
    """Shows a figure, and another one after each `show`; zoom and rotation stay where ``uirevision`` stays.

    Args:
        figure: the first one.
        heard: what is called when points are pointed at (hover), clicked (click) or selected (selected).
        least: width in pixels below which it is not squeezed; its place then scrolls.

    Attributes:
        data, layout: of the figure that is shown.
    """

    _esm = (resources.files(__package__) / "live_figure.js").read_text(encoding="utf-8")
    drawn = traitlets.Unicode().tag(sync=True)
    config = traitlets.Dict().tag(sync=True)
    listens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    least = traitlets.Int().tag(sync=True)
    me = traitlets.Unicode().tag(sync=True)

    def __init__(self, figure: Drawn, heard: Mapping[str, Heard] | None = None, least: int = 0) -> None:
        _library()
        self._heard = dict(heard or {})
        unused = _UNUSED if "selected" in self._heard else [*_UNUSED, "select2d", "lasso2d"]
        config = CONFIG | {"modeBarButtonsToRemove": unused}
        me = uuid4().hex  # so that a page finds its model
        super().__init__(drawn=_text(figure), config=config, listens=list(self._heard), least=least, me=me, model_id=me)
        self._shown, self._anew = figure, False  # whether a page may have missed a figure
        self.on_msg(lambda _, content, __: self._hear(content))

    def show(self, figure: Drawn) -> None:
        """Draw this figure in place of the last one."""
        self._shown, self.drawn, self._anew = figure, _text(figure), True

    @property
    def still(self) -> go.Figure:
        """What is shown now, for paper and for pages without a kernel."""
        return go.Figure(self._shown)

    @property
    def data(self) -> tuple[Any, ...]:
        return tuple(self.still.data)

    @property
    def layout(self) -> Any:
        return self.still.layout

    def _hear(self, content: dict[str, Any]) -> None:
        if content["event"] == "again":
            if self._anew:
                self.send_state("drawn")
        elif heard := self._heard.get(content["event"]):
            heard([(int(trace), [*map(int, place)]) for trace, place in content["points"]])


class _Library(anywidget.AnyWidget):
    """plotly.js, which draws all figures of a page; it is read after its model is there, which must not take long."""

    _esm = """
    export default {
      initialize({ model }) {
        const read = () => import(URL.createObjectURL(new Blob([model.get("source")], { type: "text/javascript" })));
        setTimeout(read, 0);
      },
    };
    """
    source = traitlets.Unicode().tag(sync=True)


@cache
def _library() -> _Library:
    """Sent to a page once; a page that is loaded again asks for it."""
    return _Library(source=get_plotlyjs())


def _text(figure: Drawn) -> str:
    parts = figure.to_dict() if isinstance(figure, go.Figure) else figure
    layout = {name: value for name, value in parts["layout"].items() if name != "width"} | {"autosize": True}
    return str(to_json_plotly({**parts, "layout": layout}))

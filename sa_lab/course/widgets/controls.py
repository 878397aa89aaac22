"""What every widget is made of: dials with a label, tooltip and number box, live figures, work that can be paused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets
import plotly.graph_objects as go
import traitlets
from plotly.utils import PlotlyJSONEncoder

from sa_lab.config import LossConfig
from sa_lab.plots import CONFIG


class Panel(ipywidgets.VBox):
    """Dials round a figure; a front end that cannot show them shows the one line that this is as text."""

    def __repr__(self) -> str:
        return "Controls: JupyterLab, VS Code and Colab show them (ipywidgets 8); here the figure below stands still."


class Dial(ipywidgets.HBox):
    """A slider and a number box that show one ``value``; the slider obeys the arrow keys, the box takes any number.

    Args:
        label: what it sets.
        value, low, high, step: in the same unit; whole numbers all make a dial of whole numbers.
        tooltip: one sentence on what it does.
    """

    value = traitlets.Any(0)

    @traitlets.validate("value")
    def _checked(self, proposal: Any) -> float | int:
        """A page sends 1 for 1.0."""
        return self._kind(min(max(proposal["value"], self.slider.min), self.slider.max))

    def __init__(
        self, label: str, value: float | int, low: float | int, high: float | int, step: float | int, tooltip: str
    ) -> None:
        whole = all(isinstance(number, int) for number in (value, low, high, step))
        kinds = (ipywidgets.IntSlider, ipywidgets.BoundedIntText) if whole else (
            ipywidgets.FloatSlider, ipywidgets.BoundedFloatText)  # fmt: skip
        self._kind = int if whole else float
        limits = {"value": value, "min": low, "max": high, "step": step, "tooltip": f"{label}: {tooltip}"}
        self.slider = kinds[0](**limits, readout=False, continuous_update=False, layout={"width": "170px"})
        self.box = kinds[1](
            **limits, description=label, style={"description_width": "140px"}, layout={"width": "220px"}
        )
        super().__init__([self.box, self.slider], value=value)
        for shown in (self.slider, self.box):
            traitlets.link((self, "value"), (shown, "value"))

    def limit(self, high: float | int) -> None:
        """Change the highest value and go back to the lowest."""
        self.value = self.slider.min
        for shown in (self.slider, self.box):
            shown.max = high


def loss_dials(loss: LossConfig) -> dict[str, Dial]:
    """Dials of the mask and the two weights of a loss, by the names of `LossConfig`; begin where ``loss`` stands."""
    mask, sas, similarity = min(loss.mask_value, 60.0), loss.sas_weight, loss.similarity_weight
    return {
        "mask_value": Dial("mask value", mask, 0.0, 60.0, 1.0, "Feature Mask, taken off the own logit"),
        "sas_weight": Dial("SA weight", sas, 0.0, 1.0, 0.05, "share of SA-Softmax in the classification loss"),
        "similarity_weight": Dial("similarity weight", similarity, 0.0, 3.0, 0.1, "weight of the absolute term"),
    }


def loss_of(dials: Mapping[str, Dial], **others: Any) -> LossConfig:
    """The loss that dials stand for; ``others``: values of `LossConfig` that have no dial."""
    return LossConfig(**{name: dial.value for name, dial in dials.items()} | others)


def choice(label: str, options: Any, tooltip: str, **more: Any) -> ipywidgets.Dropdown:
    """A drop-down list."""
    return ipywidgets.Dropdown(
        options=options, description=label, tooltip=tooltip, style={"description_width": "140px"},
        layout={"width": "390px"}, **more,
    )  # fmt: skip


def button(label: str, tooltip: str, act: Callable[[], None], icon: str = "") -> ipywidgets.Button:
    """A button that calls ``act``."""
    made = ipywidgets.Button(description=label, tooltip=tooltip, icon=icon, layout={"width": "104px"})
    made.on_click(lambda _: act())
    return made


def live(figure: go.Figure) -> go.FigureWidget:
    """A figure that can be changed, with the library's tool bar: no upload, export as SVG."""
    widget = go.FigureWidget(figure)
    widget._config = CONFIG
    widget._sent = _texts(figure)
    return widget


def static_figure(widget: go.FigureWidget) -> go.Figure:
    """What a live figure shows now, for paper and for pages without a kernel."""
    return go.Figure(widget)


def refresh(widget: go.FigureWidget, figure: go.Figure) -> None:
    """Make ``widget`` show ``figure``, which has the same traces in the same order.

    Only what differs from the last figure is sent, so that zoom and rotation in the page stay. Gaps in curves are to be
    None: a NaN equals nothing, not even itself, and a page would send it back as a change.
    """
    texts = _texts(figure)
    with widget.batch_update():
        for shown, new, before, after in zip(
            (*widget.data, widget.layout), (*figure.data, figure.layout), widget._sent, texts, strict=True
        ):
            for name in {**before, **after}:
                if name not in ("uid", "template") and after.get(name) != before.get(name):
                    shown[name] = new[name] if name in after else None
    widget._sent = texts


def _texts(figure: go.Figure) -> list[dict[str, str]]:
    """The properties of each trace and of the layout, as texts that are equal where the values are."""
    parts = [part.to_plotly_json() for part in (*figure.data, figure.layout)]
    return [{name: json.dumps(value, cls=PlotlyJSONEncoder) for name, value in part.items()} for part in parts]


class Worker:
    """Calls ``work`` in a thread until it says that it is done, or is paused.

    Args:
        work: does one piece of work; True if there is more to do.
        failed: called with what ``work`` raised.
        pause: seconds between two calls, so that the page can follow.

    Attributes:
        lock: held while ``work`` runs; take it to change what ``work`` changes.
    """

    def __init__(self, work: Callable[[], bool], failed: Callable[[Exception], None], pause: float = 0.0) -> None:
        self.lock = threading.RLock()
        self._work, self._failed, self._pause = work, failed, pause
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether ``work`` is being called."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Go on; nothing happens if it runs already."""
        if not self.running:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def pause(self) -> None:
        """Stop after the piece of work in hand, and wait for it."""
        self._stop.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        more = True
        while more and not self._stop.is_set():
            try:
                with self.lock:
                    more = self._work()
            except Exception as error:
                self._failed(error)
                return
            self._stop.wait(self._pause)

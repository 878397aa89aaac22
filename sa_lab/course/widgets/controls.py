"""What every widget is made of: dials with a label, tooltip and number box, live figures, work that can be paused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import traitlets

from sa_lab.config import LossConfig
from sa_lab.course import STILL, STYLE


class Panel(ipywidgets.VBox):
    """A figure with its controls: in a narrow column beside it, or in a window too narrow for both, in rows below.

    A front end that cannot show controls shows this object's one-line text instead.

    Args:
        stage: the figures.
        controls: what moves them.
        below: what stands under both, as wide as there is room.
    """

    def __init__(
        self, stage: Sequence[ipywidgets.DOMWidget], controls: Sequence[ipywidgets.DOMWidget] = (),
        below: Sequence[ipywidgets.DOMWidget] = (),
    ) -> None:  # fmt: skip
        figures = ipywidgets.VBox(list(stage), layout={"flex": "1000 1 600px", "min_width": "0"})
        column = ipywidgets.Box(
            list(controls), layout={"flex": "1 1 236px", "flex_flow": "row wrap", "align_content": "flex-start"}
        )
        both = ipywidgets.Box([figures, column] if controls else [figures], layout={"flex_flow": "row wrap"})
        super().__init__([ipywidgets.HTML(STYLE, layout={"display": "none"}), both, *below])

    def __repr__(self) -> str:
        return f"{STILL} in JupyterLab, VS Code and Colab: run all cells, from the first one on."


class Dial(ipywidgets.VBox):
    """A slider and a number box that show one ``value``; the slider obeys the arrow keys, the box takes any number.

    While the slider is dragged, its page sends the newest value as soon as the last one was answered: box and figure
    follow, and no value waits in a queue.

    Args:
        label: what it sets.
        value, low, high, step: in the same unit; whole numbers all make a dial of whole numbers.
        tooltip: one sentence on what it does.
    """

    value = traitlets.Any(0)

    @traitlets.validate("value")
    def _checked(self, proposal: Any) -> float | int:
        """A page sends 1 for 1.0, and 0.7000000000000001 for a slider's 0.7."""
        low, high = self._limits
        return self._kind(f"{min(max(proposal['value'], low), high):.12g}")

    def __init__(
        self, label: str, value: float | int, low: float | int, high: float | int, step: float | int, tooltip: str
    ) -> None:
        whole = all(isinstance(number, int) for number in (value, low, high, step))
        # a page rounds floats on a slider of its own and sends them back unasked, 50.00000000000001 for 50
        even = all(float(number).is_integer() for number in (low, high, step))
        self._kind: type[int] | type[float] = int if whole else float
        self._on_slider: type[int] | type[float] = int if even else float
        self._limits, self._first = (low, high), value
        about = {"step": step, "tooltip": f"{label}: {tooltip}"}
        slider, box = (
            (ipywidgets.IntSlider if even else ipywidgets.FloatSlider),
            (ipywidgets.BoundedIntText if whole else ipywidgets.BoundedFloatText),
        )
        ends = {"min": self._on_slider(low), "max": self._on_slider(high)}
        self.slider = slider(
            value=self._place(value), **ends, **about | {"step": self._on_slider(step)}, readout=False,
            layout={"width": "212px"},
        )  # fmt: skip
        self.box = box(value=value, min=low, max=high, **about, description=label, style=_NAME, layout=_WIDTH)
        super().__init__([self.box, self.slider], value=value, layout={"width": "226px"})
        traitlets.link((self.box, "value"), (self, "value"))
        self.observe(lambda _: setattr(self.slider, "value", self._place(self.value)), "value")
        self.slider.observe(lambda _: self._slid(), "value")

    def _place(self, value: float | int) -> float | int:
        """Where the slider stands for a value."""
        return round(value) if self._on_slider is int else value

    def _slid(self) -> None:
        if self.slider.value != self._place(self.value):
            self.value = self.slider.value

    def reset(self) -> None:
        """Back to the value it began with."""
        self.value = self._first

    @property
    def moved(self) -> bool:
        """Whether it has another value than it began with."""
        return bool(self.value != self._first)

    def enable(self, on: bool) -> None:
        """Whether it can be moved; else it is grey."""
        self.slider.disabled = self.box.disabled = not on

    def limit(self, high: float | int) -> None:
        """Change the highest value and go back to the lowest."""
        self.value = self._limits[0]
        self._limits = self._limits[0], high
        for shown in (self.slider, self.box):
            shown.max = high


_NAME, _WIDTH = {"description_width": "128px"}, {"width": "220px"}


def loss_dials(loss: LossConfig) -> dict[str, Dial]:
    """Dials for the mask and the two weights of a loss, by their names in `LossConfig`; they start at ``loss``."""
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
        options=options,
        description=label,
        tooltip=tooltip,
        style={"description_width": "initial"},
        layout={"width": "228px"},
        **more,
    )


def button(label: str, tooltip: str, act: Callable[[], None], icon: str = "") -> ipywidgets.Button:
    """A button that calls ``act``."""
    made = ipywidgets.Button(
        description=label, tooltip=tooltip, icon=icon, layout={"width": "112px", "padding": "0 4px"}
    )
    made.on_click(lambda _: act())
    return made


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

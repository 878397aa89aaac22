"""A notebook in JupyterLab, as a reader has it: run all, look at figures, move sliders, press buttons."""

from __future__ import annotations

import json
import re
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from browsing import Server, Watched


@dataclass
class Figure:
    """A plotly figure on a page."""

    graph: Any

    def show(self) -> None:
        """Wait until it is drawn, and scroll to it."""
        self.graph.wait_for(state="attached", timeout=60_000)
        self.graph.scroll_into_view_if_needed()

    def trace(self, number: int = 0, key: str = "y") -> list:
        """Values that are drawn, not those that were sent."""
        self.graph.wait_for(state="attached", timeout=60_000)
        return self.graph.evaluate("(g, [n, key]) => Array.from(g._fullData[n][key])", [number, key])

    def curve(self, name: str, key: str = "y") -> list:
        """As `trace`, of the trace with this name."""
        self.graph.wait_for(state="attached", timeout=60_000)
        script = "(g, [name, key]) => Array.from(g._fullData.find(t => t.name == name)[key] ?? [])"
        return self.graph.evaluate(script, [name, key])

    @property
    def title(self) -> str:
        return self.graph.evaluate("g => g._fullLayout.title.text")

    def time_presses(self) -> Callable[[], list[float]]:
        """From now on, stop the time in the page; the function returned gives ms from each key to the figure drawn."""
        script = """g => {
            g.times = [];
            document.addEventListener("keydown", () => g.times.push([Date.now()]), true);
            for (const drawn of ["plotly_afterplot", "plotly_animated"])
                g.on(drawn, () => g.times.length && g.times.at(-1).push(Date.now()));
        }"""
        self.graph.evaluate(script)
        return lambda: [drawn[0] - key for key, *drawn in self.graph.evaluate("g => g.times") if drawn]

    def time_frames(self) -> Callable[[], list[float]]:
        """From now on, note when the figure shows other values; the function returned gives the ms between them."""
        script = """g => {
            g.frames = [];
            let shown = "";
            const note = () => {
                const now = JSON.stringify(g.data.map(({ x, y }) => [x, y]));
                if (now !== shown) g.frames.push(performance.now());
                shown = now;
            };
            for (const drawn of ["plotly_afterplot", "plotly_animated"]) g.on(drawn, note);
        }"""
        self.graph.evaluate(script)

        def between() -> list[float]:
            drawn = self.graph.evaluate("g => g.frames")
            return [later - earlier for earlier, later in pairwise(drawn)]

        return between

    def wait_for(self, ready: Callable[[Figure], bool], timeout: float = 20) -> float:
        """Seconds until ``ready`` says yes."""
        start = time.monotonic()
        while not ready(self):
            assert time.monotonic() < start + timeout, f"not after {timeout} s: {self.title}"
            self.graph.page.wait_for_timeout(20)
        return time.monotonic() - start

    def wait_for_change(self, before: list, number: int = 0, key: str = "y", timeout: float = 20) -> list:
        """The values, as soon as they are others than ``before``."""
        deadline = time.monotonic() + timeout
        while (now := self.trace(number, key)) == before:
            assert time.monotonic() < deadline, f"{key} of trace {number} is unchanged after {timeout} s"
            self.graph.page.wait_for_timeout(50)
        return now


@dataclass
class Slider:
    """A slider of ipywidgets."""

    box: Any

    @property
    def handle(self) -> Any:
        return self.box.locator(".noUi-handle").first

    @property
    def value(self) -> float:
        return float(self.handle.get_attribute("aria-valuetext"))

    def press(self, key: str, times: int = 1) -> None:
        self.handle.scroll_into_view_if_needed()
        self.handle.focus()
        for _ in range(times):
            self.handle.press(key)

    def drag(self, fraction: float, moves: int = 8) -> None:
        """Take the handle with the mouse, in so many moves, to a place between the left (0) and the right end (1) of
        the track."""
        self.handle.scroll_into_view_if_needed()
        knob, track = self.handle.bounding_box(), self.box.locator(".noUi-base").first.bounding_box()
        mouse, y = self.handle.page.mouse, knob["y"] + knob["height"] / 2
        mouse.move(knob["x"] + knob["width"] / 2, y)
        mouse.down()
        mouse.move(track["x"] + fraction * track["width"], y, steps=moves)
        mouse.up()


@dataclass
class Notebook:
    """An open notebook; `errors` has everything that went wrong in page, console, kernel and server."""

    watched: Watched
    server: Server
    cells: int
    kernel_errors: list[str] = field(default_factory=list)
    replies: int = 0

    def __post_init__(self) -> None:
        self._log_start = self.server.log.stat().st_size
        self.page.on("websocket", lambda socket: socket.on("framereceived", self._hear))

    @property
    def page(self) -> Any:
        return self.watched.page

    @property
    def panel(self) -> Any:
        return self.page.locator(".jp-NotebookPanel").first

    @property
    def errors(self) -> list[str]:
        log = self.server.log.read_bytes()[self._log_start :].decode(errors="replace")
        tracebacks = [f"server: {text[:3000]}" for text in re.findall(r"Traceback \(most recent.*", log, re.S)]
        return [*self.watched.errors, *self.kernel_errors, *tracebacks]

    def run_all(self, timeout: float = 300) -> None:
        """Run all cells from the menu and wait for the last.

        Raises:
            AssertionError: at once with the traceback of a cell that failed, or after ``timeout`` seconds.
        """
        self.replies, deadline = 0, time.monotonic() + timeout
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        while self.replies < self.cells or self._busy():
            assert not self.kernel_errors, self.kernel_errors[0]
            assert time.monotonic() < deadline, f"{self.replies} of {self.cells} cells done after {timeout} s"
            self.page.wait_for_timeout(200)
        assert not self.kernel_errors, self.kernel_errors[0]

    def figure(self, number: int = 0, live: bool = False) -> Figure:
        """A figure by its place on the page; with ``live`` only widgets count."""
        kind = ".js-plotly-plot:not(.jp-RenderedPlotly)" if live else ".js-plotly-plot"
        return Figure(self.panel.locator(kind).nth(number))

    def slider(self, label: str, number: int = 0) -> Slider:
        """The slider with this description or tooltip, or the one nearest to a label of another widget beside it; of
        several, by its place on the page."""
        slider = "descendant-or-self::*[contains(concat(' ', @class, ' '), ' widget-slider ')]"
        named = f"//*[contains(@class, 'widget-label')][normalize-space() = '{label}'] | //*[@title = '{label}']"
        around = f"({named})/ancestor-or-self::*[{slider}][1]"
        return Slider(self.panel.locator(f"xpath=({around}/{slider})[{number + 1}]"))

    def number(self, label: str) -> Any:
        """The field for a number with this description."""
        return self.panel.get_by_label(label, exact=True)

    def button(self, label: str) -> Any:
        return self.panel.get_by_role("button", name=re.compile(rf"^\W*{label}$"))  # an icon may precede

    def _busy(self) -> bool:
        idle = "| Idle" in self.page.locator("#jp-main-statusbar").inner_text()
        return not idle or "[*]:" in self.panel.locator(".jp-InputPrompt").all_inner_texts()

    def _hear(self, payload: bytes | str) -> None:
        kind, content = read_message(payload)
        self.replies += kind == "execute_reply"
        if kind == "error":
            text = "\n".join(content()["traceback"])
            self.kernel_errors.append("kernel: " + re.sub(r"\x1b\[[0-9;]*m", "", text))


def read_message(payload: bytes | str) -> tuple[str, Callable[[], Any]]:
    """Kind of a kernel's message, and a function that reads its content."""
    if isinstance(payload, str):
        message = json.loads(payload)
        return message.get("header", message).get("msg_type", ""), lambda: message["content"]
    (count,) = struct.unpack_from("<Q", payload)
    at = struct.unpack_from(f"<{count}Q", payload, 8)  # ends of: channel, header, parent, metadata, content
    return json.loads(payload[at[1] : at[2]])["msg_type"], lambda: json.loads(payload[at[4] : at[5]])


@dataclass
class Lab:
    """Opens notebooks of the served folder; `folder` takes further ones."""

    server: Server
    page_at: Callable[..., Watched]

    @property
    def folder(self) -> Any:
        return self.server.folder

    def open(self, chapter: str, width: int = 1280, height: int = 1000) -> Notebook:
        """Open a notebook by its file name and wait for its kernel."""
        cells = json.loads((self.folder / chapter).read_text())["cells"]
        code = sum(cell["cell_type"] == "code" and bool("".join(cell["source"]).strip()) for cell in cells)
        opened = Notebook(self.page_at(width, height), self.server, code)
        address = f"{self.server.url}lab/tree/{chapter}?token={self.server.token}&reset"
        opened.page.goto(address, timeout=120_000)
        opened.page.wait_for_selector("#jp-main-statusbar >> text=| Idle", timeout=120_000)
        return opened


@pytest.fixture
def lab(lab_server: Server, page_at: Callable[..., Watched]) -> Iterator[Lab]:
    """A JupyterLab that serves a copy of the chapters; the kernels end with the test."""
    yield Lab(lab_server, page_at)
    lab_server.end_kernels()

"""A notebook in a real browser: its widgets answer to keyboard and mouse."""

from __future__ import annotations

import nbformat
import pytest
from lab_notebook import Lab

CODE = (
    "import ipywidgets as widgets, plotly.graph_objects as go",
    "figure = go.FigureWidget(go.Scatter(y=[0.0, 0.0]))\nfigure",
    """\
slider = widgets.FloatSlider(value=1.0, min=0.0, max=4.0, step=0.5, tooltip="slope")
field = widgets.BoundedFloatText(value=1.0, min=0.0, max=4.0, step=0.5, description="slope")
button = widgets.Button(description="fail")
widgets.link((slider, "value"), (field, "value"))
def move(change):
    figure.data[0].y = [0.0, change["new"]]
slider.observe(move, "value")
button.on_click(lambda _: 1 / 0)
widgets.VBox([widgets.HBox([field, slider]), button])""",
)


def write(lab: Lab, name: str, *code: str) -> str:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(one) for one in code]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.folder / name)
    return name


@pytest.mark.slow
def test_a_slider_moves_a_figure_by_keyboard_and_by_mouse(lab: Lab) -> None:
    notebook = lab.open(write(lab, "small.ipynb", *CODE), 1280)
    notebook.run_all()
    figure, slider = notebook.figure(0, live=True), notebook.slider("slope")
    assert figure.trace() == [0, 0]
    slider.press("ArrowRight")
    assert figure.wait_for_change([0, 0]) == [0, 1.5]
    figure.wait_for(lambda _: slider.value == float(notebook.number("slope").input_value()) == 1.5)
    slider.drag(1.0)
    figure.wait_for_change([0, 1.5])
    notebook.page.wait_for_timeout(500)
    assert figure.trace() == [0, 4]
    notebook.number("slope").fill("2.5")
    notebook.number("slope").press("Tab")
    assert figure.wait_for_change([0, 4]) == [0, 2.5]
    assert notebook.errors == []
    notebook.button("fail").click()
    notebook.page.wait_for_timeout(1500)
    assert ["ZeroDivisionError" in error for error in notebook.errors] == [True]


@pytest.mark.slow
def test_a_playground_follows_a_drag_keeps_its_zoom_and_stands_as_it_is_when_the_page_is_loaded_again(lab: Lab) -> None:
    code = ("from sa_lab.course import toy, widgets", "widgets.Playground(toy.World(num_identities=4))")
    notebook = lab.open(write(lab, "playground.ipynb", *code), 1280)
    notebook.run_all()
    figure, slider = notebook.figure(0, live=True), notebook.slider("similarity weight")
    figure.show()

    # while the mouse is down, box and figure follow
    arrows = figure.curve("absolute similarity: pull and loss", "x")
    handle, mouse = slider.handle.bounding_box(), notebook.page.mouse
    at = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    mouse.move(*at)
    mouse.down()
    mouse.move(at[0] + 60, at[1], steps=10)
    figure.wait_for(lambda f: f.curve("absolute similarity: pull and loss", "x") != arrows)
    figure.wait_for(lambda _: float(notebook.number("similarity weight").input_value()) == slider.value > 1)
    mouse.up()

    # a zoom of the reader's stays
    inner = figure.graph.locator(".nsewdrag").first.bounding_box()
    mouse.move(inner["x"] + 60, inner["y"] + 60)
    mouse.down()
    mouse.move(inner["x"] + 160, inner["y"] + 160, steps=5)
    mouse.up()
    zoomed = "g => g._fullLayout.xaxis.range"
    notebook.page.wait_for_timeout(500)
    seen = figure.graph.evaluate(zoomed)
    notebook.button("Step").click()
    figure.wait_for(lambda f: f.title.startswith("Step 1:"))
    assert figure.graph.evaluate(zoomed) == seen

    # loaded again, the page shows what the kernel has, and its controls work
    notebook.page.keyboard.press("Control+s")
    notebook.page.wait_for_timeout(1500)
    notebook.page.reload()
    notebook.page.wait_for_selector("#jp-main-statusbar >> text=| Idle", timeout=120_000)
    figure.show()
    figure.wait_for(lambda f: f.title.startswith("Step 1:"))
    assert float(notebook.number("similarity weight").input_value()) == slider.value > 1
    notebook.button("Step").click()
    figure.wait_for(lambda f: f.title.startswith("Step 2:"))
    assert notebook.errors == []

    # opened again when its kernel is gone, it says how to start it
    lab.server.end_kernels()
    another = lab.open("playground.ipynb", 1280)
    another.panel.get_by_text("This figure is live in JupyterLab").wait_for(timeout=60_000)
    assert another.errors == []


@pytest.mark.slow
def test_a_cell_that_fails_is_told_with_its_traceback(lab: Lab) -> None:
    notebook = lab.open(write(lab, "failing.ipynb", "x = 1", "x / 0", "x"), 1280)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        notebook.run_all()

"""Figures: the data arrive in the traces, axes and title are named, nothing is computed."""

from __future__ import annotations

import json

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
import pytest

from sa_lab import plots
from sa_lab.course import figures


def assert_named(figure: go.Figure) -> None:
    assert figure.layout.title.text
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text


def test_lines_and_reference() -> None:
    x = np.arange(4.0)
    figure = figures.lines(x, {"a": x, "b": 2 * x}, title="t", x_title="x", y_title="y", reference=(1.0, "one"))
    assert_named(figure)
    assert [trace.name for trace in figure.data] == ["a", "b"]
    assert figure.data[0].line.dash != figure.data[1].line.dash
    np.testing.assert_array_equal(figure.data[1].y, 2 * x)


def test_training_curves_have_one_panel_a_term_and_one_legend_entry_a_run() -> None:
    columns = {"step": np.arange(3.0), "identity": np.ones(3), "absolute": np.zeros(3)}
    figure = figures.training_curves({"a": columns, "b": columns}, {"identity": "identity", "absolute": "absolute"})
    assert_named(figure)
    assert len(figure.data) == 4
    assert sum(trace.showlegend for trace in figure.data) == 2


def test_another_training_is_drawn_pale_behind_as_far_as_this_one_is() -> None:
    rows = [{"step": step, "identity": 3.0} for step in range(4)]
    columns = {"step": np.arange(9.0), "identity": np.arange(9.0), "rank_1": np.full(9, np.nan)}
    pale = [one for one in figures.live_training(rows, title="t", behind=columns).data if one.opacity]
    assert [list(one.y) for one in pale] == [[0, 1, 2, 3], []]


def test_live_training_shows_each_column_where_it_was_taken() -> None:
    rows = [{"step": step, "identity": 3.0, "sas_weight": 0.7, "mask_value": 50.0} for step in range(4)]
    rows[2] |= {"rank_1": 0.25, "stranger_ratio": 0.8}
    figure = figures.live_training(rows, title="t")
    assert_named(figure)
    shown = {trace.name: (list(trace.x), list(trace.y)) for trace in figure.data}
    assert shown["identity"] == ([0, 1, 2, 3], [3, 3, 3, 3])
    assert shown["mask / 50"][1] == [1, 1, 1, 1]
    assert shown["Rank-1"] == ([2], [25])
    assert shown["modality gap"] == ([2], [0.8])
    assert len(figures.live_training([], title="t").data) == len(figure.data), "a live figure keeps its traces"


@pytest.mark.parametrize("dimensions", [2, 3])
def test_toy_world_draws_pulls_as_arrows_from_the_centres_outwards(dimensions: int) -> None:
    rng = np.random.default_rng(0)
    centres = 3 * np.eye(4, dimensions)[[0, 1, 0, 1]]
    pulls = {"sa_softmax": 0.1 * np.eye(4, dimensions)[[1, 0, 1, 0]], "identity": 100 * np.eye(4, dimensions)}
    figure = figures.toy_world(
        centres, np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), rng.random((4, dimensions)), centres, pulls,
        [{"step": 0, "identity": 1.0}], title="t",
    )  # fmt: skip
    assert figure.layout.title.text
    for number in ("", 2, 3) if dimensions == 2 else (2, 3):
        assert figure.layout[f"xaxis{number}"].title.text
        assert figure.layout[f"yaxis{number}"].title.text
    if dimensions == 3:
        assert all(figure.layout.scene[f"{axis}axis"].title.text for axis in "xyz")
    arrows = {trace.name: trace for trace in figure.data}
    x, y = arrows["SA-Softmax: pull and loss"].x, arrows["SA-Softmax: pull and loss"].y
    np.testing.assert_allclose([x[1] - x[0], y[1] - y[0]], [0, 0.25], atol=1e-9)
    assert np.hypot(x[0], y[0]) > 3
    far = arrows["identity: pull and loss"]
    assert np.hypot(far.x[1] - far.x[0], far.y[1] - far.y[0]) == pytest.approx(1.5), "no longer than half the radius"
    assert x[-1] is None


def test_loss_lens_marks_the_sample_in_the_histogram() -> None:
    image = np.zeros((3, 8, 4), dtype=np.uint8)
    everybody = {"identity": np.array([0.0, 1.0, 1.0]), "sa_softmax": np.array([2.0, 2.0, 2.0])}
    own = {"identity": 1.0, "sa_softmax": 2.0}
    figure = figures.loss_lens(
        image, ["own", "cross", "id 7"], np.arange(3.0), np.ones(3) / 3, own, everybody, title="t", num_bins=10
    )
    assert figure.layout.title.text
    assert all(axis.title.text for axis in figure.select_xaxes() if axis.visible is not False)
    shown = {trace.name: trace for trace in figure.data}
    assert list(shown["identity, this sample"].x) == [1, 1]
    assert shown["SA-Softmax"].y[-1] == 3
    assert sum(shown["identity"].y) == 3


def test_the_network_is_drawn_with_its_shapes() -> None:
    boxes = ["visible images", "infrared images", "visible stem", "infrared stem", "trunk", "parts", "neck"]
    shapes = {name: f"({i},)" for i, name in enumerate([*boxes, "classifier", "prototypes"])}
    figure = figures.network(shapes, title="t")
    texts = [one.text for one in figure.layout.annotations if one.text]
    assert texts == [f"<b>{name}</b><br>{shape}" for name, shape in shapes.items()]
    assert sum(one.showarrow is not False for one in figure.layout.annotations) == len(figure.layout.annotations) - 9
    assert len(figure.layout.shapes) == 9


def test_image_grid_places_every_image_and_frame() -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 3, 16, 8), dtype=np.uint8)
    figure = figures.image_grid(images, list("abcde"), title="t", columns=3, right=[None, True, None, False, None])
    assert len(figure.layout.images) == 5
    assert len(figure.layout.shapes) == 2
    assert figure.layout.images[3].y < figure.layout.images[0].y
    assert [note.text for note in figure.layout.annotations] == list("abcde")


def test_projection_joins_the_two_prototypes_of_an_identity() -> None:
    rng = np.random.default_rng(0)
    samples, prototypes = rng.random((6, 2)), rng.random((4, 2))
    modality = np.array([0, 0, 0, 1, 1, 1])
    figure = plots.projection(samples, np.arange(6), modality, title="t", prototypes=prototypes)
    assert_named(figure)
    visible, infrared, joined = figure.data[:3]
    assert visible.marker.symbol != infrared.marker.symbol
    np.testing.assert_allclose(np.array([joined.x[:2], joined.y[:2]]).T, prototypes[[0, 2]], atol=1e-3)


def test_histograms_share_their_bins_and_have_unit_area() -> None:
    rng = np.random.default_rng(0)
    figure = plots.histograms({"a": rng.normal(size=500), "b": rng.normal(2, 1, size=99)}, title="t", x_title="x")
    assert_named(figure)
    np.testing.assert_array_equal(figure.data[0].x, figure.data[1].x)
    width = figure.data[0].x[1] - figure.data[0].x[0]
    for trace in figure.data:
        np.testing.assert_allclose(np.sum(trace.y) * width, 1)


def test_cmc_and_intervals_show_the_numbers_given() -> None:
    bounds = (np.array([0.25, 0.5]), np.array([0.2, 0.4]), np.array([0.3, 0.75]))
    figure = figures.cmc_curves({"a": bounds}, title="t")
    assert_named(figure)
    assert list(figure.data[0].y) == [30, 75, 40, 20]
    assert list(figure.data[1].y) == [25, 50]
    figure = figures.intervals({"a": {"m": (2.0, 1.0, 4.0)}, "b": {"m": (3.0, 3.0, 3.0)}}, title="t", y_title="y")
    assert list(figure.data[0].error_y.array) == [2]
    assert list(figure.data[0].error_y.arrayminus) == [1]
    assert figure.data[0].x[0] < figure.data[1].x[0]


def test_scatter_is_named() -> None:
    assert_named(figures.scatter(np.arange(3.0), np.arange(3.0), title="t", x_title="x", y_title="y"))


def test_protocol_map_says_what_is_searched_and_hidden() -> None:
    nothing = np.zeros((2, 3))
    hidden, matches = nothing.copy(), nothing.copy()
    hidden[0, 1], hidden[:, 2] = 1, np.nan
    matches[0, 1], matches[1, 0] = 1, 1
    cameras = (np.array([3, 6]), np.array([1, 2, 4]))
    counts = (np.array([5, 6]), np.array([7, 8, 0]))
    figure = figures.protocol_map(*cameras, *counts, hidden, matches, title="t")
    assert_named(figure)
    assert figure.data[0].text[0] == ["searched", "hidden", "not searched"]
    assert figure.data[0].text[1] == ["own matches<br>hidden", "searched", "not searched"]
    assert figure.data[0].x[2] == "camera 4<br>0 images"


def test_intervals_of_other_groups_keep_their_places() -> None:
    bars = {"a": {"m": (1.0, 0.0, 2.0), "n": (1.0, 0.0, 2.0)}, "b": {"n": (3.0, 3.0, 3.0)}}
    figure = figures.intervals(bars, title="t", y_title="y")
    assert round(figure.data[1].x[0]) == 1
    assert list(figure.layout.xaxis.ticktext) == ["m", "n"]


def test_no_renderer_offers_to_upload_a_figure() -> None:
    """JupyterLab, VS Code, Colab, Kaggle, Azure, CoCalc, Databricks, a browser: all that draw in a page."""
    plots.use_config()
    drawing = [name for name in pio.renderers if hasattr(pio.renderers[name], "config")]
    assert {"plotly_mimetype", "vscode", "colab", "kaggle", "notebook", "iframe"} <= set(drawing)
    for name in {"vscode", "colab", "kaggle", "notebook_connected"}:
        bundle = pio.renderers[name].to_mimebundle({"data": [], "layout": {}})
        assert '"showSendToCloud":false' in json.dumps(bundle).replace("\\", "").replace(" ", ""), name


def swept(loss: str, mask: float | None, mean: float, seconds: float = 60.0, weight: float = 1.0) -> plots.Point:
    return plots.Point(
        loss, {"loss.mask_value": mask, "loss.similarity_weight": weight}, mean, mean - 1, mean + 1, seconds, 3
    )


def test_a_response_surface_shows_every_cell_and_frames_the_best() -> None:
    points = [
        swept("complete", mask, 10 * weight + mask, weight=weight) for mask in (0.0, 5.0) for weight in (0.0, 1.0, 4.0)
    ]
    axes = ("loss.mask_value", "loss.similarity_weight")
    figure = plots.response_surface(points[:-1], *axes, measure="mAP, %", title="mAP over two dials")
    assert_named(figure)
    (heat,) = figure.data
    assert [list(row) for row in heat.z] == [[0, 5], [10, 15], [40, None]]
    assert heat.customdata[0][0] == "95 % interval -1.0 to 1.0, 3 runs"
    assert heat.customdata[2][1] == "not trained"
    frame = figure.layout.shapes[0]
    assert (frame.x0, frame.y0) == (-0.5, 1.5)
    with pytest.raises(ValueError, match="expected one loss"):
        plots.response_surface([*points, swept("softmax", 0.0, 1.0)], *axes, measure="", title="")
    with pytest.raises(ValueError, match="expected each once"):
        plots.response_surface([*points, points[0]], *axes, measure="", title="")


def test_lines_over_a_dial_have_intervals_and_level_lines() -> None:
    points = [swept("softmax", None, 28.0), swept("complete", 50.0, 32.0), swept("complete", 0.0, 24.0)]
    figure = plots.over_dial(points, "loss.mask_value", measure="mAP, %", title="mAP over the mask")
    assert_named(figure)
    softmax, complete = figure.data
    assert (list(softmax.x), list(softmax.y)) == (["0.0", "50.0"], [28.0, 28.0])
    assert (list(complete.x), list(complete.y)) == (["0.0", "50.0"], [24.0, 32.0])
    assert list(complete.error_y.array) == [1.0, 1.0]


def test_parallel_coordinates_have_an_axis_for_what_differs() -> None:
    points = [swept("softmax", None, 28.0), swept("complete", 50.0, 32.0), swept("complete", 0.0, 24.0)]
    (lines,) = plots.parallel(points, measure="mAP, %", title="all dials").data
    assert [axis.label for axis in lines.dimensions] == ["loss", "mask value", "mAP, %"]
    assert list(lines.dimensions[1].ticktext) == ["0.0", "50.0", "-"]
    assert list(lines.line.color) == [28.0, 32.0, 24.0]


def test_a_pareto_front_joins_what_nothing_beats() -> None:
    points = [
        swept("a", 0.0, 20.0, 10.0),
        swept("a", 1.0, 30.0, 40.0),
        swept("b", 0.0, 25.0, 50.0),
        swept("b", 1.0, 22.0, 20.0),
    ]
    figure = plots.pareto(points, measure="mAP, %", title="quality against time")
    assert_named(figure)
    assert list(figure.data[-1].x) == [10.0, 20.0, 40.0]
    assert list(figure.data[-1].y) == [20.0, 22.0, 30.0]

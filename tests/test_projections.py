"""Overlap figures: what a point says and carries, films, thumbnails on a page, cards of several runs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from browsing import Watched
from PIL import Image
from plotly.offline import get_plotlyjs

from sa_lab import plots
from sa_lab.plots.projections import MOST_CATEGORIES
from sa_lab.plots.style import COLOURS

PERSONS, MODALITY = np.repeat([7, 3, 5], 4), np.tile([0, 0, 1, 1], 3)
PLACES = np.stack([np.arange(12) % 4, np.arange(12) // 4], axis=1).astype(float)
MARKS = np.array([[0.5, 0.2], [0.5, 1.2], [0.5, 2.2], [2.5, 0.2], [2.5, 1.2], [2.5, 2.2]])
IDS = np.array([7, 3, 5])


def drawn(places: np.ndarray = PLACES, marks: np.ndarray = MARKS, **more: Any) -> go.Figure:
    return plots.projection(places, PERSONS, MODALITY, title="t", prototypes=marks, prototype_ids=IDS, **more)


def numbers(figure: go.Figure) -> list[np.ndarray]:
    """Every coordinate; a gap is None, which becomes NaN here alone."""
    columns = [getattr(trace, axis) for trace in figure.data for axis in "xyz" if axis in trace]
    assert not any(isinstance(value, float) and np.isnan(value) for column in columns for value in column)
    return [np.array(column, dtype=float) for column in columns]


def coloured(count: int, height: int = 64, width: int = 32) -> np.ndarray:
    """Images that compress as photographs do: patches of colour under blurred noise."""
    rng = np.random.default_rng(0)
    patches = rng.integers(30, 220, (count, 3, 4, 2)).repeat(height // 4, 2).repeat(width // 2, 3)
    noise = rng.normal(0, 24, (count, 3, height, width))
    noise = (noise + np.roll(noise, 1, 2) + np.roll(noise, 1, 3)) / 2
    return np.clip(patches + noise, 0, 255).astype(np.uint8)


def plain(count: int, height: int = 32, width: int = 16) -> np.ndarray:
    """Images of one colour each, far from each other."""
    colours = np.random.default_rng(1).integers(20, 235, (count, 3, 1, 1))
    return np.broadcast_to(colours, (count, 3, height, width)).astype(np.uint8)


# Figures


def test_a_sample_carries_its_row_and_identity_and_says_its_spectrum() -> None:
    figure = drawn()
    samples = [trace for trace in figure.data if trace.customdata is not None]
    assert [trace.marker.symbol for trace in samples] == list(plots.SYMBOLS)
    assert {trace.marker.color for trace in samples} == set(COLOURS[:2])
    for m, trace in enumerate(samples):
        rows, persons = trace.customdata.T
        assert (MODALITY[rows] == m).all()
        np.testing.assert_array_equal(persons, PERSONS[rows])
        np.testing.assert_array_equal(np.stack([trace.x, trace.y], axis=1), PLACES[rows].astype(np.float32))
        assert trace.customdata.dtype == np.int32
        assert trace.hovertemplate == f"identity %{{customdata[1]}}, {plots.SPECTRA[m]}<extra></extra>"
    assert figure.layout.xaxis.title.text == "first coordinate (arbitrary)"
    assert figure.layout.width <= 820
    numbers(figure)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_two_prototypes_of_an_identity_are_joined_and_named(dimensions: int) -> None:
    places, marks = (np.pad(one, ((0, 0), (0, dimensions - 2)), constant_values=0.5) for one in (PLACES, MARKS))
    figure = drawn(places, marks)
    assert {trace.type for trace in figure.data} == {"scatter" if dimensions == 2 else "scatter3d"}
    joined, visible, infrared = figure.data[-3:]
    assert list(joined.x) == [0.5, 2.5, None] * 3
    for trace, spectrum in ((visible, "visible"), (infrared, "infrared")):
        assert list(trace.text) == [7, 3, 5]
        assert trace.hovertemplate == f"prototype of identity %{{text}}, {spectrum}<extra></extra>"
        assert trace.marker.symbol.endswith("-open")
        assert trace.customdata is None, "no image"
    numbers(figure)
    axes = figure.layout.scene if dimensions == 3 else figure.layout
    assert all("arbitrary" in axes[f"{axis}axis"].title.text for axis in "xyz"[:dimensions])


def test_an_identity_has_one_colour_for_samples_and_prototypes() -> None:
    figure = drawn(colour_by="identity")
    visible, prototypes = figure.data[0], figure.data[-2]
    assert len(visible.marker.colorscale) == 20
    steps = dict(zip(visible.customdata[:, 1].tolist(), np.asarray(visible.marker.color).tolist(), strict=True))
    assert steps == {3: 0, 5: 1, 7: 2}
    assert list(prototypes.marker.color) == [COLOURS[steps[person]] for person in (7, 3, 5)]
    assert [trace.mode for trace in figure.data[-2:]] == ["markers+text", "markers"], "its number stands once"
    assert drawn().data[-2].mode == "markers", "where colours stand for something else, none does"
    assert list(plots.projection(PLACES, PERSONS, MODALITY, title="t", prototypes=MARKS).data[-1].text) == [3, 5, 7]


def test_categories_have_a_place_in_the_legend_for_each_spectrum() -> None:
    figure = drawn(colour_by="camera", values=np.array([1, 2, 3, 3] * 3))
    samples = {trace.name: trace for trace in figure.data if trace.customdata is not None}
    assert list(samples) == ["camera: 1, visible", "camera: 2, visible", "camera: 3, infrared"]
    assert len({trace.marker.color for trace in samples.values()}) == 3
    assert samples["camera: 3, infrared"].marker.symbol == "diamond"
    assert "<br>camera: 2" in samples["camera: 2, visible"].hovertemplate
    yes = drawn(colour_by="first match", values=np.arange(12) % 4 == 0)
    assert [trace.name for trace in yes.data[:3]] == [
        "first match: no, visible", "first match: no, infrared", "first match: yes, visible",
    ]  # fmt: skip
    words = drawn(colour_by="clothes", values=np.array(["red", "blue"] * 6))
    assert words.data[0].name == "clothes: blue, visible"
    ten = np.arange(40) % MOST_CATEGORIES
    most = plots.projection(
        np.zeros((40, 2)), ten, np.arange(40) // 20, title="t", prototypes=np.zeros((20, 2)), colour_by="g", values=ten
    )
    assert len(most.data) == 23
    assert most.layout.height > drawn().layout.height, "room for its legend"


def test_a_scale_has_a_titled_bar_and_shapes_by_spectrum() -> None:
    loss = np.linspace(0, 3, 12)
    figure = drawn(colour_by="loss", values=loss, unit="nats")
    assert figure.layout.coloraxis.colorbar.title.text == "loss<br>nats"
    assert figure.layout.coloraxis.colorscale[0][1] == "#00224e", "Cividis"
    for trace in figure.data[:2]:
        assert trace.marker.coloraxis == "coloraxis"
        np.testing.assert_allclose(trace.marker.color, loss[trace.customdata[:, 0]], rtol=1e-6)
        assert "loss: %{marker.color:.3g} nats" in trace.hovertemplate
    assert figure.data[0].marker.symbol != figure.data[1].marker.symbol


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(ValueError, match="categories, expected at most 10"):
        drawn(colour_by="row", values=np.arange(12))
    with pytest.raises(ValueError, match="'loss' hold NaN"):
        drawn(colour_by="loss", values=np.full(12, np.nan))
    with pytest.raises(ValueError, match="colour_by is 'camera', expected"):
        drawn(colour_by="camera")
    with pytest.raises(ValueError, match=r"expected \(N, 2\) or \(N, 3\)"):
        plots.projection(np.zeros((12, 4)), PERSONS, MODALITY, title="t")
    with pytest.raises(ValueError, match="prototypes has 5 rows, expected an even number"):
        drawn(marks=MARKS[:5])
    with pytest.raises(ValueError, match="2 steps, 1 arrays of samples"):
        plots.film([0, 1], [PLACES], PERSONS, MODALITY, [MARKS, MARKS], title="t")


def film() -> go.Figure:
    moved = [(PLACES * (1 + k), MARKS * (1 + k)) for k in range(3)]
    return plots.film([0, 40, 80], [a for a, _ in moved], PERSONS, MODALITY, [b for _, b in moved], title="a film",
                      prototype_ids=IDS)  # fmt: skip


def test_films_beside_each_other_move_together() -> None:
    one = film()
    both = plots.films([one, film()], title="both")
    assert [frame.name for frame in both.frames] == [frame.name for frame in one.frames]
    count = len(one.data)
    assert len(both.data) == 2 * count
    assert {trace.xaxis for trace in both.data[count:]} == {"x2"}
    for frame, alone in zip(both.frames, one.frames, strict=True):
        for k in range(2 * count):
            assert list(frame.data[k].x) == list(alone.data[k % count].x)
    assert sum(bool(trace.showlegend is not False) for trace in both.data[count:]) == 0, "one legend"
    assert len(both.layout.sliders) == 1
    shorter = go.Figure(one.data, one.layout, one.frames[:2])
    with pytest.raises(ValueError, match="expected films of the same steps"):
        plots.films([one, shorter], title="t")


def test_a_film_has_a_frame_and_a_place_on_the_slider_for_each_step() -> None:
    figure = film()
    (slider,), (menu,) = figure.layout.sliders, figure.layout.updatemenus
    names = ["step 0", "step 40", "step 80"]
    assert [frame.name for frame in figure.frames] == [step.label for step in slider.steps] == names
    assert [list(step.args[0]) for step in slider.steps] == [[name] for name in names]
    assert [one.label for one in menu.buttons] == ["Play", "Pause"]
    for k, frame in enumerate(figure.frames):
        assert len(frame.data) == len(figure.data)
        np.testing.assert_allclose(3 * np.asarray(frame.data[0].x), (1 + k) * np.asarray(figure.data[0].x), rtol=1e-6)
        inside = np.concatenate([np.array(trace.x, dtype=float) for trace in frame.data])
        low, high = figure.layout.xaxis.range
        assert low < np.nanmin(inside) <= np.nanmax(inside) < high
    assert slider.active == 2, "the last step is shown first"
    assert 0 < menu.buttons[0].args[1]["transition"]["duration"] <= menu.buttons[0].args[1]["frame"]["duration"]
    assert menu.buttons[0].args[1]["frame"]["redraw"] is False


def test_heat_map_puts_an_identity_s_two_prototypes_beside_each_other() -> None:
    cosines = np.linspace(-1, 1, 36).reshape(6, 6)
    figure = plots.heat_map(cosines, IDS, title="t")
    (trace,) = figure.data
    assert list(trace.y) == ["3 visible", "3 infrared", "5 visible", "5 infrared", "7 visible", "7 infrared"]
    assert trace.z[0, 1] == pytest.approx(cosines[1, 4])
    assert trace.z[5, 2] == pytest.approx(cosines[3, 2])
    assert (trace.zmin, trace.zmax, trace.colorbar.title.text) == (-1, 1, "cosine")
    assert len(figure.layout.xaxis.tickvals) == 6
    many = plots.heat_map(np.eye(400), np.arange(200), title="t")
    assert len(many.layout.xaxis.tickvals) <= 24
    assert set(many.layout.xaxis.tickvals) <= set(many.data[0].x)
    with pytest.raises(ValueError, match="for 3 identities"):
        plots.heat_map(np.eye(4), IDS, title="t")


def test_over_training_leaves_out_what_was_not_taken() -> None:
    taken = np.array([0.1, np.nan, 0.3])
    columns = {"a": {"gap": taken, "probe": np.ones(3)}, "b": {"probe": np.zeros(3)}}
    figure = plots.over_training(np.array([0, 20, 40]), columns, {"gap": "modality gap", "probe": "modality probe"})
    assert [trace.name for trace in figure.data] == ["a", "a", "b"]
    assert list(figure.data[0].x) == [0, 40]
    assert [trace.showlegend for trace in figure.data] == [True, False, True]
    assert figure.data[0].line.dash != figure.data[2].line.dash
    assert all(axis.title.text == "step" for axis in figure.select_xaxes())
    assert [axis.title.text for axis in figure.select_yaxes()] == ["modality gap", "modality probe"]


def run_card(shift: float) -> plots.RunCard:
    rng = np.random.default_rng(0)
    pairs = {"same person, other spectrum": rng.normal(0.5, 0.1, 99), "other person, other spectrum": rng.random(300)}
    measures = {f"measure {k}": (0.5 + shift, 0.4 + shift, 0.7 + shift) for k in range(5)}
    return plots.RunCard(PLACES, PERSONS, MODALITY, MARKS, pairs, measures, 0.9 + shift, IDS)


@pytest.mark.parametrize("count", [1, 4])
def test_overlap_card_has_panels_for_each_run_and_each_measure(count: int) -> None:
    names = [f"run {k}" for k in range(count)]
    figure = plots.overlap_card({name: run_card(k / 100) for k, name in enumerate(names)})
    layout = figure.to_dict()["layout"]
    axes = [key for key in layout if key.startswith("xaxis")]
    assert len(axes) == 2 * count + 5
    assert figure.layout.width == 820
    headings = [note.text for note in figure.layout.annotations if note.text]
    assert headings == names
    below = [layout[axis]["title"].get("text", "") for axis in axes]
    assert [text for text in below if "measure" in text] == [f"measure {k}" for k in range(5)]
    for k in range(count):
        assert f"arbitrary<br>trustworthiness {0.9 + k / 100:.2f}" in below
    means = [trace for trace in figure.data if trace.error_x.array is not None]
    assert len(means) == 5
    assert all(len(set(trace.marker.symbol)) == len(trace.x) == count for trace in means)
    assert means[0].error_x.array[0] == pytest.approx(0.2)
    assert means[0].error_x.arrayminus[0] == pytest.approx(0.1)
    steps = [trace for trace in figure.data if trace.name == "same person, other spectrum"]
    for trace in steps:
        assert np.sum(trace.y) * (trace.x[1] - trace.x[0]) == pytest.approx(1, rel=1e-4)
    legend = [trace.name for trace in figure.data if trace.showlegend]
    assert len(set(legend)) == len(legend) == 7
    boxes = [(layout[key]["domain"], layout[key.replace("x", "y", 1)]["domain"]) for key in axes]
    for i, ((left, right), (low, high)) in enumerate(boxes):
        for (other_left, other_right), (other_low, other_high) in boxes[:i]:
            assert right <= other_left or other_right <= left or high <= other_low or other_high <= low, "overlap"


def test_overlap_card_compares_one_to_four_runs() -> None:
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"runs has {count} entries, expected 1..4"):
            plots.overlap_card({str(k): run_card(0.0) for k in range(count)})


# Thumbnails


def decoded(sheet: plots.Atlas) -> np.ndarray:
    """(count, height, width, 3) tiles of the picture."""
    content = base64.b64decode(sheet.uri.removeprefix("data:image/webp;base64,"))
    picture = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert picture.shape[:2] == (sheet.rows * sheet.height, sheet.columns * sheet.width)
    tiles = picture.reshape(sheet.rows, sheet.height, sheet.columns, sheet.width, 3).swapaxes(1, 2)
    return tiles.reshape(-1, sheet.height, sheet.width, 3)[: sheet.count]


@pytest.mark.parametrize("count", [1, 2, 700])
def test_each_tile_of_an_atlas_is_its_image(count: int) -> None:
    images = coloured(count)
    sheet = plots.atlas(images)
    assert (sheet.width, sheet.height, sheet.count) == (32, 64, count)
    tiles = decoded(sheet)
    apart = np.abs(tiles.mean(axis=(1, 2)) - images.mean(axis=(2, 3)))
    assert apart.max() < 6
    assert np.abs(tiles.astype(float) - images.transpose(0, 2, 3, 1)).mean() < 15


def test_an_atlas_makes_images_smaller_and_coarser_until_they_fit() -> None:
    images = coloured(300, 128, 64)
    sheet = plots.atlas(images)
    assert (sheet.width, sheet.height) == (32, 64), "no taller than 64"
    assert plots.atlas(plain(3)).height == 32, "never up"
    tight = plots.atlas(images, max_bytes=60_000)
    assert len(base64.b64decode(tight.uri.partition(",")[2])) <= 60_000
    assert np.abs(decoded(tight).mean(axis=(1, 2)) - images.mean(axis=(2, 3))).mean() < 6
    with pytest.raises(ValueError, match="max_bytes is 999, which is too little for 300 images"):
        plots.atlas(images, max_bytes=999)
    with pytest.raises(ValueError, match="images is empty"):
        plots.atlas(images[:0])


def whole(*parts: str) -> str:
    script = f"<script>{get_plotlyjs()}</script>"
    return f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>t</title><link rel="icon" href="data:,">\
{script}</head><body>{"".join(parts)}</body></html>'


def test_a_page_of_5000_points_is_small_and_asks_for_nothing() -> None:
    rng = np.random.default_rng(0)
    persons, modality = rng.integers(0, 400, 5000), rng.integers(0, 2, 5000)
    marks = rng.normal(size=(800, 2))
    figure = plots.projection(
        rng.normal(size=(5000, 2)), persons, modality, title="t", prototypes=marks, colour_by="identity"
    )
    sheet = plots.atlas(coloured(5000))
    part = plots.page(figure, sheet)
    assert part.count(sheet.uri) == 1
    assert "http" not in part.replace("http://www.w3.org", "")
    assert len(part) < 3_200_000
    assert len(whole(part).encode()) < 8_000_000


def test_a_figure_with_more_samples_than_images_is_refused() -> None:
    with pytest.raises(ValueError, match="figure has row 11, but the atlas has 5 images"):
        plots.page(drawn(), plots.atlas(plain(5)))


# In a browser

POSITION = """([name, trace, point]) => {
  const graph = document.getElementById(name).querySelector('.js-plotly-plot'), box = graph.getBoundingClientRect();
  const {xaxis, yaxis} = graph._fullLayout, {x, y} = graph._fullData[trace];
  return [box.left + xaxis._offset + xaxis.d2p(x[point]), box.top + yaxis._offset + yaxis.d2p(y[point])];
}"""

IN_SPACE = """([trace, point]) => {
  const scene = [...document.querySelectorAll('.js-plotly-plot')].at(-1)._fullLayout.scene._scene;
  if (!scene || !scene.dataScale || !scene.glplot.cameraParams) return null;
  const {model, view, projection} = scene.glplot.cameraParams, scale = scene.dataScale;
  const {x, y, z} = [...document.querySelectorAll('.js-plotly-plot')].at(-1)._fullData[trace];
  const turn = (by, from) => [0, 1, 2, 3].map((i) => from.reduce((sum, one, k) => sum + by[4 * k + i] * one, 0));
  const place = [x[point] * scale[0], y[point] * scale[1], z[point] * scale[2], 1];
  const [u, v, , w] = turn(projection, turn(view, turn(model, place)));
  const box = scene.container.getBoundingClientRect();
  return [box.left + (1 + u / w) / 2 * box.width, box.top + (1 - v / w) / 2 * box.height];
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A figure and its images twice, the images of the second in reverse order, one in space, a film."""
    folder, sheet = tmp_path_factory.mktemp("pages"), plots.atlas(plain(12))
    loss = drawn(colour_by="loss", values=np.linspace(0, 2.75, 12), unit="nats")
    two = [plots.page(loss, sheet, name="one"), plots.page(drawn(), plots.atlas(plain(12)[::-1].copy()), name="two")]
    (folder / "two.html").write_text(whole(*two))
    solid = drawn(np.pad(PLACES, ((0, 0), (0, 1))), np.pad(MARKS, ((0, 0), (0, 1))))
    (folder / "film.html").write_text(whole(plots.page(film(), sheet, name="film"), plots.page(solid, sheet)))
    return folder


def opened(page_at: Callable[..., Watched], path: Path) -> Watched:
    watched = page_at(1000, 1500)
    watched.page.goto(path.as_uri())
    watched.page.wait_for_function("[...document.querySelectorAll('.js-plotly-plot')].every(one => one._fullData)")
    return watched


def offline(watched: Watched) -> bool:
    return all(one.startswith(("file:", "data:", "blob:")) for one in watched.requests)


def mean_colour(place: Any) -> np.ndarray:
    picture = np.asarray(Image.open(io.BytesIO(place.screenshot())).convert("RGB"), dtype=float)
    return picture[4:-4, 4:-4].mean(axis=(0, 1))


@pytest.mark.parametrize(("name", "backwards"), [("one", False), ("two", True)])
def test_pointing_at_a_sample_shows_its_image(
    pages: Path, page_at: Callable[..., Watched], name: str, backwards: bool
) -> None:
    watched = opened(page_at, pages / "two.html")
    colours = plain(12)[:: -1 if backwards else 1, :, 0, 0]
    other = watched.page.locator(f"#{'one' if backwards else 'two'} .beside")
    for trace, point, row in ((0, 3, 5), (1, 0, 2), (1, 5, 11)):
        watched.page.mouse.move(*watched.page.evaluate(POSITION, [name, trace, point]), steps=3)
        tile = watched.page.locator(f'#{name} .beside .tile[data-row="{row}"]')
        tile.wait_for(state="visible", timeout=5000)
        assert not watched.page.locator(f"#{name} .hovertext").first.is_visible(), "said once"
        columns = plots.atlas(plain(12)).columns
        place = f"{-64 * (row % columns)}px {-128 * (row // columns)}px".replace("-0px", "0px")
        assert tile.evaluate("one => one.style.backgroundPosition").replace("-0px", "0px") == place
        assert np.abs(mean_colour(tile) - colours[row]).max() < 8
        text = tile.get_attribute("aria-label")
        assert text.startswith(f"identity {PERSONS[row]}, {plots.SPECTRA[MODALITY[row]]}")
        assert text.endswith(f"loss: {0.25 * row:g} nats" if name == "one" else plots.SPECTRA[MODALITY[row]])
        assert not other.is_visible()
    watched.page.mouse.move(*watched.page.evaluate(POSITION, [name, 3, 1]), steps=3)
    watched.page.wait_for_function(
        "name => document.getElementById(name).textContent.includes('prototype of identity 3, visible')", arg=name
    )
    assert not watched.page.locator(f"#{name} .beside").is_visible(), "a prototype has no image"
    assert watched.errors == []
    assert offline(watched)


def test_a_selection_lists_exactly_its_images(pages: Path, page_at: Callable[..., Watched]) -> None:
    watched = opened(page_at, pages / "two.html")
    page, part = watched.page, watched.page.locator("#one")
    page.evaluate("Plotly.relayout(document.querySelector('#one .js-plotly-plot'), {dragmode: 'select'})")
    (left, top), (right, bottom) = (page.evaluate(POSITION, ["one", trace, k]) for trace, k in ((0, 4), (1, 2)))
    page.mouse.move(left - 12, top - 12)
    page.mouse.down()
    page.mouse.move(right + 12, bottom + 12, steps=6)
    page.mouse.up()
    items = part.locator(".selected li .tile")
    items.first.wait_for(timeout=5000)
    assert items.evaluate_all("all => all.map(one => Number(one.dataset.row))") == [4, 5, 6, 8, 9, 10]
    assert [text.strip() for text in part.locator(".selected li").all_inner_texts()][2] == "identity 3, infrared"
    assert np.abs(mean_colour(items.nth(2)) - plain(12)[6, :, 0, 0]).max() < 8
    assert part.locator(".told").inner_text() == "6 selected"
    assert page.locator("#two .selected li").count() == 0
    many = [{"customdata": [k % 12, 7], "data": {"hovertemplate": "identity, visible"}} for k in range(80)]
    page.evaluate(
        "many => document.querySelector('#one .js-plotly-plot').emit('plotly_selected', {points: many})", many
    )
    assert items.count() == 60
    assert part.locator(".told").inner_text() == "80 selected, the first 60 shown"
    page.evaluate("document.querySelector('#one .js-plotly-plot').emit('plotly_deselect')")
    assert items.count() == 0
    assert part.locator(".told").inner_text().startswith("Select points")
    assert watched.errors == []
    assert offline(watched)


def test_the_slider_of_a_film_moves_the_points(pages: Path, page_at: Callable[..., Watched]) -> None:
    watched = opened(page_at, pages / "film.html")
    page, graph = watched.page, "document.querySelector('#film .js-plotly-plot')"
    first = "[2, 3, 2, 3, 2, 3]"  # of the infrared samples
    moved = f"k => {first}.every((x, i) => Math.abs({graph}._fullData[1].x[i] - x * (1 + k)) < 1e-5)"
    page.wait_for_function(moved, arg=2)
    slider = page.locator("#film .slider-rail-touch-rect").bounding_box()
    assert slider
    page.mouse.click(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
    page.wait_for_function(moved, arg=1, timeout=5000)
    assert page.locator("#film .slider-label").first.text_content() == "step 40"
    page.mouse.click(slider["x"] + slider["width"] - 8, slider["y"] + slider["height"] / 2)
    page.wait_for_function(moved, arg=2, timeout=5000)
    page.get_by_text("Play", exact=True).click()
    for k in (0, 1, 2):
        page.wait_for_function(moved, arg=k, timeout=5000)
    page.wait_for_timeout(700)
    assert watched.errors == []
    assert offline(watched)
    page.get_by_text("Play", exact=True).click()
    page.wait_for_function(moved, arg=0)
    page.get_by_text("Pause", exact=True).click()
    page.wait_for_timeout(1200)
    assert not page.evaluate(f"({moved})(2)"), "stands still"
    assert set(watched.errors) <= {"page: undefined"}, "plotly.js takes back the promise of what was interrupted"


def test_pointing_works_in_space(pages: Path, page_at: Callable[..., Watched]) -> None:
    watched = opened(page_at, pages / "film.html")
    page = watched.page
    if not page.evaluate("Boolean(document.createElement('canvas').getContext('webgl'))"):
        pytest.skip("this browser draws nothing in space")
    page.locator(".gl-container").last.scroll_into_view_if_needed()
    page.wait_for_function(f"({IN_SPACE})([0, 0])", timeout=20000)
    beside = page.locator(".thumbnails").last.locator(".beside .tile")
    for trace, point, row in ((0, 0, 0), (1, 5, 11), (0, 3, 5)):
        x, y = page.evaluate(IN_SPACE, [trace, point])
        page.mouse.move(x - 40, y)
        page.mouse.move(x, y, steps=4)
        beside.and_(page.locator(f'[data-row="{row}"]')).wait_for(timeout=10000)
        assert not page.locator(".hovertext").last.is_visible(), "said once"
        assert np.abs(mean_colour(beside) - plain(12)[row, :, 0, 0]).max() < 8
    assert watched.errors == []
    assert offline(watched)


def test_one_figure_offers_several_colourings() -> None:
    loss = {"colour_by": "loss", "values": np.linspace(0, 1, 12)}
    figures = {
        "modality": plots.projection(PLACES, PERSONS, MODALITY, title="Points"),
        "loss": plots.projection(PLACES, PERSONS, MODALITY, title="Points", **loss),
    }
    figure = plots.with_choice(figures)
    assert [trace.visible for trace in figure.data] == [True, True, False, False]
    assert not figure.layout.coloraxis.showscale
    (menu,) = figure.layout.updatemenus
    assert [entry.label for entry in menu.buttons] == ["colour by: modality", "colour by: loss"]
    seen, bar = menu.buttons[1].args
    assert seen == {"visible": [False, False, True, True]}
    assert bar == {"coloraxis.showscale": True}

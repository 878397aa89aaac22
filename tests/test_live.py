"""Pages without a kernel: whatever a control is set to, the figure is what the library computes for it."""

from __future__ import annotations

import base64
import functools
import json
import math
import re
import shutil
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import ROOT, Watched

from sa_lab import experiment
from sa_lab.analysis import descriptors
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig, variant
from sa_lab.course import atlas, exhibits, landing, site, surface, toy, worlds
from sa_lab.course.atlas import Grid
from sa_lab.course.lens import Lens
from sa_lab.course.widgets import RankingBrowser
from sa_lab.runs import Run

GRID = Grid((2, 3), (0, 20), (0.0, 50.0), (0.0, 0.7), (0.0, 1.0), (0, 20, 24, 28))
SURFACE = min((ROOT / "data" / "results").glob("surface-*.json"))
LAST = GRID.steps[-1]
STEPS = tuple(replace(step, begin=min(step.begin, 20), end=min(step.end, LAST)) for step in landing.STEPS)
DIALS = ("identities", "mask value", "SA weight", "similarity weight", "warm-up steps")
MOVED = "([part, before]) => document.querySelector(part).dataset.shown !== before"
WORLD = """() => {
  const world = document.querySelector(".world svg"), circle = world.querySelector(".rule");
  const [centre, radius] = ["cx", "r"].map((name) => Number(circle.getAttribute(name)));
  const numbers = (text) => text.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number);
  const place = (one) => numbers(one.getAttribute("transform")).map((at, k) => (
    (k ? centre - at : at - centre) / radius));
  const all = (kind) => [...world.querySelectorAll(kind)];
  return {
    samples: all(".sample").map(place), prototypes: all(".prototype").map(place),
    pulls: all(".pull").map((one) => [one.dataset.term, ...numbers(one.dataset.at).map((at) => at / radius)]),
  };
}"""
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d");
  const light = (colour) => { // a colour as it is drawn, in whatever notation
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
      .map((one) => (one <= 10 ? one / 3294 : ((one / 255 + 0.055) / 1.055) ** 2.4))
      .reduce((sum, one, k) => sum + one * [0.2126, 0.7152, 0.0722][k], 0.05);
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const texts = document.querySelectorAll("main h1, main h2, main p, main a, main label, svg .tick, svg .name");
  return [...texts].map((one) => {
    const text = light(getComputedStyle(one)[one.closest("svg") ? "fill" : "color"]);
    return Math.max(text, paper) / Math.min(text, paper);
  });
}"""


def loss_of(shown: dict[str, Any]) -> LossConfig:
    weights = {name: float(shown[name]) for name in ("sas_weight", "similarity_weight", "mask_value")}
    return LossConfig(**weights, warmup_steps=shown["warmup_steps"], asynchronous=shown["asynchronous"])


def computed(shown: dict[str, Any]) -> tuple[toy.Toy, toy.Scene]:
    """What the library makes of the dials, and where everything stands after so many steps."""
    world, loss = toy.Toy(toy.World(shown["num_identities"])), loss_of(shown)
    for _ in range(shown["step"]):
        world.step(loss)
    return world, world.scene(loss)


def unpacked(packed: dict[str, Any]) -> dict[str, np.ndarray]:
    raw, at, found = zlib.decompress(base64.b64decode(packed["bytes"])), 0, {}
    for name, kind in packed["arrays"].items():
        count = math.prod(kind["shape"])
        low, high = (np.frombuffer(raw, np.uint8, count, at + k * count).astype(np.int64) for k in (0, 1))
        code = low + 256 * high
        changes = np.where(code % 2, -(code + 1) // 2, code // 2).reshape(kind["shape"])
        found[name], at = changes.cumsum(-1) * kind["grain"], at + 2 * count
    assert at == len(raw)
    return found


# The atlas


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("count", [2, 5])
def test_worlds_side_by_side_are_worlds_alone(count: int, asynchronous: bool) -> None:
    grid = Grid((count,), (3,), (0.0, 2.0, 50.0), (0.0, 0.7), (0.0, 1.0), (0, 2, 3, 12))
    configs = grid.losses(3, asynchronous)
    found = worlds.trajectories(toy.World(count), configs, grid.steps)
    assert len(configs) == len({*configs}) == 3 * 2 + 2
    for i, loss in enumerate(configs):
        world = toy.Toy(toy.World(count))
        for k, number in enumerate(grid.steps):
            while len(world.rows) < number:
                world.step(loss)
            scene, terms = world.scene(loss), world.losses(loss)
            points = [[f(2 * np.pi * found["samples"][i, :, k]) for f in (np.cos, np.sin)]]
            np.testing.assert_allclose(3 * np.stack(points[0], 1), scene.samples, atol=1e-4)
            angle, length = 2 * np.pi * found["prototypes"][i, :, k], np.exp(found["lengths"][i, :, k])[:, None]
            np.testing.assert_allclose(
                length * np.stack([np.cos(angle), np.sin(angle)], 1), scene.prototypes, atol=1e-4
            )
            pulls = np.stack([scene.pulls[term] for term in worlds.TERMS])
            longest = np.linalg.norm(pulls, axis=2, keepdims=True).clip(worlds.LONGEST)
            np.testing.assert_allclose(found["pulls"][i, ..., k], pulls * worlds.LONGEST / longest, atol=1e-3)
            criterion, table = world.learner.criterion, world.learner.model
            features = table(world.batch.images, world.batch.spectra)
            own = criterion.prototype_loss(features.embeddings, world.batch.labels, world.batch.spectra)
            values = {**terms, "prototype": float(own.detach()), **world.overlap()}
            np.testing.assert_allclose(found["curves"][i, :, k], [values[c] for c in worlds.CURVES], atol=1e-4)


def test_packed_numbers_come_back_to_half_a_grain() -> None:
    rng = np.random.default_rng(0)
    arrays = {"a": rng.normal(size=(3, 4, 7)).cumsum(-1), "b": np.array([-5.0, 300.0, 0.0])}
    found = unpacked(atlas.packed(arrays, {"a": 0.01, "b": 1.0}))
    np.testing.assert_allclose(found["a"], arrays["a"], atol=0.00501)
    np.testing.assert_array_equal(found["b"], arrays["b"])
    with pytest.raises(ValueError, match=r"b changes by 300000 grains of 0\.001, expected 32767 at most"):
        atlas.packed({"b": arrays["b"][1:2]}, {"b": 0.001})


def test_what_was_computed_is_kept_and_a_grid_too_fine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    grid = Grid((2,), (0,), (50.0,), (0.7,), (1.0,), (0, 2))
    atlas.write(tmp_path / "one", grid, progress=False)
    monkeypatch.setattr(worlds, "trajectories", None)
    atlas.write(tmp_path / "two", grid, progress=False)
    for name in ("toy", *grid.files()):
        assert (tmp_path / "one" / f"{name}.js").read_bytes() == (tmp_path / "two" / f"{name}.js").read_bytes()
    monkeypatch.setattr(atlas, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"grid takes [\d,]+ bytes, expected at most 1,000"):
        atlas.write(tmp_path / "two", grid, progress=False)


def test_the_whole_grid_holds_all_presets_and_all_steps_of_the_idea() -> None:
    grid = Grid()
    assert landing.shows(grid)
    assert not landing.shows(replace(grid, num_identities=(2,)))
    for loss in toy.PRESETS.values():
        assert replace(loss, warmup_steps=20) in grid.losses(20, loss.asynchronous)


# In a browser


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    config = ExperimentConfig(
        data=DataConfig("synthetic", train_ids=10, test_ids=6, images_per_camera=1, height=32, width=16),
        model=ModelConfig(num_parts=2, weights="random"),
        loss=LossConfig(warmup_steps=3),
        train=TrainConfig(ids_per_batch=4, num_epochs=2, steps_per_epoch=4, device="cpu", augmentation="none"),
    )
    places = {name: tmp_path_factory.mktemp("runs") / name for name in ("softmax", "complete")}
    for name, place in places.items():
        experiment.run(variant(config, name), place, progress=False)
    return places


@pytest.fixture(scope="module")
def folder(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The site with a small grid, a surface and two tiny runs; maps by PCA."""
    home = tmp_path_factory.mktemp("home")
    (home / "results").mkdir()
    shutil.copy(SURFACE, home / "results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SA_LAB_HOME", str(home))
        patch.setattr(exhibits, "finished", lambda: {name: Run(place) for name, place in runs.items()})
        patch.setattr(landing, "STEPS", STEPS)
        made = surface.read(SURFACE).made
        patch.setattr(experiment, "images_digest", lambda _: made["images"])  # as if they had been measured today
        patch.setattr(exhibits, "LENS_MASKS", (0.0, 1.0, 5.0, 50.0))
        patch.setattr(descriptors, "picture", functools.partial(descriptors.picture, method="pca"))
        out = tmp_path_factory.mktemp("site")
        site.export(out, grid=GRID, progress=False)
        yield out


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(params=["file", "http"])
def address(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """Of the site, opened from its folder and from a plain server."""
    if request.param == "file":
        yield folder.as_uri()
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def opened(page_at: Callable[..., Watched]) -> Iterator[Callable[..., Watched]]:
    """Opens a page without motion; in the end nothing may have gone wrong, and nothing been asked from elsewhere."""
    pages: list[tuple[Watched, str]] = []

    def open_page(base: str, name: str, width: int = 1280, **media: str) -> Watched:
        watched = page_at(width)
        watched.page.set_default_timeout(120_000)
        watched.page.emulate_media(**{"reduced_motion": "reduce", **media})
        watched.page.goto(f"{base}/{name}")
        watched.page.wait_for_selector("[data-shown], [data-selected]", state="attached")
        pages.append((watched, base))
        return watched

    yield open_page
    for watched, base in pages:
        assert watched.errors == []
        assert [one for one in watched.requests if not one.startswith((base, "data:", "blob:"))] == []


def shown(page: Any, part: str = "[data-live]") -> dict[str, Any]:
    return json.loads(page.eval_on_selector(part, "one => one.dataset.shown"))


def after(page: Any, act: Callable[[], None], part: str = "[data-live]") -> dict[str, Any]:
    """What is shown once it is something else."""
    before = page.eval_on_selector(part, "one => one.dataset.shown")
    act()
    page.wait_for_function(MOVED, arg=[part, before])
    return shown(page, part)


def assert_drawn(
    page: Any, now: dict[str, Any], terms: tuple[str, ...] = worlds.TERMS, prototypes: bool = True
) -> None:
    """The marks are where the library has them."""
    world, scene = computed(now)
    radius, drawn = world.world.radius, page.evaluate(WORLD)
    np.testing.assert_allclose(radius * np.array(drawn["samples"]), scene.samples, atol=0.01)
    if prototypes:
        lengths = np.linalg.norm(scene.prototypes, axis=1, keepdims=True)
        expected = scene.prototypes * np.minimum(1, 2 * radius / lengths)  # at the rim where they are farther
        np.testing.assert_allclose(radius * np.array(drawn["prototypes"]), expected, atol=0.03)
    arrows: dict[str, list[list[float]]] = {term: [] for term in terms}
    for term, *numbers in drawn["pulls"]:
        arrows[term].append([radius * numbers[2], -radius * numbers[3]])
    for term in terms:
        pulls = 2.5 * scene.pulls[term]
        length = np.linalg.norm(pulls, axis=1, keepdims=True)
        long = length[:, 0] > 0.05 * radius
        if (abs(length - 0.05 * radius) > 0.03).all():
            expected = (pulls * np.minimum(1, radius / 2 / np.maximum(length, 1e-9)))[long]
            np.testing.assert_allclose(np.array(arrows[term]).reshape(-1, 2), expected, atol=0.05)


def test_every_dial_of_the_playground_shows_what_the_library_computes(
    address: str, opened: Callable[..., Watched]
) -> None:
    page = opened(address, "playground.html").page
    assert shown(page) == {
        "num_identities": 3, "mask_value": 50, "sas_weight": 0.7, "similarity_weight": 1, "warmup_steps": 20,
        "asynchronous": True, "step": LAST,
    }  # fmt: skip
    step = page.get_by_role("slider", name="step", exact=True)
    step.focus()
    now = after(page, lambda: page.keyboard.press("ArrowLeft"))
    assert now["step"] == 24
    assert_drawn(page, now)
    for label in DIALS:
        page.get_by_label(label, exact=True).focus()
        moved = after(page, lambda: page.keyboard.press("ArrowLeft"))
        assert sum(moved[name] != now[name] for name in now) == 1, label
        assert_drawn(page, moved)
        assert after(page, lambda: page.keyboard.press("ArrowRight")) == now
    now = after(page, lambda: page.get_by_label("take turns").uncheck())
    assert now["asynchronous"] is False
    assert_drawn(page, now)
    now = after(page, lambda: page.get_by_label("preset").select_option("no mask"))
    assert (now["mask_value"], now["asynchronous"]) == (0, True)
    assert_drawn(page, now)
    world, _ = computed(now)
    title = page.locator(".live p.title").inner_text()
    told = [float(number) for number in re.findall(r"(?:lie|stands at) ([\d.]+)", title)]
    values = world.overlap()["stranger_ratio"], world.losses(loss_of(now))["sa_softmax"]
    np.testing.assert_allclose(told, values, atol=0.01)


def test_curves_are_those_of_the_library(folder: Path, opened: Callable[..., Watched]) -> None:
    page = opened(folder.as_uri(), "playground.html").page
    now = after(page, lambda: page.get_by_label("preset").select_option("no absolute term"))
    curves = page.evaluate(
        "async () => { const file = await live.numbers('toy-3-1-20');"
        "  const cell = file.cells.findIndex((one) => one.join() === '50,0.7,0');"
        "  return [0, 1, 2, 3, 4, 5].map((k) => [0, 1, 2, 3].map((frame) => file.curves(cell, k, frame))); }"
    )
    world, loss = toy.Toy(toy.World(3)), loss_of(now)
    for k, number in enumerate(GRID.steps):
        while len(world.rows) < number:
            world.step(loss)
        values = {**world.losses(loss), **world.overlap()}
        for name in (*worlds.TERMS, "stranger_ratio", "prototype_alignment"):
            assert curves[worlds.CURVES.index(name)][k] == pytest.approx(values[name], abs=atlas.GRAIN["curves"])
    names = page.locator(".charts .name").all_text_contents()
    assert {"identity", "SA-Softmax", "absolute similarity", "prototype", "log 2", "modality gap"} <= {*names}


def test_a_number_between_two_cells_says_which_one_is_shown_and_play_goes_to_the_end(
    folder: Path, opened: Callable[..., Watched]
) -> None:
    page = opened(folder.as_uri(), "playground.html").page
    page.get_by_label("preset").select_option("no mask")
    box = page.get_by_label("mask value, any number")
    box.fill("7")
    now = after(page, lambda: box.press("Tab"))
    assert now["mask_value"] == 50
    assert "mask value 50, the nearest to 7" in page.locator(".says").inner_text()
    share = page.get_by_label("SA weight, any number")
    share.fill("0")
    after(page, lambda: share.press("Tab"))
    assert "the mask moves nothing" in page.locator(".says").inner_text()
    page.get_by_role("slider", name="step", exact=True).fill("0")
    assert shown(page)["step"] == 0
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("JSON.parse(document.querySelector('[data-live]').dataset.shown).step === 28")
    page.get_by_role("button", name="Play").wait_for()  # it stands still again


def test_the_idea_can_be_stepped_through(address: str, folder: Path, opened: Callable[..., Watched]) -> None:
    watched = opened(address, "index.html")
    page = watched.page
    for number, step in enumerate(STEPS):
        if number:
            page.keyboard.press("ArrowRight") if number % 2 else page.get_by_role("button", name="Next").click()
        page.wait_for_function(
            "(end) => JSON.parse(document.querySelector('.story').dataset.shown).step === end", arg=step.end
        )
        page.wait_for_selector(f".story li:nth-child({number + 1}):not([hidden])")
        page.wait_for_timeout(100)
        now = shown(page, ".story")
        assert loss_of(now) == replace(step.loss, warmup_steps=landing.WARMUP)
        assert page.locator(".story h2:visible").all_inner_texts() == [step.title]
        if address.startswith("file") or number == 3:
            assert_drawn(page, now, step.pulls, step.prototypes)
    assert page.get_by_role("button", name="Next").is_disabled()
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector(".story li:nth-child(6):not([hidden])")
    if address.startswith("http"):
        loaded = [folder / one.removeprefix(address).strip("/") for one in dict.fromkeys(watched.requests)]
        sizes = {one.name: one.stat().st_size for one in loaded if one.is_file()}
        pages = sum(size for name, size in sizes.items() if not name.startswith("toy-"))
        files = sum(name.startswith("toy-") for name in sizes)
        assert files == 2
        assert pages + files * atlas.MOST_BYTES / len(Grid().files()) < 1_500_000


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 800, 1280, 1920])
def test_pages_fit_and_can_be_read(folder: Path, opened: Callable[..., Watched], width: int, theme: str) -> None:
    for name in ("index.html", "playground.html"):
        page = opened(folder.as_uri(), name, width, color_scheme=theme).page
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.eval_on_selector_all(
            "main *", "all => all.filter((one) => one.checkVisibility() && one.textContent.trim())"
            ".map((one) => parseFloat(getComputedStyle(one).fontSize))",
        )  # fmt: skip
        assert min(sizes) >= 12
        contrast = page.evaluate(CONTRAST)
        assert min(contrast) >= 4.5
        unnamed = page.eval_on_selector_all(
            "main :is(input, select, button)",
            "all => all.filter((one) => !(one.ariaLabel || (one.labels || []).length || one.textContent.trim()))",
        )
        assert unnamed == []


def test_the_lens_reads_what_the_library_reads(
    folder: Path, runs: dict[str, Path], opened: Callable[..., Watched]
) -> None:
    page, part = opened(folder.as_uri(), "03_training.html").page, "[data-live=lens]"
    lens = Lens.of_run(runs["complete"], most=exhibits.LENS_IMAGES)
    for label in ("image", "mask value", "SA weight", "similarity weight"):
        page.get_by_label(label, exact=True).focus()
        key = "ArrowRight" if label == "image" and shown(page, part)["image"] == 0 else "ArrowLeft"
        now = after(page, lambda key=key: page.keyboard.press(key), part)
        _, share, weight = now["weights"]
        reading = lens.read(now["image"], LossConfig(float(share), float(weight), float(now["mask"])))
        rows = page.locator(f"{part} .bars tr").all_inner_texts()[1:]
        numbers = np.array([[float(cell) for cell in row.split("\t")[1:]] for row in rows])
        np.testing.assert_allclose(numbers[:, 0], reading.logits, atol=0.03)
        np.testing.assert_allclose(numbers[:, 1], reading.probabilities, atol=0.002)
        told = re.search(r"L_sa ([\d.]+), L_as ([\d.]+), L_id ([\d.]+)", page.locator(f"{part} p.title").inner_text())
        assert told
        expected = [reading.losses[name] for name in ("sa_softmax", "absolute", "identity")]
        np.testing.assert_allclose([float(one) for one in told.groups()], expected, atol=0.01)
        for term, value in reading.gradients.items():
            drawn = page.get_attribute(f"{part} .mine[data-term={term}]", "data-value")
            assert float(drawn) == pytest.approx(value, abs=1e-3)


def test_a_cell_of_the_surface_shows_its_map_and_its_rankings(folder: Path, opened: Callable[..., Watched]) -> None:
    page, part = opened(folder.as_uri(), "07_side_by_side.html").page, "[data-live=surface]"
    held = surface.read(SURFACE)
    for mask, weight in ((5.0, 1.0), (0.0, 0.3)):
        button = page.get_by_role("button", name=f"mask {mask:g}, similarity weight {weight:g}: ")
        after(page, button.click, part)
        assert button.get_attribute("aria-pressed") == "true"
        point = next(p for p in held.points() if p.dials == {surface.X: mask, surface.Y: weight})
        assert f"{point.mean:.1f}".removesuffix(".0") in page.locator(f"{part} p.title").inner_text()
        places = page.eval_on_selector_all(
            f"{part} .sample", "all => all.map((one) => one.getAttribute('transform').match(/-?[\\d.]+/g).map(Number))"
        )
        drawn, kept = np.array(places), np.array(held.cells[surface.key(mask, weight)]["map"]["samples"])
        scale = np.ptp(drawn[:, 0]) / np.ptp(kept[:, 0])
        np.testing.assert_allclose(drawn - drawn[0], (kept - kept[0]) * [scale, -scale], atol=1e-3)
    page.get_by_label("query", exact=True).focus()
    after(page, lambda: page.keyboard.press("ArrowRight"), part)
    people = held.cells[surface.key(0.0, 0.3)]["rankings"][1]["person_ids"]
    expected = ["query", *("✓ right" if one == people[0] else "✗ wrong" for one in people[1:])]
    found = page.locator(f"{part} .ranking li").all_inner_texts()
    assert [one.split("\n") for one in found] == [[a, f"person {b}"] for a, b in zip(expected, people, strict=True)]


def test_rankings_are_those_of_the_widget(folder: Path, runs: dict[str, Path], opened: Callable[..., Watched]) -> None:
    page, part = opened(folder.as_uri(), "05_benchmark.html").page, "[data-live=rankings]"
    widget = RankingBrowser(runs)
    choices = {"show": widget.outcome, "query camera": widget.query_camera, "gallery camera": widget.gallery_camera,
               "protocol": widget.protocol}  # fmt: skip
    for label, control in choices.items():
        for option in control.options:
            control.value = option
            page.locator(part).get_by_label(label, exact=True).select_option(option)
            assert shown(page, part)["queries"] == len(widget.queries), (label, option)
            title = page.locator(f"{part} p.title").inner_text()
            assert title.startswith(widget.figure.layout.title.text.split(":")[0])
            texts = [one.text for one in widget.figure.layout.annotations if "id " in one.text]
            people = page.locator(f"{part} .ranking li").all_inner_texts()
            if len(widget.queries):
                assert [re.findall(r"id (\d+)", one) for one in texts] == [
                    re.findall(r"person (\d+)", one) for one in people
                ]
                assert ["✓" in one for one in texts] == ["✓" in one for one in people]
            else:
                assert people == []
        control.value = control.options[0]
        page.locator(part).get_by_label(label, exact=True).select_option(control.options[0])


def test_the_map_shows_the_image_of_a_mark_and_lists_a_selection(folder: Path, opened: Callable[..., Watched]) -> None:
    page, part = opened(folder.as_uri(), "04_prototype_overlap.html").page, "[data-live=projection]"
    data = json.loads((folder / "live" / "projection.js").read_text()[len('live.add("projection", ') :].rstrip(");\n"))
    person = data["person_ids"][-1]
    page.get_by_label("select person").select_option(str(person))
    rows = json.loads(page.get_attribute(part, "data-selected"))
    assert rows == [row for row, one in enumerate(data["person_ids"]) if one == person]
    tiles = page.eval_on_selector_all(f"{part} .tiles .tile", "all => all.map((one) => Number(one.dataset.row))")
    assert tiles == rows[:60]
    page.get_by_label("colour by").select_option("loss, nats")
    page.locator(f"{part} .map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute(part, "data-pointed") == "1"
    assert (
        f"loss, nats {data['colourings']['loss, nats']['values'][1]:g}" in page.locator(f"{part} .beside").inner_text()
    )
    box = page.locator(f"{part} .map svg").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
    page.mouse.up()
    assert json.loads(page.get_attribute(part, "data-selected")) == list(range(len(data["samples"])))


def test_a_surface_of_other_images_has_no_thumbnails() -> None:
    held = surface.read(SURFACE)
    other = exhibits.of_surface(replace(held, made={"images": "others"}), DataConfig())
    assert other["sheet"] is None
    assert other["cells"].keys() == held.cells.keys()


def test_without_runs_a_page_says_so_and_the_site_is_small(folder: Path, tmp_path: Path) -> None:
    shown = exhibits.write(tmp_path / "live", Grid((2,), (0,), (50.0,), (0.7,), (1.0,), (0,)), False, {})
    assert "<code>make run</code>" in exhibits.of_cell("glass = widgets.LossLens(runs['complete'])", shown)
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 40_000_000 - atlas.MOST_BYTES

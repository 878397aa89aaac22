"""Widgets without a page: a dial changes the figure as the mathematics says, and runs can be paused and repeated."""

from __future__ import annotations

import io
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import plotly.graph_objects as go
import pytest
import torch
from PIL import Image

from sa_lab import cli, experiment, losses, plots
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig, variant
from sa_lab.course import widgets
from sa_lab.course.frozen import FrozenFeatures
from sa_lab.course.lens import Lens
from sa_lab.course.toy import PRESETS, World
from sa_lab.course.widgets import (
    FeatureTraining,
    LiveTraining,
    LossLens,
    PictureSearch,
    Playground,
    ProjectionBrowser,
    RankingBrowser,
    live_training,
)  # fmt: skip
from sa_lab.course.widgets.controls import Dial, Worker
from sa_lab.course.widgets.live_training import replay
from sa_lab.data import prepare
from sa_lab.disk import read_json, write_json
from sa_lab.runs import Run
from sa_lab.schema import Embeddings
from sa_lab.training import loop

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    return ExperimentConfig(
        data=DataConfig("synthetic", train_ids=10, test_ids=6, images_per_camera=1, height=32, width=16),
        model=ModelConfig(num_parts=2, weights="random"),
        loss=LossConfig(warmup_steps=3),
        train=TrainConfig(ids_per_batch=4, num_epochs=2, steps_per_epoch=4, device="cpu", augmentation="none"),
    )


@pytest.fixture(scope="module")
def runs(config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    made = {name: folder / name for name in ("softmax", "complete")}
    for name, place in made.items():
        experiment.run(variant(config, name), place, progress=False)
    return made


def shown(figure: go.Figure, name: str) -> np.ndarray:
    """The values of a curve."""
    (trace,) = [trace for trace in figure.data if trace.name == name]
    return np.array(trace.y, dtype=float)


def waited(ready: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether it came true."""
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.02)
    return ready()


def every_control(widget) -> list:
    found, waiting = [], [widget]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += getattr(one, "children", ())
    return found


def pressable(live: LiveTraining) -> set[str]:
    return {one.description for one in live.buttons.values() if not one.disabled}


def browser_of(dimensions: int, count: int = 8, **colourings: np.ndarray) -> ProjectionBrowser:
    """A projection browser over images of one colour each, rows of two people and three cameras in turn."""
    rows = np.arange(count)
    found = Embeddings(
        None, np.ones((count, 1, 2)), rows % 2, rows % 3, rows // 2 % 2, tuple(f"<{row}>.png" for row in rows),
        prototypes=np.ones((1, 4, 2)), prototype_ids=np.arange(2),
    )  # fmt: skip
    images = np.broadcast_to((rows * 255 // count).astype(np.uint8)[:, None, None, None], (count, 3, 16, 8)).copy()
    places = np.random.default_rng(0).normal(size=(count + 4, dimensions))
    return ProjectionBrowser(found, places[:count], images, places[count:], colourings)


def test_a_dial_is_a_slider_and_a_box_with_one_value() -> None:
    dial = Dial("weight", 0.5, 0.0, 2.0, 0.1, "what it does")
    dial.slider.value = 1.5
    assert dial.value == dial.box.value == 1.5
    dial.box.value = 99.0
    assert dial.value == dial.slider.value == 2.0
    whole = Dial("count", 1, 0, 5, 1, "whole")
    whole.limit(3)
    assert whole.value == 0
    assert whole.slider.max == whole.box.max == 3
    whole.box.value = 9
    assert whole.value == 3


def test_every_control_has_a_label_and_a_tooltip(runs: dict[str, Path], config: ExperimentConfig) -> None:
    made = [Playground(), LossLens(runs["complete"]), LiveTraining(config), RankingBrowser(runs), browser_of(2)]
    made += [PictureSearch(runs), FeatureTraining(Run(runs["softmax"]))]
    made.append(widgets.Augmentations(prepare(config.data, progress=False)))
    controls = [one for widget in made for one in every_control(widget) if hasattr(one, "disabled")]
    kinds = {type(one).__name__ for one in controls}
    assert {"FloatSlider", "IntSlider", "BoundedFloatText", "BoundedIntText", "Dropdown", "Checkbox", "Button"} <= kinds
    assert all(one.tooltip for one in controls)
    assert all(one.description for one in controls if "Slider" not in type(one).__name__), "a slider's box has it"


def test_playground_mask_decides_between_a_floor_at_log_2_and_none() -> None:
    playground = Playground()
    playground.dials["warmup_steps"].value = 0
    playground.coincide()
    playground.dials["mask_value"].value = 0.0
    assert shown(playground.figure, "SA-Softmax loss")[-1] >= math.log(2)
    playground.dials["mask_value"].value = 50.0
    assert shown(playground.figure, "SA-Softmax loss")[-1] < 0.1


@pytest.mark.parametrize("dial", ["mask_value", "sas_weight", "similarity_weight"])
def test_a_dial_of_a_new_playground_moves_its_figure(dial: str) -> None:
    playground = Playground(World(4))
    before = json.loads(playground.figure.drawn)["data"]
    playground.dials[dial].value = 0.0
    assert json.loads(playground.figure.drawn)["data"] != before


def test_a_preset_puts_all_dials_of_the_playground_back() -> None:
    playground = Playground()
    dials = [*playground.dials.values(), *playground.rates.values()]
    before = [dial.value for dial in dials]
    for dial in dials:
        dial.value = dial.value / 2 + 5
    playground.asynchronous.value = False
    playground.preset.value = "complete"
    assert [dial.value for dial in dials] == before
    assert playground.asynchronous.value


def test_playground_dials_change_the_pulls_at_once_and_in_proportion() -> None:
    playground = Playground()
    playground.dials["warmup_steps"].value = 0
    playground.dials["sas_weight"].value = 1.0
    for _ in range(10):
        playground.toy.step(playground.loss)
    whole = playground.toy.scene(playground.loss).pulls
    playground.dials["sas_weight"].value = 0.5
    half = playground.toy.scene(playground.loss).pulls
    np.testing.assert_allclose(half["sa_softmax"], 0.5 * whole["sa_softmax"], atol=1e-6)
    assert not whole["identity"].any()
    drawn = shown(playground.figure, "SA-Softmax: pull and loss").reshape(-1, 6)  # a shaft, a head, a gap
    long = 2.5 * np.linalg.norm(half["sa_softmax"], axis=1) > 0.08 * 3
    assert long.any()
    np.testing.assert_allclose((drawn[:, 1] - drawn[:, 0])[long], 2.5 * half["sa_softmax"][long, 1], atol=1e-4)


def test_playground_steps_resets_and_takes_presets() -> None:
    playground = Playground(World(3))
    for _ in range(3):
        playground.step()
    assert len(playground.toy.rows) == 3
    assert len(shown(playground.figure, "identity loss")) == 4, "and what it would be now"
    for name, loss in PRESETS.items():
        playground.preset.value = name
        assert replace(playground.loss, warmup_steps=loss.warmup_steps) == loss
    playground.dials["mask_value"].value = 7.0
    assert playground.preset.value == "changed by hand"
    playground.identities.value = 5
    assert playground.toy.world.num_identities == 5
    assert not playground.toy.rows
    playground.shape.value = 3
    assert playground.figure.data[0].type == "scatter3d"
    playground.rates["network_lr"].value = 0.1
    assert playground.toy.learner.feature_optimizer.param_groups[0]["lr"] == 0.1 * len(playground.toy.batch.labels)


def test_playground_runs_in_the_background_until_paused_and_takes_dials_meanwhile() -> None:
    playground = Playground()
    playground.run()
    playground.run()  # once more changes nothing
    assert waited(lambda: len(playground.toy.rows) >= 3)
    playground.dials["mask_value"].value = 7.0
    reached = len(playground.toy.rows)
    assert waited(lambda: len(playground.toy.rows) >= reached + 3)
    playground.pause()
    assert not playground.worker.running
    assert playground.figure.still.layout.title.text == playground.figure.layout.title.text
    reached = len(playground.toy.rows)
    assert playground.toy.rows[-1]["mask_value"] == 7
    time.sleep(0.2)
    assert len(playground.toy.rows) == reached
    playground.step()
    assert len(playground.toy.rows) == reached + 1


def test_playground_tells_a_step_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    playground = Playground()
    monkeypatch.setattr(playground.toy, "step", lambda loss: (_ for _ in ()).throw(ValueError("too fast")))
    playground.step()
    assert "too fast" in playground.message.value
    playground.message.value = ""
    playground.run()
    assert waited(lambda: "too fast" in playground.message.value)
    playground.pause()
    playground.reset()
    assert playground.message.value == ""


def test_a_page_gets_the_newest_figure_whole_and_keeps_its_zoom() -> None:
    playground = Playground(World(dimensions=3))
    first = json.loads(playground.figure.drawn)
    playground.step()
    second = json.loads(playground.figure.drawn)
    assert second["layout"]["title"]["text"].startswith("Step 1")
    assert first["layout"]["uirevision"] == second["layout"]["uirevision"] == "same", "what a reader turned stays"
    assert "width" not in second["layout"], "as wide as its place"
    assert len(second["data"]) == len(playground.figure.data) == len(first["data"])
    assert playground.figure.still.layout.width == 860


def test_playground_may_be_reset_while_it_runs() -> None:
    playground = Playground()
    playground.run()
    assert waited(lambda: len(playground.toy.rows) >= 2)
    playground.identities.value = 3
    assert playground.toy.world.num_identities == 3
    assert waited(lambda: len(playground.toy.rows) >= 2), "it goes on with other people"
    playground.reset()
    assert not playground.worker.running
    assert (len(playground.toy.rows), playground.toy.world.num_identities) == (0, 3)


def test_a_worker_stops_when_there_is_no_more_to_do() -> None:
    left = [3]

    def work() -> bool:
        left[0] -= 1
        return left[0] > 0

    worker = Worker(work, lambda error: None)
    worker.start()
    assert waited(lambda: not worker.running)
    assert left == [0]


def test_lens_reads_the_library_losses_and_their_gradients(runs: dict[str, Path]) -> None:
    lens = Lens.of_run(runs["complete"], most=40)
    loss = LossConfig(sas_weight=0.4, similarity_weight=2.0, mask_value=3.0)
    everybody = lens.gradients(loss)
    for sample in (0, len(lens) - 1):
        one = slice(sample, sample + 1)
        f, label, modality = lens.embeddings[one].clone().requires_grad_(), lens.labels[one], lens.modality[one]
        value = losses.sa_softmax_loss(losses.prototype_logits(f, lens.prototypes), label, modality, 3.0)
        value.backward()
        reading = lens.read(sample, loss)
        assert reading.losses["sa_softmax"] == pytest.approx(value.item(), rel=1e-5)
        assert reading.gradients["sa_softmax"] == pytest.approx(0.4 * f.grad.norm().item(), rel=1e-4)
        assert everybody["sa_softmax"][sample] == pytest.approx(reading.gradients["sa_softmax"], rel=1e-4, abs=1e-7)
        absolute = losses.absolute_similarity_loss(f, lens.prototypes, label, modality)
        assert reading.losses["absolute"] == pytest.approx(absolute.item(), rel=1e-5)
        count = len(lens.person_ids)
        assert reading.rows[0] == int(label) + int(modality) * count
        assert reading.rows[1] == int(label) + (1 - int(modality)) * count
        assert len(set(reading.rows.tolist())) == len(reading.rows)
    with pytest.raises(ValueError, match=r"sample is 999, expected 0\.\."):
        lens.read(999, loss)


def test_loss_lens_mask_takes_the_own_prototype_out_of_the_competition(runs: dict[str, Path]) -> None:
    lens = LossLens(runs["complete"])
    lens.dials["mask_value"].value = 60.0

    def probability() -> float:
        (bars,) = [trace for trace in lens.figure.data if trace.type == "bar" and trace.xaxis == "x3"]
        return float(bars.x[0])

    assert probability() < 1e-6
    lens.dials["mask_value"].value = 0.0
    assert probability() > 1e-3
    title = lens.figure.layout.title.text
    lens.sample.value = 5
    assert lens.figure.layout.title.text != title
    heavy = shown(lens.figure, "SA-Softmax, this sample")
    assert len(heavy) == 2
    lens.dials["sas_weight"].value = 0.0
    (line,) = [trace for trace in lens.figure.data if trace.name == "SA-Softmax, this sample"]
    assert list(line.x) == [0, 0], "no weight, no gradient"


def test_live_training_pauses_follows_the_dials_and_repeats_from_its_log(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    live = LiveTraining(config, tmp_path / "live", measure_every=4)
    assert pressable(live) == {"Start"}
    live.start()
    assert waited(lambda: len(live.rows) >= 2)
    assert pressable(live) == {"Pause", "Stop"}
    live.pause()
    assert pressable(live) == {"Go on", "Stop"}
    assert re.match(r"Step \d of 8", live.figure.layout.title.text)
    reached = len(live.rows)
    assert not live.worker.running
    live.dials["mask_value"].value = 5.0
    live.dials["similarity_weight"].value = 2.0
    live.advance(1)
    live.start()
    assert waited(lambda: not live.worker.running)
    assert len(live.rows) == 8
    assert pressable(live) == {"Start anew"}
    assert [row["mask_value"] for row in live.rows] == [50.0] * reached + [5.0] * (8 - reached)
    assert {"rank_1", "stranger_ratio"} <= set(live.rows[3]) & set(live.rows[7])
    assert len(shown(live.figure, "Rank-1")) == 2
    logged = Run(tmp_path / "live").metrics()
    rows = [dict(zip(logged, values, strict=True)) for values in zip(*logged.values(), strict=True)]
    again = loop.start(config, prepare(config.data, progress=False))
    for first, second in zip(loop.iterate(again, replay(rows)), live.rows, strict=True):
        assert first["total"] == second["total"]
        assert first["prototype"] == second["prototype"]


def test_live_training_stops_begins_anew_and_tells_what_failed(config: ExperimentConfig, tmp_path: Path) -> None:
    live = LiveTraining(config, tmp_path / "live")
    live.dials["mask_value"].value = 3.0
    live.usual()
    assert live.loss == replace(config.loss, warmup_steps=live.loss.warmup_steps)
    live.start()
    assert waited(lambda: len(live.rows) >= 1)
    live.stop()
    assert pressable(live) == {"Start anew"}
    first = live.rows[0]["total"]
    log = (tmp_path / "live" / "metrics.csv").read_text()
    live.start()
    assert waited(lambda: not live.worker.running)
    assert live.rows[0]["total"] == first
    assert len(live.rows) == 8
    assert live.folder == tmp_path / "live-2"
    assert (tmp_path / "live" / "metrics.csv").read_text() == log, "an earlier log stays"
    broken = replace(config, train=replace(config.train, ids_per_batch=99))
    live = LiveTraining(broken, tmp_path / "broken")
    live.start()
    assert waited(lambda: "ids_per_batch is 99" in live.message.value)
    assert not (tmp_path / "broken").exists()


def test_live_training_keeps_what_has_no_dial_and_stops_while_a_cell_advances_it(
    config: ExperimentConfig, tmp_path: Path
) -> None:
    together = replace(config, loss=replace(config.loss, asynchronous=False))
    live = LiveTraining(together, tmp_path / "live")
    cell = threading.Thread(target=live.advance, args=(8,))
    cell.start()
    assert waited(lambda: len(live.rows) >= 4)
    live.stop()
    cell.join()
    reached = len(live.rows)
    assert 4 <= reached < 8
    assert [row["asynchronous"] for row in live.rows] == [1] * 3 + [0] * (reached - 3)
    again = loop.iterate(loop.start(config, prepare(config.data, progress=False)), replay(live.rows))
    for row in live.rows:
        assert next(again)["prototype"] == row["prototype"]
    with pytest.raises(ValueError, match=rf"step is {reached}, expected 0..{reached - 1}: the log ends there"):
        next(again)


def test_a_head_learns_on_a_network_that_stands_still_and_the_dials_say_by_what(runs: dict[str, Path]) -> None:
    run = Run(runs["softmax"])
    before = {file: file.read_bytes() for file in run.folder.rglob("*.pt")}
    found = {}
    for mask in (50.0, 0.0):
        widget = FeatureTraining(run, num_steps=40, measure_every=8)
        widget.dials["mask_value"].value = mask
        first = np.array(widget.map.data[0].x)
        widget.advance(40)
        assert len(widget.rows) == 40
        assert {"rank_1", "mean_ap", "stranger_ratio", "prototype_alignment"} <= set(widget.rows[7])
        assert widget.map.layout.title.text.startswith("Step 40:")
        assert (np.array(widget.map.data[0].x) != first).any()
        found[mask] = widget.rows[-1]
    assert found[0.0]["sa_softmax"] > found[50.0]["sa_softmax"] + 0.2, "without the mask it cannot fall as far"
    widget.stop()
    widget.advance(8)
    pale = [trace for trace in widget.figure.data if trace.opacity]
    assert len(pale[0].x) == 8, "the training before lies behind the present one"
    assert {"y", "y2", "y3", "y4"} == {one.yaxis or "y" for one in pale}, "in each panel"
    assert before == {file: file.read_bytes() for file in run.folder.rglob("*.pt")}


@pytest.mark.parametrize(("seconds", "pictures"), [(0.0, 2), (0.5, 5), (1.0, 8)])
def test_drawing_takes_a_quarter_of_the_time_at_most(
    seconds: float, pictures: int, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes so many seconds, a picture one; of 39 steps every fifth may be drawn, and the last one always is."""
    now, drawn = 1.0, 0

    def draw(_: FeatureTraining) -> None:
        nonlocal now, drawn
        now, drawn = now + 1, drawn + 1

    def step(*_: object) -> dict[str, float]:
        nonlocal now
        now += seconds
        return {"total": 0.0}

    widget = FeatureTraining(Run(runs["softmax"]), measure_every=100)
    monkeypatch.setattr(live_training, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(FeatureTraining, "_draw", draw)
    monkeypatch.setattr(FrozenFeatures, "step", step)
    widget.advance(39)
    assert drawn == pictures


def test_a_loss_of_ones_own_moves_the_playground() -> None:
    def closeness(embeddings, prototypes, labels, modality):
        cross = losses.cross_prototype(labels, modality, prototypes.shape[1] // 2)
        return (1 - torch.cosine_similarity(embeddings, prototypes[:, cross].transpose(0, 1), dim=2)).sum(1).mean()

    playground = Playground(World(3), own_loss=closeness)
    assert playground.preset.value == "your own"
    assert playground.dials["mask_value"].slider.disabled
    assert playground.figure.layout.title.text.startswith("Step 0: your loss")
    first = shown(playground.figure, "your own loss")[-1]
    for _ in range(40):
        playground.step()
    assert shown(playground.figure, "your own loss")[-1] < 0.9 * first
    playground.preset.value = "complete"
    assert not playground.dials["mask_value"].slider.disabled
    playground.reset()
    playground.preset.value = "your own"
    playground.step()
    assert "own" in playground.toy.rows[-1]
    playground.preset.value = "changed by hand"
    assert not playground.dials["mask_value"].slider.disabled
    assert "your loss" not in playground.figure.layout.title.text


def test_augmentations_are_drawn_anew_and_leave_the_original(config: ExperimentConfig) -> None:
    widget = widgets.Augmentations(prepare(config.data, progress=False))
    sources = lambda: [one.source for one in widget.figure.layout.images]  # noqa: E731
    first = sources()
    assert len(first) == 16
    widget.again()
    second = sources()
    assert first[0] == second[0]
    assert first[8] == second[8]
    assert first[1:8] != second[1:8]
    widget.recipe.value = "none"
    plain = sources()
    assert set(plain[:8]) == {plain[0]}
    widget.person.value = 2
    assert sources()[0] != plain[0]


def test_ranking_browser_shows_what_the_search_found(runs: dict[str, Path]) -> None:
    browser = RankingBrowser(runs, most=5)
    everything = len(browser.queries)
    browser.query.value = 2
    assert browser.figure.layout.title.text.startswith(f"Query 2 of {everything}")
    by_outcome = {}
    for outcome in browser.outcome.options:
        browser.outcome.value = outcome
        by_outcome[outcome] = set(browser.queries.tolist())
    assert len(by_outcome["every query"]) == everything
    assert (
        by_outcome["first answer is somebody else"] | by_outcome["first answer is right"] == by_outcome["every query"]
    )
    assert not by_outcome["first answer is somebody else"] & by_outcome["first answer is right"]
    assert by_outcome["right in softmax alone"] <= by_outcome["first answer is right"]
    assert by_outcome["right in complete alone"] <= by_outcome["first answer is somebody else"]
    browser.outcome.value = "first answer is right"
    captions = [note.text for note in browser.figure.layout.annotations]
    assert captions[1].startswith("✓")
    assert len(browser.figure.layout.images) == 12
    browser.outcome.value = "every query"
    browser.query_camera.value = "3"
    assert 0 < len(browser.queries) < everything
    browser.gallery_camera.value = "4"
    assert all("cam 4" in note.text for note in browser.figure.layout.annotations[1:6] if note.text)
    browser.gallery_camera.value, browser.outcome.value = "2", "first answer is right"  # cameras 2 and 3 share a room
    assert browser.figure.layout.title.text == "No query fits these filters"


def test_cameras_are_those_that_ask_and_those_that_are_searched(runs: dict[str, Path]) -> None:
    browser = RankingBrowser(runs)
    assert (browser.query_camera.options, browser.gallery_camera.options) == (
        ("every camera", "3", "6"), ("every camera", "1", "2", "4", "5"),
    )  # fmt: skip
    browser.query_camera.value, browser.gallery_camera.value = "6", "4"
    browser.protocol.value = "sysu-indoor"
    assert browser.gallery_camera.options == ("every camera", "1", "2")
    assert (browser.query_camera.value, browser.gallery_camera.value) == ("6", "every camera")
    browser.gallery_camera.value, browser.protocol.value = "2", "sysu-all"
    assert browser.gallery_camera.value == "2"


def test_the_right_firsts_are_those_of_the_report(runs: dict[str, Path]) -> None:
    browser = RankingBrowser({"complete": runs["complete"]})
    queries = Run(runs["complete"]).report.queries
    browser.outcome.value = "first answer is right"
    assert len(browser.queries) == (queries["first_rank"][queries["trial"] == 0] == 1).sum()


def test_ranking_browser_refuses_what_cannot_be_compared(
    runs: dict[str, Path], config: ExperimentConfig, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="runs has 0 entries, expected one or two"):
        RankingBrowser({})
    other = replace(config, data=replace(config.data, test_ids=4))
    experiment.run(other, tmp_path / "other", progress=False)
    with pytest.raises(ValueError, match="different images"):
        RankingBrowser({"a": runs["softmax"], "b": tmp_path / "other"})


def test_a_picture_of_ones_own_asks_and_test_images_answer(runs: dict[str, Path], tmp_path: Path) -> None:
    search = PictureSearch(runs, most=4)
    tested = Run(runs["softmax"]).embeddings
    asked = np.flatnonzero(tested.modality == 1)
    search.query.value = 3
    assert search.found.query.embeddings.paths == (tested.paths[asked[2]],)
    expected = search.found.best
    pixels = search.found.query.image(0)
    buffer = io.BytesIO()
    Image.fromarray(pixels[0]).save(buffer, "PNG")
    file = {"type": "image/png", "size": 1, "last_modified": datetime.now(tz=UTC)}
    search.upload.value = ({**file, "name": "<me>.png", "content": buffer.getvalue()},)
    assert search.found.query.embeddings.paths == ("<me>.png",)
    np.testing.assert_array_equal(search.found.best, expected, "the same picture, as a file")
    assert "Found for your picture" in search.shown.value
    assert "✗" not in search.shown.value, "nobody knows who is right"
    search.place.value = 2
    assert f"place 2 has the similarity {search.found.similarity[0, 1]:.3f}" in search.shown.value
    for part, share in enumerate(search.found.parts[0, 1]):
        assert f"part {part + 1}: {share:+.3f}" in search.shown.value
    search.upload.value = ({**file, "name": "<b>.png", "content": b"no image"},)
    assert "&lt;b&gt;.png" in search.told.value
    assert "Found for identity" in search.shown.value, "test images ask again"
    assert not search.upload.value, "its button counts no picture"
    person = search.found.query.embeddings.person_ids[0]
    right = [one == person for one in search.found.gallery.embeddings.person_ids[search.found.best[0]]]
    assert search.shown.value.count("✓") == 2 * sum(right), "in the caption and in the alternative text"
    search.clear.click()
    assert search.told.value == ""
    search.spectra.value = "visible among infrared"
    assert set(search.found.gallery.embeddings.modality) == {1}
    with pytest.raises(ValueError, match="runs is empty"):
        PictureSearch({})


def test_the_page_of_the_app_holds_all(runs: dict[str, Path]) -> None:
    assert widgets.app().titles == ("Prototype playground",)
    page = widgets.app(list(runs.values()))
    assert page.titles == ("Prototype playground", "Ranking browser", "Your pictures")
    assert list(page.children[1].found) == ["softmax", "complete"]


def test_rankings_of_evaluated_descriptors(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a run, or alone where it was said what they were evaluated on; the order of their images is theirs."""
    tested = Run(runs["softmax"]).embeddings
    theirs = tested.subset(np.arange(len(tested))[::-1])
    theirs.save(tmp_path / "theirs.npz")
    cli.main(["evaluate", str(tmp_path / "theirs.npz"), "--out", str(tmp_path / "theirs")])
    page = widgets.app([tmp_path / "theirs", runs["softmax"]])
    assert page.titles == ("Prototype playground", "Ranking browser", "Your pictures")
    browser = page.children[1]
    browser.outcome.value = "right in theirs alone"
    assert not len(browser.queries), "the same descriptors"
    assert list(page.children[2].run.options) == ["softmax"]
    with pytest.raises(ValueError, match=r"theirs does not say where the images of sysu are; expected"):
        RankingBrowser({"theirs": _evaluated_on(tmp_path / "theirs", "sysu", None)})
    asked = []
    store = experiment.images_of(runs["softmax"])
    monkeypatch.setattr("sa_lab.course.widgets.ranking.prepare", lambda data: asked.append(data) or store)
    RankingBrowser({"theirs": _evaluated_on(tmp_path / "theirs", "synthetic-thermal", None)})
    RankingBrowser({"theirs": _evaluated_on(tmp_path / "theirs", "sysu-generated", "copy")})
    assert asked == [DataConfig("thermal"), DataConfig("sysu", "copy")]


def _evaluated_on(folder: Path, dataset: str, root: str | None) -> Path:
    """The same descriptors, noted as evaluated on another data set."""
    write_json(folder / "source.json", read_json(folder / "source.json") | {"dataset": dataset, "root": root})
    return folder


def test_projection_browser_shows_the_image_of_a_sample_and_tells_whose_it_is() -> None:
    browser = browser_of(2)
    browser.hover(5)
    assert plots.data_uri(browser.images[5]) in browser.picture.value
    assert "identity 1<br>visible<br>camera 2<br>&lt;5&gt;.png" in browser.picture.value
    assert 'alt="identity 1, visible, camera 2, &lt;5&gt;.png"' in browser.picture.value


@pytest.mark.parametrize("dimensions", [2, 3])
def test_projection_browser_colours_anew_and_keeps_the_view(dimensions: int) -> None:
    browser = browser_of(dimensions, loss=np.arange(8) / 8, right=np.arange(8) > 3)
    assert browser.colouring.options == ("modality", "identity", "camera", "loss", "right")
    for name in browser.colouring.options:
        browser.colouring.value = name
        assert json.loads(browser.figure.drawn)["layout"]["uirevision"] == "same", "the view stays"
    assert [trace.name for trace in browser.figure.data][:2] == ["right: no, visible", "right: no, infrared"]
    browser.hover(5)
    assert "right: True" in browser.picture.value
    for trace in browser.figure.data:
        gaps = [value for axis in "xyz" if axis in trace for value in trace[axis] if value is not None]
        assert np.isfinite(np.array(gaps, dtype=float)).all()


def test_projection_browser_lists_a_selection_of_all_traces_and_keeps_it() -> None:
    browser = browser_of(2, count=80)
    first, second = browser.figure.data[:2]
    points = [[0, [0]], [0, [2]], [1, [1]], [len(browser.figure.data) - 1, [0]]]  # the last is a prototype
    browser.figure._handle_custom_msg({"event": "selected", "points": points}, [])
    rows = [int(first.customdata[0, 0]), int(first.customdata[2, 0]), int(second.customdata[1, 0])]
    assert browser.selected == sorted(rows)
    assert browser.strip.value.count("<img") == 3
    assert "3 selected" in browser.strip.value
    browser.colouring.value = "camera"
    assert browser.selected == sorted(rows)
    marked = [
        trace.customdata[list(trace.selectedpoints), 0] for trace in browser.figure.data if "camera" in trace.name
    ]
    assert sorted(np.concatenate(marked).tolist()) == sorted(rows)
    browser.select(range(80))
    assert browser.strip.value.count("<img") == 60
    assert "80 selected, the first 60 shown" in browser.strip.value
    browser.figure._handle_custom_msg({"event": "selected", "points": []}, [])
    assert browser.selected == []
    browser.figure._handle_custom_msg({"event": "hover", "points": [[0, [1]]]}, [])
    assert browser.picture.value.startswith("<img")
    assert browser.strip.value.startswith("Select points")


def test_projection_browser_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="loss has 3 entries, expected 8 as the embeddings"):
        browser_of(2, loss=np.zeros(3))


def test_a_front_end_without_widgets_shows_one_line_instead() -> None:
    line = Playground(World(2))._repr_mimebundle_()["text/plain"]
    assert line.startswith("This figure is live in JupyterLab")
    assert "run all cells" in line


def test_colab_is_asked_to_show_widgets(tmp_path: Path) -> None:
    """By its own switch; a stand-in for its package notes the call."""
    (tmp_path / "google" / "colab").mkdir(parents=True)
    (tmp_path / "google" / "colab" / "__init__.py").touch()
    (tmp_path / "google" / "colab" / "output.py").write_text(
        "def enable_custom_widget_manager():\n    print('asked')\n"
    )
    code = "import google.colab; from sa_lab.course import widgets"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "asked\n"

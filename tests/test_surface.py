"""The response surface of chapter 07: measured where one may choose, and each cell's own run behind the dials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_parameters import SMALL

from sa_lab.config import ExperimentConfig
from sa_lab.course import claims, surface
from sa_lab.course.surface import Surface
from sa_lab.course.widgets import SurfaceBrowser
from sa_lab.data import prepare
from sa_lab.reporting import studies, tables
from sa_lab.runs import Run
from sa_lab.study import validated

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")]
CONFIG = ExperimentConfig().replace({**SMALL, "train.num_epochs": 1, "loss.warmup_steps": 1})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def found(home: Path, monkeypatch: pytest.MonkeyPatch) -> Surface:
    monkeypatch.setenv("SA_LAB_HOME", str(home))
    if not surface.place("thermal").is_file():
        surface.write(CONFIG, 2, (0.0, 5.0), (0.0, 1.0), (0, 1))
    held = surface.load(CONFIG.data)
    assert held
    for other in ({"data.dataset": "synthetic"}, {"data.seed": 5}, {"data.images_per_camera": 1}):
        assert surface.load(CONFIG.replace(other).data) is None, "measured on other images"
    return held


def run_of(home: Path, mask: float, weight: float, seed: int) -> Run:
    (run,) = [
        run for run in map(Run, (home / "runs").glob("thermal-*"))
        if (run.config.loss.mask_value, run.config.loss.similarity_weight, run.config.seed) == (mask, weight, seed)
    ]  # fmt: skip
    return run


def test_values_are_those_of_the_validation_identities(found: Surface, home: Path) -> None:
    assert found.values.shape == (2, 2, 2)
    for i, mask in enumerate(found.masks):
        for j, weight in enumerate(found.weights):
            for k, seed in enumerate(found.seeds):
                run = run_of(home, mask, weight, seed)
                assert found.values[i, j, k] == pytest.approx(100 * validated(run)["mean_ap"], abs=1e-3)
    (point,) = [p for p in found.points() if p.dials == {surface.X: 5.0, surface.Y: 1.0}]
    assert point.mean == pytest.approx(found.values[1, 1].mean())
    assert point.low <= point.mean <= point.high


def test_effects_are_paired_by_seed() -> None:
    values = np.array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 8.0], [7.0, 10.0]]])  # masks, weights, seeds
    effects = Surface((0.0, 5.0), (0.0, 1.0), (0, 1), values, {}, {}).effects()
    assert effects[surface.X]["mean"] == pytest.approx((4 + 6) / 2)
    assert effects[surface.Y] == pytest.approx({"mean": 2.0, "low": 2.0, "high": 2.0})


def test_a_cell_shows_what_its_run_finds(found: Surface, home: Path) -> None:
    tested = run_of(home, 5.0, 0.0, 0).embeddings
    ranking = found.cells[surface.key(5.0, 0.0)]["rankings"][2]
    rows = np.array([tested.paths.index(path) for path in ranking["paths"]])
    assert tested.modality[rows].tolist() == [1, *[0] * (len(rows) - 1)]
    assert tested.person_ids[rows].tolist() == ranking["person_ids"]
    flat = tested.embeddings.reshape(len(tested.paths), -1)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    similarity = flat[rows[1:]] @ flat[rows[0]]
    assert (np.diff(similarity) <= 1e-6).all(), "not from the nearest on"
    drawn = found.cells[surface.key(5.0, 0.0)]["map"]
    assert len(drawn["samples"]) == len(drawn["person_ids"]) == len(drawn["modality"])
    assert len(drawn["prototypes"]) == 2 * len(drawn["prototype_ids"])


def test_the_dials_move_frame_map_and_ranking(found: Surface) -> None:
    browser = SurfaceBrowser(found, prepare(CONFIG.data, progress=False))
    browser.mask.value, browser.weight.value = 0.0, 1.0
    browser.query.value = 3
    cross = browser.figure.data[-1]
    assert (cross.x, cross.y) == (("0.0",), ("1.0",))
    assert browser.ranking.layout.title.text.startswith("mask 0, similarity weight 1: ")
    assert f"{found.values[0, 1].mean():.1f} %" in browser.figure.layout.title.text
    samples = np.array(found.cells[surface.key(0.0, 1.0)]["map"]["samples"])
    shown = np.concatenate([np.array(trace.x, float) for trace in browser.map.data if trace.mode == "markers"])
    assert set(samples[:, 0].round(2)) <= set(shown.round(2))


def test_a_click_chooses_the_cell(found: Surface) -> None:
    browser = SurfaceBrowser(found, prepare(CONFIG.data, progress=False))
    cells = browser.figure.data[0]
    drawn: list[object] = []
    browser.figure.observe(drawn.append, "drawn")
    for row, weight in enumerate(cells.y):
        for column, mask in enumerate(cells.x):
            browser.figure._handle_custom_msg({"event": "click", "points": [[0, [row, column]]]}, [])
            assert (str(browser.mask.value), str(browser.weight.value)) == (mask, weight)
            assert browser.figure.data[-1].x == (mask,)
    assert len(drawn) <= len(cells.x) * len(cells.y), "one picture for each click"


def compared() -> dict:
    """A tuned study of three losses, two seeds."""
    columns = {"softmax": [0.2, 0.3], "complete": [0.4, 0.42], "mmd": [0.6, 0.62]}
    return {
        "seeds": [0, 1], "labels": {"mmd": "mmd, terms identity 1 + mmd 3"},
        "tries": {"softmax": [], "mmd": [{"validation_mean_ap": 0.3}, {"margin": 2.0, "validation_mean_ap": 0.4}]},
        "variants": {name: {"mean_ap": {"values": values}} for name, values in columns.items()},
    }  # fmt: skip


def test_who_wins_is_told_by_pairs() -> None:
    rows = claims.against(compared(), "complete")
    assert [row["loss"] for row in rows] == ["mmd, weight 3", "softmax"]
    assert rows[0] == {
        "loss": "mmd, weight 3", "mAP minus that of complete, points": "+20.0 [+20.0, +20.0]", "": "higher"
    }  # fmt: skip
    assert rows[1][""] == "not told apart"
    assert "higher" in tables.render(rows, "markdown")


def test_tries_are_shown_with_the_chosen_one() -> None:
    text = studies.tries(compared())
    assert "| mmd | as it is: 30.0 | **margin 2.0: 40.0** |" in text
    assert "softmax" not in text

"""What chapters are given: checked in the first cell, trained as it says, and recorded cell by cell of a sweep."""

from __future__ import annotations

from pathlib import Path

import nbformat
import papermill
import pytest

from sa_lab import cli
from sa_lab.config import VARIANTS, ExperimentConfig, variant
from sa_lab.course import chapters, record
from sa_lab.course.parameters import DIALS, parameters_of, read
from sa_lab.disk import read_json
from sa_lab.study import Cell, Sweep

SMALL = {
    "data.height": 32, "data.width": 16, "data.train_ids": 12, "data.test_ids": 8, "data.images_per_camera": 2,
    "model.num_parts": 1, "model.weights": "random", "train.ids_per_batch": 4, "train.steps_per_epoch": 3,
    "train.num_probes": 3, "train.device": "cpu",
}  # fmt: skip


def test_what_is_given_becomes_the_dials() -> None:
    given = read({"dataset": "synthetic", "seed": 3, "mask_value": 0, "epochs": 0, "root": "", "dials": SMALL, "x": 1})
    assert given.config == ExperimentConfig().replace(
        {"data.dataset": "synthetic", "seed": 3, "loss.mask_value": 0.0, **SMALL}
    )
    assert (given.ours, given.name) == (given.config, "no_mask")
    assert read({}).name == "SA-Softmax"
    paper = read({"preset": "paper", "warmup_steps": None, "loss": "hetero_center"})
    assert paper.config.loss.warmup_steps == 0
    assert (paper.ours.loss.terms, paper.name) == ("identity 1 + hetero_center 4", "hetero_center")


@pytest.mark.parametrize("loss", [name for name in VARIANTS if name != "softmax"])
def test_parameters_of_a_config_give_it_back(loss: str) -> None:
    config = variant(ExperimentConfig(seed=2).replace({**SMALL, "loss.warmup_steps": 1}), loss)
    assert read(parameters_of(config, loss)).ours == config


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mask_value": "much"}, r"loss\.mask_value is 'much', expected a number"),
        ({"mask_value": -1.0}, r"loss\.mask_value is -1\.0, expected a number of at least 0"),
        ({"epochs": 1.5}, r"train\.num_epochs is 1\.5, expected"),
        ({"loss": "softmax"}, r"loss is 'softmax', expected one of no_mask, .*, which is compared with softmax"),
        ({"loss": 3}, "loss is 3, expected one of"),
        ({"preset": "huge"}, "preset is 'huge', expected one of tiny, small, paper"),
        ({"dials": "train.ids_per_batch"}, "dials is 'train.ids_per_batch', expected dials by name"),
        ({"dials": {"train.batch": 3}}, r"there is no dial train\.batch"),
        ({"In": ["", "# Parameters\nmask_valu = 0\nseed = 1\n"]}, "there is no parameter mask_valu; "),
    ],
)
def test_what_does_not_fit_is_told_with_the_parameters_there_are(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as told:
        read({"seed": 0, "dataset": "synthetic", **given})
    assert "the parameters of this chapter are dataset, " in str(told.value)


@pytest.mark.parametrize("chapter", ["03", "04", "05", "06", "07"])
def test_every_chapter_that_trains_has_the_dials(chapter: str) -> None:
    (path,) = [path for path in chapters.chapters() if path.name.startswith(chapter)]
    names = papermill.inspect_notebook(path).keys()
    assert set(names) >= {*DIALS, "loss", "dials"}


def test_papermill_alone_is_stopped_in_the_first_cell(tmp_path: Path) -> None:
    """It warns of an unknown parameter itself, but goes on."""
    path = chapters.NOTEBOOKS / "05_benchmark.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="there is no parameter mask_valu;") as told:
        papermill.execute_notebook(path, tmp_path / "out.ipynb", {"mask_valu": 0}, progress_bar=False)
    assert told.value.exec_count <= 3


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_chapter_is_the_record_of_each_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chapter 05 with the mask switched off, and with a triplet loss: it trains what it says, once."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    ExperimentConfig().replace({**SMALL, "train.num_epochs": 1, "loss.warmup_steps": 1}).save(tmp_path / "c.json")
    words = ["sweep", "--config", str(tmp_path / "c.json"), "--over", "loss.mask-value", "0", "--loss", "softmax"]
    command = [*words, "triplet", "complete", "--notebook", "05", "tiny"]
    cli.main(command)
    (index,) = tmp_path.glob("executed/*/index.html")
    text = index.read_text(encoding="utf-8")
    assert text.count("notebook</a>") == 2
    notebooks = sorted(index.parent.glob("*/05_benchmark.ipynb"))
    assert [path.parent.name for path in notebooks] == ["complete-mask_value-0.0-seed-0", "triplet-seed-0"]
    assert "no_mask" in notebooks[0].read_text(encoding="utf-8")
    for path in notebooks:
        assert f'href="{path.parent.name}.html"' in text
        assert (index.parent / f"{path.parent.name}.html").is_file()
    assert len(list(tmp_path.glob("runs/*/report.json"))) == 3, "chapters trained what the sweep had not"
    made = {path: path.stat().st_mtime_ns for path in notebooks}
    cli.main(command)
    assert {path: path.stat().st_mtime_ns for path in notebooks} == made
    with pytest.raises(SystemExit, match="notebook is '99', expected the beginning of one of 00_start_here"):
        cli.main([*words, "--notebook", "99", "tiny"])
    assert nbformat.read(notebooks[0], as_version=4).metadata["sa_lab"]
    assert read_json(next(tmp_path.glob("results/*/failed.json"))) == {"cells": {}}


def test_a_cell_whose_loss_has_no_name_is_told_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One's own, and a sum that nobody has named; nothing is trained for them. What another job of an array has trained
    is executed there."""
    small = ExperimentConfig().replace(SMALL)
    configs = {
        "closer": small.replace({"loss.own": "closer-12345678", "loss.terms": "identity 1 + own 1"}),
        "triplet 1 + mmd 2": small.replace("loss.terms", "triplet 1 + mmd 2"),
        "complete": small, "softmax": variant(small, "softmax"),
    }  # fmt: skip
    asked: list[list[ExperimentConfig]] = []
    executed: list[Path] = []
    monkeypatch.setattr(record, "run_each", lambda configs, *_, **__: asked.append(configs))
    monkeypatch.setattr(record.chapters, "execute", lambda out, *_: executed.append(out))
    monkeypatch.setattr(record, "_sign", lambda path: None)
    monkeypatch.setattr(record.site, "collect", lambda *_: None)
    found = [Cell({}, loss, config) for loss, config in configs.items()]
    result = Sweep((), finished=[*found, Cell({}, "triplet", variant(small, "triplet"))], mine=found)
    failed = record.write(result, "05", tmp_path)
    assert list(failed) == ["closer, seed 0", "triplet 1 + mmd 2, seed 0"]
    assert all("has no name in sa_lab.config.VARIANTS" in why for why in failed.values())
    assert asked == [[variant(small, "softmax")]]
    assert executed == [tmp_path / "complete-seed-0"]

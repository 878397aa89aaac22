"""Overlap of runs: measured, kept, drawn, on one page that opens offline."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from browsing import Watched

from sa_lab import analysis, cli, experiment, runs
from sa_lab.analysis import descriptors
from sa_lab.analysis.descriptors import OF_ALL_PAIRS, QUICK, measure_embeddings, of_people, picture, rows_of
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig, variant
from sa_lab.course import claims
from sa_lab.course.lens import Lens
from sa_lab.data import prepare
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.evaluation.search import evaluate
from sa_lab.reporting import cards, overlap, page
from sa_lab.runs import Run, measure_folder
from sa_lab.schema import Embeddings


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two losses, six steps each on drawn people."""
    place = tmp_path_factory.mktemp("runs")
    config = ExperimentConfig(
        data=DataConfig("synthetic", height=32, width=16, train_ids=20, test_ids=6, images_per_camera=1),
        model=ModelConfig("resnet18", 2, "random"),
        loss=LossConfig(warmup_steps=2),
        train=TrainConfig(ids_per_batch=4, num_epochs=1, steps_per_epoch=6, num_probes=3, device="cpu"),
    )
    names = ("softmax", "complete")
    return {
        name: experiment.run(variant(config, name), place / name, progress=False).folder for name in names
    }  # fmt: skip


@pytest.fixture
def tested(folders: dict[str, Path]) -> Embeddings:
    return Run(folders["complete"]).embeddings


def test_measures_are_those_of_the_analysis(tested: Embeddings) -> None:
    found = measure_embeddings(tested)
    points, prototypes = rows_of(tested)
    gap = analysis.modality_gap(points, tested.person_ids, tested.modality)
    assert found["stranger_ratio"].mean == pytest.approx(np.nanmean(gap.stranger_ratio), rel=1e-5)
    aligned = analysis.prototype_alignment(tested.prototypes).mean()
    assert found["prototype_alignment"].mean == pytest.approx(aligned, abs=1e-6)
    assert "cross_similarity" not in found, "these people have no prototypes"
    assert prototypes.shape == (2 * len(tested.prototype_ids), points.shape[1])
    few = measure_embeddings(tested, only=QUICK)
    assert few == {name: found[name] for name in QUICK}


def test_of_many_images_all_but_the_slow_measures_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, ids, modality = np.random.default_rng(0), np.repeat(np.arange(8), 6), np.tile([0, 1], 24)
    points = (2 * rng.normal(size=(8, 1, 12))[ids] + rng.normal(size=(48, 1, 12))).astype(np.float32)
    many = Embeddings(None, points, ids, modality + 1, modality, tuple(map(str, range(48))))
    exact = measure_embeddings(many)
    monkeypatch.setattr(descriptors, "reduce", partial(analysis.reduce, num_components=3, exact_up_to=3))
    found = measure_embeddings(many)
    assert list(found) == list(exact) == list(analysis.OF_IMAGES)
    assert {name for name in found if found[name] != exact[name]} == set(OF_ALL_PAIRS)
    thin = descriptors.reduce(points[:, 0], np.random.default_rng(0)).points
    slow = analysis.silhouettes(thin, ids, modality)
    assert found["silhouette_identity"].mean == pytest.approx(slow.identity.mean())


def test_a_part_is_measured_alone(tested: Embeddings) -> None:
    found = overlap.by_part(tested)
    assert list(found) == ["part 1", "part 2"]
    alone = replace(tested, embeddings=tested.embeddings[:, 1:], prototypes=tested.prototypes[1:], part_features=None)
    assert found["part 2"] == measure_embeddings(alone, only=QUICK)


def test_measures_are_kept_until_the_descriptors_change(folders: dict[str, Path], monkeypatch, tmp_path) -> None:
    folder = folders["softmax"]
    first = measure_folder(folder, progress=False)
    assert set(first) == {"unseen", "training"}
    assert "cross_similarity" in first["training"]
    assert not {"cross_similarity", "prototype_alignment"} & set(first["unseen"]), "unseen people have no prototypes"
    with monkeypatch.context() as patched:
        patched.setattr(runs, "measure_embeddings", lambda *_, **__: pytest.fail("measured again"))
        assert measure_folder(folder, progress=False) == first
    known = json.loads((folder / "overlap.json").read_text())
    wrong = {"state": known["state"] | {"library": "0.0"}, "measures": {"unseen": {}, "training": {}}}
    (folder / "overlap.json").write_text(json.dumps(wrong))
    assert measure_folder(folder, progress=False) == first, "another library measured it"
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    tested = Embeddings.load(folder / "embeddings.npz")
    tested.subset(tested.person_ids > tested.person_ids.min()).save(moved / "embeddings.npz")
    os.utime(moved / "embeddings.npz", ns=(0, 0))
    again = measure_folder(moved, progress=False)
    assert again["unseen"] != first["unseen"], "older, but other descriptors"
    assert again["training"] == first["training"]


def test_the_picture_of_some_people_has_their_prototypes_alone(folders: dict[str, Path], tested: Embeddings) -> None:
    trained = Run(folders["complete"]).training_embeddings
    drawn = picture(trained, 5, method="pca")
    people = np.unique(trained.person_ids)[:5]
    assert np.unique(drawn.embeddings.person_ids).tolist() == people.tolist()
    assert drawn.embeddings.prototype_ids.tolist() == people.tolist()
    rows = np.searchsorted(trained.prototype_ids, people)
    half = len(trained.prototype_ids)
    np.testing.assert_array_equal(drawn.embeddings.prototypes[:, 5:], trained.prototypes[:, rows + half])
    assert drawn.projection.prototypes.shape == (10, 2)
    assert picture(tested, 3, method="pca").projection.prototypes.shape == (0, 2)


def test_people_along_the_training(folders: dict[str, Path]) -> None:
    run = Run(folders["complete"])
    steps, trained = overlap.along(run)
    assert steps.tolist() == [0, 3, 6]
    assert np.isfinite(trained["stranger_ratio"]).all()
    assert np.isnan(overlap.along(run, "unseen")[1]["prototype_alignment"]).all()
    last = of_people(run.probes()[6], "training")
    assert trained["stranger_ratio"][2] == measure_embeddings(last, only=QUICK)["stranger_ratio"].mean
    moments = overlap.pictures_along(run, method="pca")
    assert list(moments) == [0, 3, 6]
    assert len({one.embeddings.paths for one in moments.values()}) == 1
    film = cards.film_of(moments, "People")
    assert [frame.name for frame in film.frames] == ["step 0", "step 3", "step 6"]
    unseen = overlap.pictures_along(run, "unseen", method="pca")
    assert len(cards.film_of(unseen, "People").data) == 2, "no prototypes"


def test_a_run_without_probes_is_told(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no probes of training people"):
        overlap.pictures_along(Run(tmp_path))
    assert not overlap.along(Run(tmp_path))[0].size


def test_first_match_is_the_search_of_the_first_protocol(tested: Embeddings) -> None:
    words = cards.first_match(tested)
    report = evaluate(tested, protocols_of(tested.dataset)[0], draws=2)
    asked = words != "not a query"
    assert asked.sum() == report.num_queries
    assert set(words) <= {"right", "wrong", "not a query"}
    nobody = tested.subset(tested.modality == 0)
    assert set(cards.first_match(nobody)) == {"not a query"}


def test_losses_of_single_samples_average_to_that_of_all(folders: dict[str, Path]) -> None:
    lens = Lens.of_run(folders["complete"], most=24)
    loss = LossConfig(warmup_steps=0)
    each = lens.losses(loss)
    assert each.shape == (len(lens),) == (len(lens.paths),)
    one = lens.read(3, loss).losses
    assert each[3] == pytest.approx(0.3 * one["identity"] + 0.7 * one["sa_softmax"] + one["absolute"], rel=1e-5)


def test_names_tell_folders_apart(folders: dict[str, Path], tmp_path: Path) -> None:
    assert list(cards.names_of(list(folders.values()))) == ["softmax, seed 0", "complete, seed 0"]
    same = [tmp_path / "a" / "x", tmp_path / "b" / "x"]
    assert list(cards.names_of(same)) == list(map(str, same))
    with pytest.raises(ValueError, match="expected each once"):
        cards.names_of([tmp_path, tmp_path])


def test_images_are_found_by_their_paths(folders: dict[str, Path], tested: Embeddings) -> None:
    store = prepare(Run(folders["complete"]).config.data, progress=False)
    found = store.find(tested.paths)
    assert [store.paths[i] for i in found] == list(tested.paths)
    with pytest.raises(ValueError, match="lacks 1 of 1 images, nobody among them"):
        store.find(["nobody"])


@pytest.mark.slow
def test_the_report_is_one_page_that_opens_offline(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    page_at: Callable[..., Watched],
) -> None:  # fmt: skip
    pytest.importorskip("umap")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    ours = Run(folders["softmax"]).embeddings  # theirs: descriptors alone, no images, prototypes, training
    replace(ours, prototypes=None, prototype_ids=None, seen_ids=None).save(tmp_path / "theirs.npz")
    hostile = "<img src=x onerror=alert(1)> | *a* $x$"
    cli.main(["evaluate", str(tmp_path / "theirs.npz"), "--method", hostile, "--out", str(tmp_path / "theirs")])
    cli.main(["report", *map(str, folders.values()), str(tmp_path / "theirs")])
    assert "the page is report.html" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("*.html")] == ["report.html"]
    watched = page_at(1280)
    watched.page.goto(f"file://{tmp_path / 'report.html'}")
    watched.page.wait_for_function("document.querySelectorAll('.js-plotly-plot .main-svg').length > 20")
    headings = watched.page.locator("h2").all_inner_texts()
    assert headings == [
        "At one glance", "Measures of unseen people", "Measures of people trained on", "softmax, seed 0",
        "complete, seed 0", "theirs",
    ]  # fmt: skip
    assert watched.page.locator(".thumbnails").count() == 10, "two maps of two sets of people, and a film, of each run"
    assert watched.page.locator("img[src=x]").count() == 0
    assert hostile in watched.page.inner_text("table >> nth=0")
    assert "have no thumbnails" in watched.page.inner_text("main")
    assert watched.errors == []
    assert all(one.startswith(("file:", "data:", "blob:")) for one in watched.requests)


def test_a_folder_without_descriptors_is_told(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no embeddings"):
        page.write([tmp_path], tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


# The study


def study_of(gaps: dict[str, list[float]], found: dict[str, list[float]]) -> dict:
    """What `sa_lab.study.study` gives, of two measures."""
    return {
        "variants": {
            name: {"stranger_ratio": {"values": gaps[name]}, "mean_ap": {"values": found[name]}} for name in gaps
        }
    }


def test_rank_correlation_over_all_runs_and_within_the_losses() -> None:
    """Between the losses a smaller gap goes with more mAP; within each it is the other way round."""
    gaps = {"softmax": [1.0, 1.125, 1.25], "complete": [0.5, 0.625, 0.75]}
    result = study_of(gaps, {"softmax": [0.125, 0.25, 0.375], "complete": [0.5, 0.625, 0.75]})
    over = claims.relation(result, "stranger_ratio")
    assert over.mean == pytest.approx(-0.543, abs=1e-3)  # 1 - 6 * 54 / (6 * 35), by hand
    assert np.isnan([over.low, over.high]).all(), "two losses are too few to draw from"
    within = claims.relation(result, "stranger_ratio", within=True)
    assert within.mean == pytest.approx(1)
    assert within.low <= within.mean <= within.high <= 1
    flat = study_of(gaps, {"softmax": [0.125] * 3, "complete": [0.125] * 3})
    assert claims.relation(flat, "stranger_ratio") is None
    assert claims.relation(result, "mmd") is None, "not in this study"


def test_runs_in_which_overlap_and_retrieval_part_ways_are_counted() -> None:
    gaps = {"softmax": [0.9, 0.9, 0.9], "no_mask": [0.8, 0.8, 0.95], "complete": [0.7, 0.7, 1.0]}
    found = {"softmax": [0.2, 0.2, 0.2], "no_mask": [0.1, 0.3, 0.1], "complete": [0.3, 0.3, 0.3]}
    counts = claims.disagreements(study_of(gaps, found), "stranger_ratio")
    assert counts == {"no_mask": claims.Disagreement(3, 2, 1, 0), "complete": claims.Disagreement(3, 2, 0, 1)}
    assert claims.disagreements(study_of(gaps, found), "mmd") == {}


def test_losses_are_compared_by_seed() -> None:
    result = study_of({"a": [0.0] * 3, "b": [0.0] * 3}, {"a": [0.5, 0.75, 1.0], "b": [0.25, 0.5, 0.75]})
    assert claims.paired(result, "a", "b", "mean_ap") == pytest.approx({"mean": 0.25, "low": 0.25, "high": 0.25})


def test_a_report_asks_once_for_the_overlap_of_each_folder(
    folders: dict[str, Path], tmp_path: Path, monkeypatch
) -> None:
    pytest.importorskip("umap")
    asked: list[Path] = []
    monkeypatch.setattr(runs, "measure_folder", lambda folder, progress: asked.append(folder) or measure_folder(folder))
    cli.main(["report", *map(str, folders.values()), "--out", str(tmp_path / "report.html")])
    assert asked == list(folders.values())
    with pytest.raises(SystemExit):
        cli.main(["report", *[str(folders["softmax"])] * 2, "--out", str(tmp_path / "again.html")])
    assert asked == list(folders.values()), "refused before anything is measured"


def test_a_run_and_a_report_show_themselves(folders: dict[str, Path], tmp_path: Path) -> None:
    run = Run(folders["complete"])
    assert repr(run) == f"Run({str(run.folder)!r})"
    assert re.fullmatch(
        r"Report\(sysu-all, synthetic, \d+ queries: Rank-1 .* %, mAP .* %, mINP .* %\)", repr(run.report)
    )
    shown = run._repr_markdown_()
    assert shown.startswith("**Run** complete: complete, seed 0\n\nsysu-all: ")
    assert re.search(r"\| mAP \| \d+\.\d % \[\d+\.\d, \d+\.\d\] \|", shown)
    assert Run(tmp_path)._repr_markdown_() == f"**Run** {tmp_path}: nothing trained yet"

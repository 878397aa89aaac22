"""Sweeps: which cells there are, the one table, failures that are named, and the command."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import test_workers
from pytorch_metric_learning import losses as metric_losses

from sa_lab import cli, study
from sa_lab.config import PAPER, PIECES, VARIANTS, ExperimentConfig, LossConfig, variant
from sa_lab.data import copies
from sa_lab.disk import read_json
from sa_lab.plots.sweeps import over_dial, response_surface
from sa_lab.reporting import comparison, pictures
from sa_lab.reporting.studies import sweep_gains, sweep_points, sweep_table
from sa_lab.runs import Run
from sa_lab.study import Sweep, cells, engines, sweeps, tuning, workers
from sa_lab.study.sweeps import value_of

pytestmark = pytest.mark.usefixtures("here", "narrow")
CONFIG = test_workers.CONFIG.replace("model.backbone", "mobilenet_v2")

MASKS = {"loss.mask_value": [0.0, 5.0, 50.0], "loss.similarity_weight": [0.0, 1.0]}


def test_a_dial_is_swept_for_the_losses_that_use_it() -> None:
    found = cells(ExperimentConfig(), MASKS, ("softmax", "triplet", "complete"), (0, 1))
    count = {loss: sum(cell.loss == loss for cell in found) for loss in ("softmax", "triplet", "complete")}
    assert count == {"softmax": 2, "triplet": 2, "complete": 6 * 2}  # one for each seed


def test_names_of_losses_win_over_dials_and_no_cell_comes_twice() -> None:
    found = cells(ExperimentConfig(), MASKS, ("softmax", "no_mask"))
    assert len({(cell.config.digest(), cell.config.seed) for cell in found}) == len(found)
    assert all(cell.config.loss.mask_value == 0 for cell in found if cell.loss == "no_mask")


def test_cells_say_what_they_are() -> None:
    (softmax,) = cells(ExperimentConfig(), {"loss.mask_value": [0.0, 5.0]}, ("softmax",), (3,))
    assert str(softmax) == "softmax, seed 3"
    assert softmax.dials == {"loss.mask_value": None}
    (own,) = cells(ExperimentConfig(), {"loss.mask_value": [5.0]})
    assert str(own) == "complete, mask_value 5.0, seed 0"
    regdb = ExperimentConfig().replace({"data.dataset": "regdb", "data.root": "x"})
    assert len(cells(regdb, {})) == 10
    assert [cell.config.data.split for cell in cells(regdb, {"data.split": [3, 4]})] == [3, 4]


def test_random_points_are_drawn_by_the_seed() -> None:
    over = {"train.head_lr": [1e-4, 1e-3, 1e-2, 1e-1], "train.backbone_lr": [1e-5, 1e-4, 1e-3]}
    drawn = [[cell.dials for cell in cells(ExperimentConfig(seed=s), over, random=5)] for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({str(one) for one in drawn[0]}) == 5


def test_what_cannot_be_swept_is_told() -> None:
    with pytest.raises(ValueError, match=r"there is no dial loss\.mask, expected some of .*loss\.mask_value"):
        cells(ExperimentConfig(), {"loss.mask": [1]})
    with pytest.raises(ValueError, match=r"loss\.mask_value has no values"):
        cells(ExperimentConfig(), {"loss.mask_value": []})
    with pytest.raises(ValueError, match="seed is swept by seeds"):
        cells(ExperimentConfig(), {"seed": [1]})
    with pytest.raises(ValueError, match="random is 0"):
        cells(ExperimentConfig(), MASKS, random=0)
    with pytest.raises(ValueError, match="array is 2 2, expected an index below the count"):
        study.sweep(ExperimentConfig(), MASKS, array=(2, 2))


@pytest.mark.parametrize(
    ("text", "dial", "value"),
    [
        ("5", "loss.mask_value", 5.0), ("1e-4", "train.head_lr", 1e-4), ("inf", "loss.mask_value", math.inf),
        ("none", "train.steps_per_epoch", None), ("3", "train.steps_per_epoch", 3), ("none", "train.log", "none"),
        ("true", "loss.asynchronous", True), ("maybe", "loss.asynchronous", "maybe"),
        ("010", "train.num_epochs", 10), ("3.5", "train.num_epochs", "3.5"), ("6,7", "train.milestones", (6, 7)),
        ("identity 1 + triplet 1", "loss.terms", "identity 1 + triplet 1"), ("none", "loss.margin", None),
        ("much", "loss.margin", "much"), ("1:30", "data.root", "1:30"), ("4", "no.such", "4"),
    ],
)  # fmt: skip
def test_values_of_a_command_line(text: str, dial: str, value: object) -> None:
    assert value_of(text, dial) == value


def test_a_margin_that_is_swept_is_that_of_the_head() -> None:
    found = cells(ExperimentConfig(), {"loss.margin": [None, 0.2]}, ("cosface", "arcface", "softmax"))
    margins = [(cell.loss, cell.dials["loss.margin"], cell.config.loss.margin) for cell in found]
    assert margins == [
        ("cosface", "none", None), ("arcface", "none", None), ("softmax", None, None), ("cosface", 0.2, 0.2),
        ("arcface", 0.2, 0.2),
    ]  # fmt: skip
    assert (found[0].config.loss.margin_of("cosface"), found[1].config.loss.margin_of("arcface")) == (0.35, 0.5)


def test_a_training_that_two_losses_share_is_a_row_of_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    result = study.sweep(CONFIG, {"loss.mask_value": [0.0, 5.0]}, ("no_mask", "complete"), progress=False)
    assert [(row["loss"], row["loss.mask_value"]) for row in result.rows] == [
        ("no_mask", None), ("complete", 0.0), ("complete", 5.0)
    ]  # fmt: skip
    assert result.rows[0]["run"] == result.rows[1]["run"]
    pictures.write(result, tmp_path / "pictures.html")
    assert (tmp_path / "pictures.html").read_text(encoding="utf-8").count("plotly-graph-div") == 3
    two = {"loss.mask_value": [0.0, 5.0], "loss.similarity_weight": [0.0, 1.0]}
    alone = study.sweep(CONFIG, two, progress=False)
    assert {row["loss"] for row in alone.rows} == {"complete"}
    assert response_surface(sweep_points(alone), *two, measure="mAP, %", title="").data[0].z is not None
    pictures.write(alone, tmp_path / "pictures.html")
    assert "heatmap" in (tmp_path / "pictures.html").read_text(encoding="utf-8")


def test_a_data_set_that_cannot_be_read_stops_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    copies.write("llcm", tmp_path / "llcm", train_ids=8, test_ids=4, images_per_camera=1)
    for image in (tmp_path / "llcm").rglob("*.jpg"):
        image.write_bytes(b"nothing")
    config = CONFIG.replace("data.root", str(tmp_path / "llcm"))
    result = study.sweep(config, {"data.dataset": ["synthetic", "llcm"]}, progress=False)
    assert [row["dataset"] for row in result.rows] == ["synthetic"]
    assert len(result.failed) == 1


def test_who_chooses_sees_the_validation_identities_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each seed has people of its own."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    config = CONFIG.replace({"data.validation_fraction": 0.4, "data.train_ids": 12})
    out = tmp_path / "out"
    config.save(tmp_path / "config.json")
    over = ["--over", "loss.mask-value", "0", "--seeds", "3", "4"]
    cli.main(["sweep", "--config", str(tmp_path / "config.json"), *over, "--validation", "--out", str(out), "tiny"])
    rows = study.read(out).rows
    assert [(row["protocol"], row["seed"]) for row in rows] == [("validation", 3), ("validation", 4)]
    for row in rows:
        run = Run(tmp_path / "runs" / row["run"])
        assert run.config.data.seed == run.config.seed == row["seed"]
        measured = run.metrics()["mean_ap"]
        assert row["mean_ap"] == pytest.approx(np.nanmax(measured))
        assert row["mean_ap"] != pytest.approx(run.report.measures["mean_ap"].mean), "of the test identities"
    assert {"loss": [], "seeds": [3, 4]}.items() <= read_json(out / "made.json")["base"].items()
    assert not [name for name in rows[0] if "gap" in name or "probe" in name]


def test_splits_count_once_however_many_seeds_they_have() -> None:
    rows = [
        {"loss": "softmax", "seed": seed, "dataset": "regdb", "split": split, "rank_1": split / 10 + seed / 100}
        for split in (1, 2, 3) for seed in (0, 1, 2)
    ]  # fmt: skip
    (one,) = Sweep((), rows).means(("rank_1",))
    assert one["rank_1"]["mean"] == pytest.approx(0.21)
    assert one["rank_1"]["high"] - 0.21 == pytest.approx(4.302652729911275 * 0.1 / 3**0.5)


def test_the_table_has_every_run_and_failures_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not finite, a value that is none of the dial's; called again, nothing is trained anew."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    config = CONFIG.replace("train.optimizer", "sgd")
    over = {"train.head_lr": [1e-3, 1e6, -1.0], "loss.mask_value": [0.0, 50.0]}
    result = study.sweep(config, over, ("softmax", "complete"), (0,), jobs=2, out=tmp_path / "out", progress=False)
    assert [(row["loss"], row["loss.mask_value"], row["train.head_lr"]) for row in result.rows] == [
        ("softmax", None, 1e-3), ("complete", 0.0, 1e-3), ("complete", 50.0, 1e-3)
    ]  # fmt: skip
    reasons = [why for _, why in sorted(result.failed.items())]
    assert sum("is not finite" in why for why in reasons) == 3
    assert sum("train.head_lr is -1.0, expected a number from 0" in why for why in reasons) == len(reasons) - 3
    with (tmp_path / "out" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["protocol"] for row in rows[:3]] == ["sysu-all"] * 3
    assert {row["protocol"] for row in rows[3:]} == {"sysu-indoor", "sysu-all-multi-shot", "sysu-indoor-multi-shot"}
    assert {(row["train.head_lr"], len(rows)) for row in rows} == {("0.001", 3 * 4)}
    assert all(float(row["seconds"]) > 0 and float(row["peak_mb"]) > 50 and row["rank_20"] for row in rows)
    whole = pyarrow.parquet.read_table(tmp_path / "out" / "table.parquet").to_pylist()
    assert [{name: value for name, value in row.items() if value is not None} for row in whole] == [
        {name: value for name, value in row.items() if value is not None} for row in [*result.rows, *result.others]
    ]
    assert read_json(tmp_path / "out" / "failed.json") == {"cells": result.failed}
    again = study.read(tmp_path / "out")
    assert (again.dials, again.rows, again.others) == (result.dials, result.rows, result.others)
    made = {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/*/report.json")}
    words = [
        "--over",
        "train.head-lr",
        "1e-3",
        "-1",
        "--over",
        "loss.mask-value",
        "0",
        "50",
        "--loss",
        "softmax",
        "complete",
    ]
    config.save(tmp_path / "config.json")
    with pytest.raises(SystemExit, match=r"cells failed; 3 runs are finished(?s:.*)expected a number from 0"):
        cli.main(["sweep", "--config", str(tmp_path / "config.json"), *words, "tiny"])
    out = capsys.readouterr().out
    assert out.count("complete") == 2
    assert "3 runs are in" in out
    assert {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/*/report.json")} == made


def test_a_job_array_shares_the_cells_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    over, seeds = {"loss.mask_value": [0.0, 50.0]}, (0, 1)
    first = study.sweep(CONFIG, over, seeds=seeds, array=(0, 2), progress=False)
    assert (len(first.rows), first.failed) == (2, {})
    second = study.sweep(CONFIG, over, seeds=seeds, array=(1, 2), progress=False)
    assert (len(second.rows), second.failed) == (4, {})
    whole = study.sweep(CONFIG, over, seeds=seeds, progress=False)
    assert whole == second
    text = comparison.tables_of([tmp_path / "runs" / str(row["run"]) for row in whole.rows])
    assert text.count("| synthetic, no_mask (2 seeds)") == 5  # four protocols and the overlap
    assert text.count("| synthetic, complete (2 seeds)") == 5
    assert "| 0, 1 " in text
    one = comparison.tables_of([tmp_path / "runs" / str(row["run"]) for row in whole.rows[:3]])
    assert "(2 seeds)" in one
    assert str(whole.rows[2]["run"]) in one


def test_a_loss_of_ones_own_is_swept_by_its_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In other processes: a loss that they could not import, and one of pytorch-metric-learning."""
    monkeypatch.setattr(workers, "Loky", engines.Loky)
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    config = CONFIG.replace("loss.terms", "identity 1 + own 1")

    def closer(embeddings, margin=0.5):
        return (embeddings.square().mean() - margin).relu()

    for own in (closer, metric_losses.TripletMarginLoss()):
        over = {"loss.terms": ["identity 1 + own 1", "identity 1 + own 0.1"]}
        result = study.sweep(config, over, ("own", "softmax"), progress=False, own_loss=own)
        assert result.failed == {}
        name = "closer" if own is closer else type(own).__name__
        assert [row["loss"] for row in result.rows] == [name, "softmax", name]
    with pytest.raises(ValueError, match="own_loss asks for weather"):
        study.sweep(config, {}, own_loss=lambda weather: weather)


def test_a_dial_with_values_of_several_kinds_is_a_text_in_parquet(tmp_path: Path) -> None:
    rows = [{"train.steps_per_epoch": value, "train.milestones": (1, 2)} for value in (None, 3, "all")]
    sweeps._write_tables(tmp_path, rows)
    kept = pyarrow.parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [row["train.steps_per_epoch"] for row in kept] == [None, "3", "all"]
    assert kept[0]["train.milestones"] == [1, 2]


def drawn_sweep() -> Sweep:
    rows = [
        {
            "loss": loss, "loss.mask_value": mask, "train.head_lr": 1e-3, "seed": seed, "dataset": "synthetic",
            "rank_1": base + seed / 100, "mean_ap": base, "mean_inp": base, "stranger_ratio": 1 - base,
        }
        for loss, mask, base in (("softmax", None, 0.25), ("complete", 0.0, 0.2), ("complete", 50.0, 0.3))
        for seed in range(1 if mask == 0.0 else 3)
    ]  # fmt: skip
    return Sweep(("loss.mask_value", "train.head_lr"), rows)


def test_means_over_seeds_have_intervals() -> None:
    means = drawn_sweep().means(("rank_1",))
    assert [(one["loss"], one["runs"]) for one in means] == [("softmax", 3), ("complete", 1), ("complete", 3)]
    assert means[0]["rank_1"]["mean"] == pytest.approx(0.26)
    assert means[0]["rank_1"]["low"] < 0.26 < means[0]["rank_1"]["high"]
    assert math.isnan(means[1]["rank_1"]["low"])


def test_a_table_names_the_dials_that_differ_and_the_best() -> None:
    text = sweep_table(drawn_sweep(), names=("rank_1", "stranger_ratio"), best=True)
    head, _, *lines = text.splitlines()
    assert [word.strip() for word in head.strip("|").split("|")] == [
        "loss",
        "mask_value",
        "Rank-1, %",
        "modality gap",
        "runs",
    ]
    assert "**31.0 [28.5, 33.5]**" in lines[2]
    assert "**0.70 [0.70, 0.70]**" in lines[2], "a smaller gap is better"
    assert "| 20.0 " in lines[1]
    assert r"\textbf{" in sweep_table(drawn_sweep(), "latex", best=True)
    assert "**" not in sweep_table(drawn_sweep(), "csv", best=True)
    assert sweep_table(Sweep(())) == "No run is finished."


def test_gains_over_softmax_are_paired_by_seed() -> None:
    rows = [{**row, "mean_ap": row["mean_ap"] + row["seed"] ** 2 / 10} for row in drawn_sweep().rows]
    head, *lines = sweep_gains(Sweep(drawn_sweep().dials, rows)).splitlines()
    assert "paired by seed" in head
    assert lines == ["- complete, mask_value 50.0: +5.0 [+5.0, +5.0]"], (
        "what both have of a seed cancels; one pair is none"
    )
    assert sweep_gains(Sweep(drawn_sweep().dials, [row for row in rows if row["loss"] == "complete"])) == ""
    wide = [{**row, "train.head_lr": lr} for row in rows for lr in (1e-3, 2e-3)]
    assert len(sweep_gains(Sweep(drawn_sweep().dials, wide)).splitlines()) == 3, "softmax of the same rate"
    splits = [{**row, "split": split} for row in rows for split in (1, 2)]
    assert "[+5.0, +5.0]" in sweep_gains(Sweep(drawn_sweep().dials, splits))


def test_a_caption_tells_protocol_and_seeds() -> None:
    rows = [{**row, "protocol": "sysu-all"} for row in drawn_sweep().rows]
    told = "Data set synthetic; protocol sysu-all; seeds 0, 1, 2; mean over runs [95 % of Student's t]"
    assert told in sweep_table(Sweep(drawn_sweep().dials, rows))
    latex = sweep_table(Sweep(drawn_sweep().dials, rows), "latex")
    assert rf"\caption{{{told}".replace(" % ", r" \% ").replace("\\\\", "\\") in latex
    assert latex.startswith("\\begin{table}")
    assert "protocol" not in sweep_table(drawn_sweep())


def test_points_of_a_sweep_are_in_percent_but_for_measures_of_overlap() -> None:
    softmax, plain, masked = sweep_points(drawn_sweep())
    assert (softmax.loss, softmax.dials["loss.mask_value"], softmax.runs) == ("softmax", None, 3)
    assert masked.mean == pytest.approx(30.0)
    assert math.isnan(plain.low)
    assert sweep_points(drawn_sweep(), "stranger_ratio")[0].mean == pytest.approx(0.75)


def test_every_loss_has_the_same_number_of_tries_and_its_papers_first() -> None:
    assert {len(tries) for tries in study.TRIES.values()} == {4}
    assert set(VARIANTS) - set(study.TRIES) == {"softmax", *PIECES} - {"complete"}
    for name, tries in study.TRIES.items():
        made = [variant(ExperimentConfig(), name).replace({f"loss.{k}": v for k, v in one.items()}) for one in tries]
        assert made[0].loss.weights() == variant(ExperimentConfig(), name).loss.weights()
        assert made[0] == variant(ExperimentConfig(), name)
        assert len({one.digest() for one in made}) == 4


def test_losses_that_are_one_in_these_batches_are_compared_once() -> None:
    here, large = (study.compared(ExperimentConfig().replace("train.images_per_id", images)) for images in (1, 4))
    assert set(large) - set(here) == {"hetero_center_triplet"}
    assert set(VARIANTS) - set(large) == {*PIECES} - {*PAPER}


def test_weights_are_chosen_on_validation_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a double of the runs that has nothing else to look at; of equally good tries the first is taken."""
    asked: list[ExperimentConfig] = []

    def goodness(config: ExperimentConfig) -> float:
        slow = config.train.backbone_lr < ExperimentConfig().train.backbone_lr
        if config.loss.terms:
            return 0.5
        if not config.loss.sas_weight:
            return 0.2 + 0.1 * slow
        return 0.1 * config.loss.similarity_weight - 0.01 * slow

    def run_all(configs: list[ExperimentConfig], *_: object) -> list[ExperimentConfig]:
        asked.extend(configs)
        return configs

    monkeypatch.setattr(tuning, "run_all", run_all)
    monkeypatch.setattr(
        tuning, "validated",
        lambda run: {"mean_ap": goodness(run)},
    )  # fmt: skip
    chosen = study.tune(ExperimentConfig(seed=7), ("softmax", "no_mask", "hetero_center"), progress=False)
    assert {one.seed for one in asked} == {7}
    assert len(asked) == 1 + 4 + 4 + 3 * len(study.RATES)
    slower = {"train.backbone_lr": float(f"{ExperimentConfig().train.backbone_lr / 3:.2g}")}
    assert chosen["softmax"].config == variant(ExperimentConfig(seed=7), "softmax").replace(slower)
    assert [one["validation_mean_ap"] for one in chosen["softmax"].tries] == pytest.approx([0.2, 0.3, 0.2])
    assert chosen["hetero_center"].config.loss.terms == "identity 1 + hetero_center 4"
    assert (chosen["no_mask"].config.loss.similarity_weight, chosen["no_mask"].config.loss.mask_value) == (3.0, 0.0)
    assert [one["validation_mean_ap"] for one in chosen["hetero_center"].tries] == [0.5] * 6
    with pytest.raises(ValueError, match=r"data\.validation_fraction is 0\.0"):
        study.tune(ExperimentConfig().replace("data.validation_fraction", 0.0), ("complete",))


def test_a_tuned_study_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    config = CONFIG.replace({"data.validation_fraction": 0.4, "data.train_ids": 12})
    result = study.study(config, ("softmax", "center"), (0, 1), 2, progress=False, tuned=True)
    tries = result["tries"]["center"]
    best = max(tries, key=lambda one: one["validation_mean_ap"])
    assert len(tries) == 4 + len(study.RATES)
    assert len(result["tries"]["softmax"]) == 1 + len(study.RATES)
    weight = best["terms"].split()[-1]
    assert result["labels"]["center"].endswith("center" if weight == "0.003" else f"center {weight}")
    assert len(list(tmp_path.glob("runs/*-seed2-*/report.json"))) == 9, "tried with another seed than the study's"
    assert len(list(tmp_path.glob("runs/*/report.json"))) == 9 + 2 * 2


def test_a_loss_of_ones_own_is_studied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))

    def closer(embeddings):
        return embeddings.square().mean()

    config = CONFIG.replace("loss.terms", "identity 1 + own 1")
    result = study.study(config, ("softmax", "own"), (0, 1), progress=False, own_loss=closer)
    assert set(result["variants"]) == {"softmax", "own"}
    assert result["labels"]["own"].startswith("closer-")
    with pytest.raises(ValueError, match="the config has no loss of one's own"):
        study.study(CONFIG, ("softmax", "own"), (0, 1), progress=False)


def test_cells_of_other_folders_are_other_cells(tmp_path: Path) -> None:
    """Also where folders have one name; a data set may bring its own."""
    roots = [str(tmp_path / name / "data") for name in ("a", "b")]
    config = CONFIG.replace({"data.dataset": "folder", "data.root": roots[0]})
    assert [cell.config.data.root for cell in study.cells(config, {"data.root": roots})] == roots
    sets = ["synthetic", f"regdb:{roots[1]}"]
    found = study.cells(CONFIG, {"data.dataset": sets, "data.split": [1]})
    assert [(cell.config.data.dataset, cell.config.data.root) for cell in found] == [
        ("synthetic", None), ("regdb", roots[1])
    ]  # fmt: skip
    two = study.cells(CONFIG, {"data.dataset": [f"folder:{root}" for root in roots]})
    assert len({str(cell) for cell in two}) == 2
    rows = [{"loss": "softmax", **cell.dials, "dataset": "folder", "seed": 0, "mean_ap": 0.1} for cell in two]
    assert len(Sweep(("data.dataset",), rows).means(("mean_ap",))) == 2, "other people are no other seeds"
    for wrong in ({"data.dataset": ["folder:"]}, {"data.dataset": ["folder:/a"], "data.root": ["/x"]}):
        (cell,) = study.cells(CONFIG, wrong)
        assert "expected one root, either behind the colon or as data.root" in cell.problem


def test_cells_have_names_of_their_own() -> None:
    assert [str(cell) for cell in study.cells(CONFIG, {"data.seed": [3, 4]})] == [
        "complete, data.seed 3, seed 0", "complete, data.seed 4, seed 0"
    ]  # fmt: skip
    terms = {"loss.terms": ["identity 1 + mmd 0.1", "identity 1 + mmd 1"]}
    assert [str(cell) for cell in study.cells(CONFIG, terms)] == [
        "mmd, terms identity 1 + mmd 0.1, seed 0",
        "mmd, seed 0",
    ]
    mine = CONFIG.replace({"loss.own": "closer-1", "loss.terms": "identity 1 + own 1"})
    found = study.cells(mine, {"loss.terms": ["identity 1 + own 1", "identity 1 + own 2"]}, ("own",))
    assert len({str(cell) for cell in found}) == 2
    bad = study.cells(CONFIG, {"train.head_lr": [-1.0]}, seeds=(0, 1))
    assert [str(cell) for cell in bad] == ["complete, head_lr -1.0, seed 0", "complete, head_lr -1.0, seed 1"]


def test_the_margin_of_the_paper_is_one_loss_however_it_is_said() -> None:
    one, other = study.cells(CONFIG, {"loss.margin": [0.3, None, 1.0]}, ("triplet",))
    assert one.config == variant(CONFIG, "triplet")
    assert [one.dials, other.dials] == [{"loss.margin": 0.3}, {"loss.margin": 1.0}], "as they were given"
    several = LossConfig(terms="identity 1 + triplet 1 + arcface 1", margin=0.3)
    assert several.plain() == several, "it is not that of arcface"


def test_a_dial_may_have_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None is a place on the axis of its own, not that of a loss without the dial."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    result = study.sweep(CONFIG, {"loss.margin": [None, 1.0]}, ("softmax", "triplet"), progress=False)
    assert [row["loss.margin"] for row in result.rows] == [None, "none", 1.0]
    lines = {line.name: line for line in over_dial(sweep_points(result), "loss.margin", measure="", title="").data}
    assert lines["softmax"].x == lines["triplet"].x == ("1.0", "none")
    assert len(lines["triplet"].y) == 2


def test_one_damaged_run_costs_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another job of the array; and data that cannot be read are told by the job that was to train on them."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    over = {"loss.mask_value": [0.0, 50.0]}
    study.sweep(CONFIG, over, array=(0, 2), progress=False)
    (run,) = tmp_path.glob("runs/*/")
    (run / "cost.json").write_text('{"sec')
    again = study.sweep(CONFIG, over, progress=False)
    assert [row.get("seconds") is None for row in again.rows] == [True, False]
    monkeypatch.setattr(workers, "Loky", lambda jobs: pytest.fail("what is finished needs no worker"))
    assert study.sweep(CONFIG, over, progress=False).rows == again.rows
    (run / "report.json").write_text("{")
    other = study.sweep(CONFIG, over, array=(1, 2), progress=False)
    assert (len(other.rows), other.failed) == (1, {})
    sets = {"data.dataset": ["synthetic", f"roadscene:{tmp_path / 'nowhere'}"]}
    first = study.sweep(CONFIG, sets, array=(0, 2), progress=False, out=tmp_path / "out")
    assert (len(first.rows), first.failed) == (1, {})
    second = study.sweep(CONFIG, sets, array=(1, 2), progress=False, out=tmp_path / "out")
    assert len(second.rows) == len(second.failed) == 1

"""A whole run and a whole study at toy size, from the reader's own folder of images to the table."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from threadpoolctl import threadpool_info, threadpool_limits

from sa_lab import cli, experiment, losses, study
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, variant
from sa_lab.course import chapters, claims
from sa_lab.course.report_card import embed_validation, report_card
from sa_lab.data import copies
from sa_lab.disk import Refusal
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.evaluation.reports import Report
from sa_lab.evaluation.search import evaluate
from sa_lab.reporting import comparison, studies
from sa_lab.runs import Run, loss_name
from sa_lab.schema import DataError, Embeddings, LeakageError
from sa_lab.study import engines


@pytest.fixture
def config(people_config: ExperimentConfig) -> ExperimentConfig:
    return people_config


def closeness(embeddings, prototypes, labels, modality):
    """A loss of one's own."""
    return losses.absolute_similarity_loss(embeddings, prototypes, labels, modality)


def test_an_own_loss_is_trained_kept_under_its_name_and_graded_on_validation_identities(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    mine = config.replace("loss.terms", "identity 0.3 + own 1")
    own = experiment.run(mine, own_loss=closeness, progress=False)
    assert "-closeness-" in own.folder.name
    assert own.folder == experiment.run(mine, own_loss=closeness, progress=False).folder
    assert np.isfinite(own.metrics()["own"][2:]).all()
    assert np.isnan(own.metrics()["own"][:2]).all(), "the warm-up follows the identity loss alone"
    library = experiment.run(config, progress=False)
    assert library.folder != own.folder
    held = embed_validation(own, progress=False)
    seen = set(own.training_embeddings.prototype_ids.tolist()) | set(own.embeddings.person_ids.tolist())
    assert not seen & set(held.person_ids.tolist()), "neither trained on nor tested on"
    card = report_card({"mine": own, "SA-Softmax": library}, progress=False)
    assert f"{len(np.unique(held.person_ids))} validation identities" in card
    cells = [
        re.search(rf"\| {name} +\| (\d\.\d\d) \[.*\] +\| \d", card.split("spectra overlap")[1])
        for name in ("mine", "SA-Softmax")
    ]
    less = re.search(
        r"mine minus SA-Softmax: modality gap ([+-]\d\.\d\d) \[.*\], (larger|smaller|not told apart)", card
    )
    assert float(less[1]) == pytest.approx(float(cells[0][1]) - float(cells[1][1]), abs=0.011)
    assert re.search(r"mine minus SA-Softmax: mAP [+-]\d+\.\d points \[.*\], (higher|lower|not told apart)", card)
    assert f"{100 * own.metrics()['mean_ap'][-1]:.1f}" in card, "what the run itself logged"
    nobody = replace(config, data=replace(config.data, validation_fraction=0.0))
    with pytest.raises(ValueError, match="validation_fraction is 0"):
        embed_validation(experiment.run(nobody, progress=False), progress=False)


def test_run_is_made_once_and_reused(config: ExperimentConfig, tmp_path: Path) -> None:
    rows: list = []
    run = experiment.run(config, tmp_path / "run", watch=rows.append, progress=False)
    assert len(rows) == 6
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "config.json", "cost.json", "embeddings.npz", "images.csv", "made_of.json", "metrics.csv", "model.pt",
        "probes", "queries-visible-to-infrared.csv", "queries.csv", "report-visible-to-infrared.json", "report.json",
        "training_embeddings.npz",
    ]  # fmt: skip
    kept = experiment.run(config, tmp_path / "kept", progress=False, keep_checkpoint=True)
    assert (kept.folder / "checkpoint.pt").is_file()
    assert run.config == config
    trained, tested = set(run.training_embeddings.person_ids.tolist()), set(run.embeddings.person_ids.tolist())
    assert not trained & tested
    assert set(run.embeddings.prototype_ids.tolist()) == trained
    assert run.metrics()["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert np.isfinite(run.metrics()["mean_ap"][-1])
    before = (run.folder / "report.json").stat().st_mtime_ns
    experiment.run(config, tmp_path / "run", watch=rows.append, progress=False)
    assert len(rows) == 6
    assert (run.folder / "report.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="is of a run of another config"):
        experiment.run(replace(config, seed=1), tmp_path / "run", progress=False)


def test_probes_follow_the_same_people_and_change_nothing(config: ExperimentConfig, tmp_path: Path) -> None:
    config = replace(config, train=replace(config.train, num_probes=4))
    run = experiment.run(config, tmp_path / "run", progress=False)
    probes = run.probes()
    assert list(probes) == [0, 2, 4, 6]
    assert len({probe.paths for probe in probes.values()}) == 1
    first, last = probes[0], probes[6]
    assert set(first.prototype_ids.tolist()) < set(first.person_ids.tolist()), "validation identities have none"
    assert not set(first.person_ids.tolist()) & set(run.embeddings.person_ids.tolist())
    assert np.abs(first.prototypes).max() < 0.01 < np.abs(first.prototypes - last.prototypes).max()
    trained = run.training_embeddings
    rows = np.flatnonzero(np.isin(trained.prototype_ids, last.prototype_ids))
    known = trained.prototypes[:, [*rows, *(rows + len(trained.prototype_ids))]]
    np.testing.assert_array_equal(last.prototypes, known)
    silent = replace(config, train=replace(config.train, num_probes=0))
    other = experiment.run(silent, tmp_path / "silent", progress=False)
    assert not other.probes()
    np.testing.assert_array_equal(other.metrics()["total"], run.metrics()["total"])


def test_training_identities_cannot_be_tested_on(config: ExperimentConfig, tmp_path: Path) -> None:

    run = experiment.run(config, tmp_path / "run", progress=False)
    with pytest.raises(LeakageError, match="were trained on"):
        evaluate(run.training_embeddings, protocols_of(run.embeddings.dataset)[0])


@pytest.mark.usefixtures("here")
def test_study_reuses_runs_and_its_numbers_are_those_of_the_runs(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    out = tmp_path / "results" / "study.json"
    result = study.study(config, ("softmax", "complete"), (0, 1), jobs=2, out=out, progress=False)
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    one = Run(experiment.run_folder(variant(config, "complete").seeded(1)))
    report = json.loads((one.folder / "report.json").read_text())
    assert result["variants"]["complete"]["mean_ap"]["values"][1] == report["measures"]["mean_ap"]["mean"]
    difference = result["variants"]["complete"]["rank_1"]["minus_softmax"]["mean"]
    means = [result["variants"][name]["rank_1"]["mean"] for name in ("complete", "softmax")]
    assert difference == pytest.approx(means[0] - means[1])
    assert studies.table(result).count("\n") == 3
    assert len(claims.verdicts(result)) == 3
    text = comparison.tables_of([one.folder, experiment.run_folder(variant(config, "softmax").seeded(1))])
    assert "| softmax  | 1      |" in text
    assert "Backbone: resnet18." in text
    assert one.folder.name in text
    assert {"date", "commit", "library", "torch", "machine"} < set(result)
    both = claims.joined({"one": result, "other": result})
    assert studies.table(both).count("\n") == 3
    assert claims.paired(both, "one", "other", "mean_ap")["mean"] == 0
    with pytest.raises(ValueError, match=r"the seeds of studies are .*\[0, 1\].*\[0, 2\].*, expected the same"):
        claims.joined({"one": result, "other": result | {"seeds": [0, 2]}})
    with pytest.raises(ValueError, match="at least two"):
        study.study(config, ("softmax",), (0,), progress=False)


def test_workers_of_a_study_keep_to_their_threads() -> None:
    with threadpool_limits(2):
        engines._begin_worker(1)
        assert {library["num_threads"] for library in threadpool_info()} == {1}


def test_student_interval_by_hand() -> None:
    interval = study.student_interval(np.array([1.0, 2.0, 3.0]))
    assert interval["mean"] == 2
    assert interval["high"] - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)  # t(0.975, 2) * sd / sqrt(3)


def test_command_line_from_files_to_report(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    cli.main(["prepare", "folder", "--root", str(config.data.root), "--height", "32", "--width", "16"])
    assert "train visible images" in capsys.readouterr().out
    run = experiment.run(config, tmp_path / "run", progress=False).folder
    before = (run / "report.json").read_text()
    cli.main(["evaluate", str(run)])
    assert (run / "report.json").read_text() == before
    cli.main(["evaluate", str(run), "--protocol", "visible-to-infrared", "--rerank", "4", "2", "0.3"])
    assert "k-reciprocal re-ranking (k1 4, k2 2" in capsys.readouterr().out
    names = {file.name: Report.load(run, file.stem[6:]).protocol["name"] for file in run.glob("report*.json")}
    assert names == {
        "report.json": "infrared-to-visible",
        "report-visible-to-infrared.json": "visible-to-infrared",
        "report-visible-to-infrared-reranked-4-2-0.3.json": "visible-to-infrared",
    }
    cli.main(["embed", str(run), "--out", str(tmp_path / "all.npz")])
    assert Embeddings.load(tmp_path / "all.npz").prototypes is not None
    shutil.copytree(str(config.data.root), tmp_path / "copy")
    cli.main(["embed", str(run), "--root", str(tmp_path / "copy"), "--out", str(tmp_path / "b.npz")])
    copied, own = Embeddings.load(tmp_path / "b.npz"), Embeddings.load(run / "embeddings.npz")
    np.testing.assert_array_equal(copied.prototypes, own.prototypes)  # the same images, wherever they lie
    assert set(copied.seen_ids.tolist()) == set(own.seen_ids.tolist())
    for spectrum in ("visible", "infrared"):
        shutil.rmtree(tmp_path / "copy" / spectrum / "p11")
    cli.main(["embed", str(run), "--root", str(tmp_path / "copy"), "--out", str(tmp_path / "c.npz")])
    assert Embeddings.load(tmp_path / "c.npz").prototypes is None
    cli.main(["embed", str(run), "--part", "test", "--dtype", "float32", "--out", str(tmp_path / "test.npz")])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="were trained on"):
        cli.main(["evaluate", str(tmp_path / "all.npz"), "--protocol", "infrared-to-visible"])
    scored = tmp_path / "theirs"
    both = ["--protocol", "infrared-to-visible", "visible-to-infrared"]
    cli.main(["evaluate", str(tmp_path / "test.npz"), *both, "--out", str(scored), "--method", "theirs"])
    with pytest.raises(SystemExit, match="holds another evaluation: method theirs there"):
        cli.main(["evaluate", str(tmp_path / "test.npz"), "--out", str(scored)])
    with pytest.raises(SystemExit, match="do not apply to a run, which knows its own"):
        cli.main(["evaluate", str(run), "--split", "2"])
    with pytest.raises(SystemExit, match="a folder is given twice"):
        cli.main(["report", str(run), str(run)])
    assert {report.protocol["name"] for report in Report.load_all(scored)} == set(both[1:])
    texts = {}
    for style in ("console", "latex", "csv", "markdown"):
        cli.main(["report", str(run), str(scored), "--style", style, "--out", str(tmp_path / "report.md")])
        texts[style] = (tmp_path / "report.md").read_text()
        assert "Rank-1" in texts[style]
    assert {row["protocol"] for row in csv.DictReader(io.StringIO(texts["csv"]))} == set(both[1:])
    outside = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "", texts["latex"], flags=re.S)
    assert all(line.startswith("% ") for line in outside.splitlines() if line)
    assert (tmp_path / "report.md").read_text().count("| theirs ") == 2
    capsys.readouterr()
    cli.main(["compare", str(run), str(scored)])
    assert "p-value" in capsys.readouterr().out


def test_failed_preparation_leaves_nothing_behind(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sa_lab.data import prepare

    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))

    broken = tmp_path / "broken"
    for spectrum in ("visible", "infrared"):
        for person in "ab":
            (broken / spectrum / person).mkdir(parents=True)
            (broken / spectrum / person / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"(?s)4 images cannot be read.*a/0\.png.*b/0\.png"):
        prepare(replace(config.data, root=str(broken)), progress=False)
    assert [path.name for path in (tmp_path / "prepared").iterdir() if path.is_dir()] == ["contents"]


def test_changed_images_are_never_served_from_an_old_run(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    root = tmp_path / "people"
    shutil.copytree(str(config.data.root), root)
    config = replace(config, data=replace(config.data, root=str(root)))
    first = experiment.run(config, progress=False)
    named = experiment.run(config, tmp_path / "named", progress=False)
    shutil.copy(root / "visible" / "p00" / "0.png", root / "visible" / "p00" / "9.png")
    assert experiment.run_folder(config) != first.folder
    with pytest.raises(ValueError, match=r"made of other images than these \(data \w{8} there, \w{8} here\)"):
        experiment.run(config, named.folder, progress=False)


def test_dials_that_cannot_work_are_refused(config: ExperimentConfig, tmp_path: Path) -> None:
    endless = replace(config, loss=LossConfig(warmup_steps=6))
    with pytest.raises(ValueError, match="warmup_steps is 6, expected fewer than the run's 6 steps"):
        experiment.run(endless, tmp_path / "a", progress=False)
    crowded = replace(config, train=replace(config.train, ids_per_batch=32))
    with pytest.raises(ValueError, match=r"--train\.ids-per-batch 6"):
        experiment.run(crowded, tmp_path / "b", progress=False)


def test_a_first_look_must_outlast_the_warm_up() -> None:
    with pytest.raises(ValueError, match="--epochs is 1, expected at least 2: the warm-up takes 60 steps"):
        chapters.run_course(ExperimentConfig().replace("train.num_epochs", 1))


@pytest.mark.parametrize(
    ("values", "name"),
    [({}, "complete"), ({"mask_value": 0.0}, "no_mask"), ({"similarity_weight": 0.0}, "no_absolute"),
     ({"sas_weight": 0.0, "similarity_weight": 0.0}, "softmax"), ({"sas_weight": 0.5}, "complete, sas_weight 0.5"),
     ({"mask_value": 5.0}, "complete, mask_value 5"), ({"asynchronous": False}, "synchronous"),
     ({"mask_value": 0.0, "similarity_weight": 2.0}, "no_mask, similarity_weight 2")],
)  # fmt: skip
def test_a_loss_has_one_name(values: dict, name: str) -> None:
    assert loss_name(ExperimentConfig(loss=LossConfig(warmup_steps=7, **values))) == name


@pytest.fixture(scope="module")
def toy(people_config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    """Six steps on a generated copy of RegDB with 8 + 4 identities."""
    root = tmp_path_factory.mktemp("copies") / "regdb"
    copies.write("regdb", root, train_ids=8, test_ids=4)
    data = DataConfig(dataset="regdb", root=str(root), height=32, width=16, validation_fraction=0.25)
    return replace(people_config, data=data).replace("model.backbone", "mobilenet_v2")


@pytest.mark.usefixtures("narrow")
def test_regdb_is_an_experiment_of_ten_trainings(
    toy: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    runs = experiment.run_splits(toy, tmp_path / "ten", progress=False)
    assert [run.config.data.split for run in runs] == list(range(1, 11))
    assert set((tmp_path / "ten").glob("split*")) == {run.folder for run in runs}  # as a shell would find them
    folders = {path.name for path in (tmp_path / "prepared").iterdir() if path.is_dir()} - {"contents"}
    assert len(folders) == 1  # the pixels are shared
    for run in runs:
        tested = run.embeddings
        assert not set(tested.seen_ids.tolist()) & set(tested.person_ids.tolist())
        assert len(tested.seen_ids) == 8  # also those that only the choice of the model has seen
    text = comparison.tables_of([run.folder for run in runs])
    assert "splits 1, 2, 3, 4, 5, 6, 7, 8, 9, 10" in text
    assert "(10 splits)" in text
    assert "arXiv" not in text  # nothing published stands beside a generated copy
    rank_1 = [run.report.measures["rank_1"].mean for run in runs]
    assert f"{100 * np.mean(rank_1):.1f} ± {100 * np.std(rank_1, ddof=1):.1f}" in text
    other = str(tmp_path / "other.npz")
    with pytest.raises(SystemExit, match="of split 2, but these descriptors are of split 1"):
        cli.main(["evaluate", str(runs[0].folder), "--protocol", "regdb-visible-to-thermal-2"])
    cli.main(["embed", str(runs[0].folder), "--split", "2", "--part", "test", "--out", other])
    with pytest.raises(SystemExit, match=r"identities \[.*\] were trained on"):
        cli.main(["evaluate", other, "--protocol", "regdb-visible-to-thermal-2"])
    with pytest.raises(ValueError, match="expected regdb"):
        experiment.run_splits(replace(toy, data=DataConfig()))


@pytest.mark.parametrize("dataset", ["sysu", "llcm"])
def test_every_layout_runs_from_files_to_all_its_protocols(
    dataset: str, config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    root = tmp_path / "copy"
    cli.main(["generate", dataset, str(root), "--train-ids", "6", "--test-ids", "4", "--images-per-camera", "2"])
    cli.main(["prepare", dataset, "--root", f"{root}/", "--height", "32", "--width", "16"])
    shown = capsys.readouterr().out
    assert f"{dataset}-generated" in shown
    assert "differs by" in shown
    data = DataConfig(dataset=dataset, root=str(root), height=32, width=16, validation_fraction=0.0)
    run = experiment.run(replace(config, data=data), progress=False)
    reports = {report.protocol["name"]: report for report in Report.load_all(run.folder)}
    assert set(reports) == {one.name for one in protocols_of(dataset, official=True)}
    assert len(reports) == (8 if dataset == "sysu" else 2)
    assert next(iter(reports)) == protocols_of(dataset)[0].name
    again = evaluate(run.embeddings, protocols_of(dataset)[1])
    assert again.measures == reports[again.protocol["name"]].measures


def test_a_reference_checkpoint_is_scored(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and shapes of a published checkpoint with as many identities as the data set; and with another number."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    shapes = json.loads((Path(__file__).parent / "golden" / "reference_checkpoint_keys.json").read_text())
    generator = torch.Generator().manual_seed(0)
    state = {
        part: {
            name: 0.05 * torch.randn(shape, generator=generator) if len(shape) > 1 else torch.ones(shape)
            for name, shape in shapes[part].items()
        }
        for part in ("net", "add_net")
    }
    besides = {"mAP": np.float64(0.5), "cmc": np.ones(20), "epoch": 3, "args": argparse.Namespace(lr=0.1, gpu="0")}
    torch.save({"net": state["net"], **besides}, tmp_path / "reference.t")
    torch.save({"net": state["add_net"], **besides}, tmp_path / "reference_add.t")
    images = ["--dataset", "folder", "--height", "32", "--width", "16", "--device", "cpu"]
    root = tmp_path / "seven"
    for person in range(10):
        for spectrum in ("visible", "infrared"):
            shutil.copytree(Path(str(config.data.root)) / spectrum / f"p{person:02}", root / spectrum / f"p{person:02}")
    cli.main(["evaluate", str(tmp_path / "reference.t"), "--root", str(root), *images])
    assert "infrared-to-visible" in capsys.readouterr().out
    folder = tmp_path / "evaluations" / "reference"
    assert len(Report.load_all(folder)) == 2
    assert len(Embeddings.load(folder / "embeddings.npz").prototype_ids) == 7
    eight = ["--method", "eight", "--root", str(config.data.root)]
    with pytest.raises(SystemExit, match="was trained on 7 identities, but folder has 8"):
        cli.main(["evaluate", str(tmp_path / "reference.t"), *eight, *images])
    assert not (tmp_path / "evaluations" / "eight" / "source.json").exists(), "another root can still be named"
    with pytest.raises(SystemExit, match="a checkpoint does not name its data set"):
        cli.main(["evaluate", str(tmp_path / "reference.t"), "--dataset", "regdb", "--root", str(root)])
    (tmp_path / "reference_add.t").rename(tmp_path / "elsewhere.t")
    cli.main(["evaluate", str(tmp_path / "reference.t"), "--method", "alone", "--root", str(root), *images])
    alone = tmp_path / "evaluations" / "alone"
    assert Embeddings.load(alone / "embeddings.npz").prototypes is None
    assert Report.load_all(alone)[0].measures == Report.load_all(folder)[0].measures
    with pytest.raises(SystemExit, match=r"elsewhere\.t: this file holds the prototypes alone; give NAME\.t"):
        cli.main(["evaluate", str(tmp_path / "elsewhere.t"), "--root", str(root), *images])
    (tmp_path / "other.t").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match=r"other\.t: .*damaged, or no file of weights"):
        cli.main(["evaluate", str(tmp_path / "other.t"), "--root", str(root), *images])


def test_rows_go_to_tensorboard_and_make_no_other_run(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    run = experiment.run(config.replace("train.log", "tensorboard"), progress=False)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    for name in ("identity", "total", "feature_gradient", "learning_rate", "images_per_second"):
        logged = [scalar.value for scalar in events.Scalars(name)]
        assert logged == pytest.approx(run.metrics()[name].tolist())
    assert experiment.run_folder(config) == run.folder
    monkeypatch.setattr("sa_lab.training.fit.find_spec", lambda _: None)
    with pytest.raises(Refusal, match=r"pip install 'sa-lab\[tensorboard\]'"):
        experiment.run(config.replace({"train.log": "tensorboard", "seed": 9}), progress=False)

"""A whole run and a whole study at toy size, from the reader's own folder of images to the table."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sa_lab import cli, experiment, sweeps
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig, variant
from sa_lab.evaluation import LeakageError
from sa_lab.schema import DataError, Embeddings


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    """12 identities, 3 images a spectrum, as files; a network of two parts for six steps."""
    root = tmp_path_factory.mktemp("people")
    for person in range(12):
        for spectrum in ("visible", "infrared"):
            for k in range(3):
                rng = np.random.default_rng([person, k])
                pixels = rng.integers(0, 90, (32, 16, 3)) + np.random.default_rng(person).integers(40, 160, 3)
                image = Image.fromarray(pixels.astype(np.uint8))
                path = root / spectrum / f"p{person:02}" / f"{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                (image.convert("L") if spectrum == "infrared" else image).save(path)
    return ExperimentConfig(
        data=DataConfig(dataset="folder", root=str(root), height=32, width=16, validation_fraction=0.25),
        model=ModelConfig(backbone="resnet18", num_parts=1, weights="random"),
        loss=LossConfig(warmup_steps=2),
        train=TrainConfig(ids_per_batch=3, images_per_id=2, num_epochs=2, steps_per_epoch=3, threads=1, device="cpu"),
    )


def test_run_is_made_once_and_reused(config: ExperimentConfig, tmp_path: Path) -> None:
    rows: list = []
    run = experiment.run(config, tmp_path / "run", watch=rows.append, progress=False)
    assert len(rows) == 6
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "checkpoint.pt", "config.json", "embeddings.npz", "made_of.json", "metrics.csv", "model.pt", "queries.csv",
        "report.json", "training_embeddings.npz",
    ]  # fmt: skip
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
    with pytest.raises(ValueError, match="holds the run of another config"):
        experiment.run(replace(config, seed=1), tmp_path / "run", progress=False)


def test_training_identities_cannot_be_tested_on(config: ExperimentConfig, tmp_path: Path) -> None:
    from sa_lab import evaluation

    run = experiment.run(config, tmp_path / "run", progress=False)
    with pytest.raises(LeakageError, match="were trained on"):
        evaluation.evaluate(run.training_embeddings, experiment.protocol_of(config.data))


def test_study_reuses_runs_and_its_numbers_are_those_of_the_runs(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    out = tmp_path / "results" / "study.json"
    result = sweeps.study(config, ("softmax", "complete"), (0, 1), jobs=2, out=out, progress=False)
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    one = experiment.Run(experiment.run_folder(replace(variant(config, "complete"), seed=1)))
    report = json.loads((one.folder / "report.json").read_text())
    assert result["variants"]["complete"]["mean_ap"]["values"][1] == report["measures"]["mean_ap"]["mean"]
    difference = result["variants"]["complete"]["rank_1"]["minus_softmax"]["mean"]
    means = [result["variants"][name]["rank_1"]["mean"] for name in ("complete", "softmax")]
    assert difference == pytest.approx(means[0] - means[1])
    assert sweeps.table(result).count("\n") == 3
    assert len(sweeps.verdicts(result)) == 3
    text = sweeps.compare([one, experiment.Run(experiment.run_folder(replace(variant(config, "softmax"), seed=1)))])
    assert "| softmax | 1 |" in text
    assert one.folder.name in text
    with pytest.raises(ValueError, match="at least two"):
        sweeps.study(config, ("softmax",), (0,), progress=False)


def test_student_interval_by_hand() -> None:
    interval = sweeps.student_interval(np.array([1.0, 2.0, 3.0]))
    assert interval["mean"] == 2
    assert interval["high"] - 2 == pytest.approx(4.302653 / np.sqrt(3), rel=1e-5)  # t(0.975, 2) * sd / sqrt(3)


def test_command_line_from_files_to_report(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    data = ["--dataset", "folder", "--root", str(config.data.root), "--height", "32", "--width", "16"]
    cli.main(["prepare", *data])
    assert "visible" in capsys.readouterr().out
    run = experiment.run(config, tmp_path / "run", progress=False).folder
    cli.main(["evaluate", str(run), "--protocol", "visible-to-infrared"])
    names = {
        file: json.loads((run / file).read_text())["protocol"]["name"] for file in os.listdir(run) if "report" in file
    }
    assert names == {"report.json": "infrared-to-visible", "report-visible-to-infrared.json": "visible-to-infrared"}
    cli.main(["embed", str(run), "--out", str(tmp_path / "all.npz")])
    assert Embeddings.load(tmp_path / "all.npz").prototypes is not None
    cli.main(
        ["embed", str(run), "--dataset", "folder", "--root", str(config.data.root), "--out", str(tmp_path / "b.npz")]
    )
    assert Embeddings.load(tmp_path / "b.npz").prototypes is None
    cli.main(["report", str(run), "--out", str(tmp_path / "report.md")])
    assert "Rank-1" in (tmp_path / "report.md").read_text()


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
    assert not [path for path in (tmp_path / "prepared").iterdir() if path.is_dir()]


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
    with pytest.raises(ValueError, match="was made of another data"):
        experiment.run(config, named.folder, progress=False)


def test_dials_that_cannot_work_are_refused(config: ExperimentConfig, tmp_path: Path) -> None:
    endless = replace(config, loss=LossConfig(warmup_steps=6))
    with pytest.raises(ValueError, match="warmup_steps is 6, expected fewer than the run's 6 steps"):
        experiment.run(endless, tmp_path / "a", progress=False)
    crowded = replace(config, train=replace(config.train, ids_per_batch=32))
    with pytest.raises(ValueError, match=r"--train\.ids-per-batch 6"):
        experiment.run(crowded, tmp_path / "b", progress=False)


@pytest.mark.parametrize(
    ("values", "name"),
    [({}, "complete"), ({"mask_value": 0.0}, "no_mask"), ({"similarity_weight": 0.0}, "no_absolute"),
     ({"sas_weight": 0.0, "similarity_weight": 0.0}, "softmax"), ({"sas_weight": 0.5}, "custom")],
)  # fmt: skip
def test_a_loss_has_one_name(values: dict, name: str) -> None:
    assert experiment.loss_name(ExperimentConfig(loss=LossConfig(warmup_steps=7, **values))) == name

"""What is reused and what is not: the library's code, losses of one's own, images, dials, people."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import unicodedata
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sa_lab import cli, experiment, provenance
from sa_lab.config import DataConfig, ExperimentConfig
from sa_lab.data import copies, folder, list_images
from sa_lab.data.files import person_of
from sa_lab.disk import read_csv, read_json
from sa_lab.evaluation.reports import Report
from sa_lab.provenance import TRAINING, code_digest, function_name
from sa_lab.schema import DataError, Embeddings

LIBRARY = Path(provenance.__file__).parent


# ---- the library's own code


EDITS: dict[str, tuple[str, Any, bool]] = {
    "a comment": ("losses.py", lambda text: text + "\n# a remark\n", True),
    "a docstring": ("losses.py", lambda text: text.replace("the ordinary softmax baseline.", "the baseline."), True),
    "layout": ("losses.py", lambda text: text.replace("return rows // 2", "return (\n        rows // 2\n    )"), True),
    "a plot": ("plots/style.py", lambda text: text + "\nCOLOUR = 1\n", True),
    "a loss": ("losses.py", lambda text: text.replace("square().sum(1).mean()", "square().sum(1).mean() * 100"), False),
    "a default": (
        "losses.py",
        lambda text: text.replace("mask_value: float = 50.0", "mask_value: float = 49.0"),
        False,
    ),
    "a sampler": ("samplers.py", lambda text: text.replace("self.epoch, self.step = 0, 0", "self.step = 0"), False),
    "a source": ("data/folder.py", lambda text: text.replace("modality + 1", "modality + 2"), False),
    "a metric": ("evaluation/metrics.py", lambda text: text + "\nEXTRA = 1\n", False),
}


@pytest.mark.parametrize("name", EDITS)
def test_edits_of_the_library(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, edit, same = EDITS[name]
    shutil.copytree(LIBRARY, tmp_path / "sa_lab", ignore=shutil.ignore_patterns("__pycache__"))
    before = {part: provenance._digest_on_disk(part) for part in TRAINING}
    monkeypatch.setattr(provenance, "_HERE", tmp_path / "sa_lab")
    assert {part: provenance._digest_on_disk(part) for part in TRAINING} == before
    text = (tmp_path / "sa_lab" / file).read_text()
    assert edit(text) != text, "or the test shows nothing"
    (tmp_path / "sa_lab" / file).write_text(edit(text))
    assert ({part: provenance._digest_on_disk(part) for part in TRAINING} == before) == same
    if not same:
        with pytest.raises(ValueError, match="of the library changed after this process had loaded it; restart"):
            code_digest(TRAINING)


# ---- losses of one's own

MARGIN = 1.0


def made(margin: float, scale: Any = 1.0):
    def loss(embeddings, prototypes, labels, modality):
        return (embeddings - margin).relu().sum() * scale

    return loss


def with_default(embeddings, prototypes, labels, modality, margin=1.0):
    return (embeddings - margin).sum()


def with_global(embeddings, prototypes, labels, modality):
    return helper(embeddings).sum()


def helper(values):
    return values * MARGIN


def of_key_a(embeddings, prototypes, labels, modality):
    return sum([table["a"] for table in TABLES]) * embeddings.sum()


def of_key_b(embeddings, prototypes, labels, modality):
    return sum([table["b"] for table in TABLES]) * embeddings.sum()


def with_docstring(embeddings, prototypes, labels, modality):
    """What it is for."""
    return embeddings.sum()


def without_docstring(embeddings, prototypes, labels, modality):
    return embeddings.sum()


of_key_b.__name__ = of_key_b.__qualname__ = "of_key_a"
without_docstring.__name__ = without_docstring.__qualname__ = "with_docstring"
TABLES = [{"a": 1, "b": 2}]


class Weighted(nn.Module):
    def __init__(self, weight: float, kept: Any = None) -> None:
        super().__init__()
        self.scale, self.weight = nn.Parameter(torch.tensor(2.0)), weight
        self.kept = kept

    def forward(self, embeddings, prototypes, labels, modality):
        return (self.scale * self.weight * embeddings).sum()


class Plain:
    margin = 3

    def __init__(self, power: float) -> None:
        self.power = power

    def __call__(self, embeddings, prototypes, labels, modality):
        return (embeddings**self.power).sum()


def named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


PAIRS: dict[str, tuple[Any, Any, bool]] = {
    "made twice": (lambda: made(1.0), lambda: made(1.0), True),
    "closure": (lambda: made(1.0), lambda: made(2.0), False),
    "closure over a tensor": (lambda: made(torch.ones(3)), lambda: made(torch.tensor([1.0, 1, 2])), False),
    "equal tensors": (lambda: made(torch.ones(3)), lambda: made(torch.ones(3)), True),
    "closure over an array": (lambda: made(np.arange(3)), lambda: made(np.arange(3) + 1), False),
    "closure over a dictionary": (lambda: made({"a": 1, "b": 2}), lambda: made({"b": 2, "a": 1}), True),
    "closure over a set": (lambda: made(frozenset("abc")), lambda: made(frozenset("abd")), False),
    "closure over a function": (lambda: made(1, made(1)), lambda: made(1, made(2)), False),
    "partial": (lambda: partial(with_default, margin=1), lambda: partial(with_default, margin=2), False),
    "text in a comprehension": (lambda: of_key_a, lambda: of_key_b, False),
    "docstring": (lambda: with_docstring, lambda: without_docstring, True),
    "generator's state": (lambda: made(torch.Generator()), lambda: made(torch.Generator().manual_seed(3)), False),
    "module": (lambda: Weighted(1.0), lambda: Weighted(1.0), True),
    "attribute of a module": (lambda: Weighted(1.0), lambda: Weighted(2.0), False),
    "plain tensor in a module": (lambda: Weighted(1.0, torch.ones(2)), lambda: Weighted(1.0, torch.zeros(2)), False),
    "module inside": (lambda: Weighted(1.0, nn.Dropout(0.1)), lambda: Weighted(1.0, nn.Dropout(0.2)), False),
    "object": (lambda: Plain(2.0), lambda: Plain(3.0), False),
    "equal objects": (lambda: Plain(2.0), lambda: Plain(2.0), True),
    "method": (lambda: Plain(2.0).__call__, lambda: Plain(3.0).__call__, False),
    "other library": (lambda: nn.functional.cross_entropy, lambda: nn.functional.cross_entropy, True),
}


@pytest.mark.parametrize("name", PAIRS)
def test_losses_of_ones_own_are_told_apart(name: str) -> None:
    first, second, same = PAIRS[name]
    assert (function_name(first()) == function_name(second())) == same
    assert first().__class__ is not None


def test_changes_behind_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults, globals, helpers, state, class attributes."""
    names = [function_name(with_global)]
    monkeypatch.setattr(sys.modules[__name__], "MARGIN", 2.0)
    names.append(function_name(with_global))
    monkeypatch.setattr(sys.modules[__name__], "helper", lambda values: values / MARGIN)
    names.append(function_name(with_global))
    default = function_name(with_default)
    monkeypatch.setattr(with_default, "__defaults__", (2.0,))
    assert function_name(with_default) != default
    module = Weighted(1.0)
    states = [function_name(module)]
    with torch.no_grad():
        module.scale += 1
    states.append(function_name(module))
    plain = Plain(2.0)
    attributes = [function_name(plain)]
    monkeypatch.setattr(Plain, "margin", 4)
    attributes.append(function_name(plain))
    for found in (names, states, attributes):
        assert len(set(found)) == len(found), found


def test_what_cannot_be_hashed_is_never_reused_and_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with Path(__file__).open(encoding="utf-8") as file:
        first, second = made(1.0, file), made(1.0, file)
        assert function_name(first) == function_name(first), "one run can go on within its process"
        assert function_name(first) != function_name(second)
    said = capsys.readouterr().err
    assert said.count("depends on a value of type TextIOWrapper, which cannot be told apart") == 2
    assert "its run is never reused" in said


def test_a_module_inside_of_a_users_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("from mine import deep\n", encoding="utf-8")
    (tmp_path / "mine" / "deep.py").write_text("MARGIN = 1.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine

    def loss(embeddings, prototypes, labels, modality):
        return (embeddings - mine.deep.MARGIN).sum()

    first = function_name(loss)
    assert function_name(loss) == first
    monkeypatch.setattr(mine.deep, "MARGIN", 2.0)
    assert function_name(loss) != first


def test_names_are_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        textwrap.dedent("""
        import math, torch
        WORDS, TABLE = {"a", "b", "c"}, {"x": torch.ones(2)}

        def loss(embeddings, prototypes, labels, modality):
            return embeddings.sum() * len(WORDS) * math.pi if "a" in {"a", "q", "r"} else TABLE["x"]
        """)
    )
    script = "import mine; from sa_lab.provenance import function_name; print(function_name(mine.loss))"
    path = f"{tmp_path}:{LIBRARY.parent}"
    told = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(told) == 1
    assert told.pop().startswith("loss-")


def test_a_margin_trains_anew(people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    runs = [experiment.run(people_config, own_loss=made(margin), progress=False) for margin in (0.5, 3.0, 0.5)]
    assert runs[0].folder == runs[2].folder != runs[1].folder
    assert not np.array_equal(runs[0].metrics()["total"], runs[1].metrics()["total"])


# ---- dials and images


def test_a_refusal_names_the_dial_with_both_values(people_config: ExperimentConfig, tmp_path: Path) -> None:
    run = experiment.run(people_config, tmp_path / "run", progress=False)
    for dial, value, told in (
        ("loss.mask_value", 0, r"loss\.mask_value 50\.0 there, 0\.0 here"),
        ("seed", 3, "seed 0 there, 3 here"),
        ("train.head_lr", 0.5, r"train\.head_lr 0\.002 there, 0\.5 here"),
    ):
        with pytest.raises(ValueError, match=rf"is of a run of another config: {told}; remove"):
            experiment.run(people_config.replace(dial, value), run.folder, progress=False)
    (run.folder / "made_of.json").unlink()
    with pytest.raises(ValueError, match="holds a run that does not say what it was made of"):
        experiment.run(people_config, run.folder, progress=False)


def test_a_copy_of_the_images_with_other_times_is_the_same_run(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    first = experiment.run(people_config, progress=False)
    shutil.copytree(str(people_config.data.root), tmp_path / "local", copy_function=shutil.copyfile)
    for file in (tmp_path / "local").rglob("*.png"):
        os.utime(file, (1, 1))
    moved = replace(people_config, data=replace(people_config.data, root=str(tmp_path / "local")))
    assert experiment.run_folder(moved) == first.folder
    assert experiment.run(moved, progress=False).folder == first.folder
    made_of, images = read_json(first.folder / "made_of.json"), read_csv(first.folder / "images.csv")
    assert {"torch", "cpu", "library", "code", "data"} == set(made_of)
    assert len(set(images["content"])) == len(images["path"]) == 72
    assert set(images["part"]) == {"train", "test"}


def test_galleries_that_are_fetched_later_are_evaluated_without_a_training(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    copies.write("sysu", tmp_path / "sysu", train_ids=8, test_ids=4, images_per_camera=2)
    galleries = tmp_path / "sysu" / "exp" / "rand_perm_cam.mat"
    galleries.rename(tmp_path / "later.mat")
    data = DataConfig(dataset="sysu", root=str(tmp_path / "sysu"), height=32, width=16, validation_fraction=0.25)
    run = experiment.run(replace(people_config, data=data), progress=False)
    weights, before = (run.folder / "model.pt").stat().st_mtime_ns, Report.load_all(run.folder)
    assert not any("official" in report.protocol["name"] for report in before)
    (tmp_path / "later.mat").rename(galleries)
    again = experiment.run(replace(people_config, data=data), progress=False)
    assert (again.folder, (again.folder / "model.pt").stat().st_mtime_ns) == (run.folder, weights)
    after = {report.protocol["name"]: report for report in Report.load_all(again.folder)}
    assert sum("official" in name for name in after) == 4
    for report in before:
        assert after[report.protocol["name"]].measures == report.measures


# ---- people


def test_people_are_their_names(people_config: ExperimentConfig, tmp_path: Path) -> None:
    """Others may come, go or be renamed."""
    root = tmp_path / "people"
    shutil.copytree(str(people_config.data.root), root)
    before = folder.listing(root)
    of_path = dict(zip(before.paths, before.person_ids.tolist(), strict=True))
    for spectrum in ("visible", "infrared"):
        (root / spectrum / "p00").rename(root / spectrum / "zz")
        shutil.copytree(root / spectrum / "p05", root / spectrum / "a new one")
        shutil.rmtree(root / spectrum / "p03")
    after = folder.listing(root)
    for path, person in zip(after.paths, after.person_ids.tolist(), strict=True):
        assert of_path.get(path, person) == person
    assert {person_of("zz"), person_of("a new one")} <= set(after.person_ids.tolist())


def test_nfc_and_nfd_are_one_person(tmp_path: Path) -> None:
    for spectrum, names in (("visible", ("zoe\u0308", "ole")), ("infrared", ("zo\u00eb", "ole"))):
        for name in names:
            (tmp_path / spectrum / name).mkdir(parents=True)
            Image.new("L", (8, 16)).save(tmp_path / spectrum / name / "0.png")
    table = folder.listing(tmp_path)
    assert len(set(table.person_ids.tolist())) == 2
    assert all(path == unicodedata.normalize("NFC", path) for path in table.paths)
    assert table.read(0).size == table.read(len(table) - 1).size


def test_a_renamed_person_cannot_be_tested_on(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images say who was trained on; an innocent one with a name of somebody trained on is not blamed."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    run = experiment.run(people_config, tmp_path / "run", progress=False)
    trained = {path.split("/")[1] for path in run.training_embeddings.paths}
    root = tmp_path / "renamed"
    for spectrum in ("visible", "infrared"):
        for k, name in enumerate(sorted({path.split("/")[1] for path in list_images(people_config.data).paths})):
            shutil.copytree(Path(str(people_config.data.root)) / spectrum / name, root / spectrum / f"q{k:02}")
    out = tmp_path / "renamed.npz"
    cli.main(["embed", str(run.folder), "--root", str(root), "--out", str(out)])
    seen = set(Embeddings.load(out).seen_ids.tolist())
    assert {person_of(name.replace("p", "q")) for name in trained} <= seen
    with pytest.raises(SystemExit, match="were trained on and cannot be tested on"):
        cli.main(["evaluate", str(out), "--dataset", "folder"])
    innocent = tmp_path / "innocent"
    for spectrum in ("visible", "infrared"):
        for name in sorted(trained)[:3]:
            (innocent / spectrum / name).mkdir(parents=True)
            for k in range(2):
                colour = np.random.default_rng([k, len(spectrum)]).integers(0, 255, (32, 16, 3)).astype(np.uint8)
                Image.fromarray(colour).save(innocent / spectrum / name / f"{k}.png")
    cli.main(["embed", str(run.folder), "--root", str(innocent), "--out", str(tmp_path / "new.npz")])
    assert len(Embeddings.load(tmp_path / "new.npz").seen_ids) == 0


def test_images_that_changed_since_are_not_shown_as_a_runs_own(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    root = tmp_path / "people"
    shutil.copytree(str(people_config.data.root), root)
    run = experiment.run(
        replace(people_config, data=replace(people_config.data, root=str(root))), tmp_path / "run", progress=False
    )
    assert len(experiment.images_of(run.folder)) == 72
    for spectrum in ("visible", "infrared"):
        shutil.copytree(root / spectrum / "p05", root / spectrum / "added")
    with pytest.raises(DataError, match=r"was made of other images than those in .*people \(data \w{8} there"):
        experiment.images_of(run.folder)

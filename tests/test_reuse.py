"""What is reused and what is not: the library's code, losses of one's own, images, dials, people."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import textwrap
import unicodedata
from collections import defaultdict, deque
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from scipy.io import loadmat, savemat
from torch import nn

from sa_lab import cli, experiment, provenance
from sa_lab.config import DataConfig, ExperimentConfig, read_dials
from sa_lab.data import copies, folder, list_images, prepare, store
from sa_lab.data.files import person_of
from sa_lab.disk import DamagedFileError, read_csv, read_json
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
    before = {part: provenance._digest(provenance._sources(part)) for part in TRAINING}
    monkeypatch.setattr(provenance, "_HERE", tmp_path / "sa_lab")
    assert {part: provenance._digest(provenance._sources(part)) for part in TRAINING} == before
    text = (tmp_path / "sa_lab" / file).read_text()
    assert edit(text) != text, "or the test shows nothing"
    (tmp_path / "sa_lab" / file).write_text(edit(text))
    assert ({part: provenance._digest(provenance._sources(part)) for part in TRAINING} == before) == same
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


class Private(nn.Module):
    def __init__(self, margin: float) -> None:
        super().__init__()
        self._margin = margin

    def forward(self, embeddings, prototypes, labels, modality):
        return embeddings.sum() * self._margin


def with_buffer(value: float) -> nn.Module:
    module = Private(1.0)
    module.register_buffer("m", torch.tensor(value), persistent=False)
    return module


def hooked(factor: float) -> nn.Module:
    module = Private(1.0)
    module.register_forward_hook(lambda _, inputs, output: output * factor)
    return module


def with_attribute(margin: float) -> Any:
    def loss(embeddings, prototypes, labels, modality):
        return embeddings.sum() * loss.margin

    loss.margin = margin
    return loss


def twin(factor: float) -> type:
    class Twin:
        __rmul__ = (lambda self, other: other * 2) if factor == 2 else (lambda self, other: other / 2)

    return Twin


Doubles, Halves = twin(2), twin(0.5)


class Number(float):
    pass


class Slotted:
    __slots__ = ("margin",)

    def __init__(self, margin: float) -> None:
        self.margin = margin


def masked(hidden: bool) -> Any:
    return np.ma.array([1.0, 2.0], mask=[hidden, False])


class Kind(torch.Tensor):
    pass


def kind_of_tensor(value: float) -> Any:
    return torch.tensor(value).as_subclass(Kind)


def compiled(code: str, **known: Any) -> Any:
    exec(f"def loss(embeddings, prototypes, labels, modality):\n{code}\n", known)
    return known["loss"]


def reads_its_docstring(word: str) -> Any:
    return compiled(f"    '{word}'\n    return TABLE['{word}'] * embeddings.sum()", TABLE={"a": 1, "b": 2})


def through_globals(margin: float) -> Any:
    return compiled("    return embeddings.sum() * globals()['MARGIN']", MARGIN=margin)


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
    "private attribute of a module": (lambda: Private(1.0), lambda: Private(2.0), False),
    "buffer that is not kept": (lambda: with_buffer(1.0), lambda: with_buffer(2.0), False),
    "hook": (lambda: hooked(1.0), lambda: hooked(2.0), False),
    "equal hooks": (lambda: hooked(1.0), lambda: hooked(1.0), True),
    "attribute of a function": (lambda: with_attribute(1.0), lambda: with_attribute(2.0), False),
    "operator": (lambda: made(Doubles()), lambda: made(Halves()), False),
    "method of a dictionary": (lambda: made({"m": 1}.get), lambda: made({"m": 2}.get), False),
    "method of a list": (lambda: made([1].__getitem__), lambda: made([2].__getitem__), False),
    "kind of number": (lambda: made(Number(1)), lambda: made(Number(2)), False),
    "equal kinds of number": (lambda: made(Number(1)), lambda: made(Number(1)), True),
    "random numbers": (lambda: made(random.Random(1)), lambda: made(random.Random(2)), False),
    "default of a dictionary": (lambda: made(defaultdict(int)), lambda: made(defaultdict(list)), False),
    "length of a queue": (lambda: made(deque([1], 1)), lambda: made(deque([1], 2)), False),
    "mask of an array": (lambda: made(masked(False)), lambda: made(masked(True)), False),
    "kind of tensor": (lambda: made(kind_of_tensor(1.0)), lambda: made(kind_of_tensor(2.0)), False),
    "bfloat16": (lambda: made(torch.ones(2).bfloat16()), lambda: made(torch.ones(2).bfloat16()), True),
    "sparse tensor": (lambda: made(torch.eye(2).to_sparse()), lambda: made(torch.eye(2).to_sparse()), False),
    "slots": (lambda: made(Slotted(1)), lambda: made(Slotted(2)), False),
    "docstring that is used": (lambda: reads_its_docstring("a"), lambda: reads_its_docstring("b"), False),
    "all globals": (lambda: through_globals(1.0), lambda: through_globals(1.0), False),
    "other library": (lambda: nn.functional.cross_entropy, lambda: nn.functional.cross_entropy, True),
}


@pytest.mark.parametrize("name", PAIRS)
def test_losses_of_ones_own_are_told_apart(name: str) -> None:
    first, second, same = PAIRS[name]
    assert (function_name(first()) == function_name(second())) == same


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
    config = people_config.replace("loss.terms", "identity 1 + own 1")
    runs = [experiment.run(config, own_loss=made(margin), progress=False) for margin in (0.5, 3.0, 0.5)]
    assert runs[0].folder == runs[2].folder != runs[1].folder
    assert not np.array_equal(runs[0].metrics()["total"], runs[1].metrics()["total"])


# ---- dials and images


def test_a_refusal_names_the_dial_with_both_values(people_config: ExperimentConfig, tmp_path: Path) -> None:
    run = experiment.run(people_config, tmp_path / "run", progress=False)
    for dial, value, told in (
        ("loss.mask_value", 0, r"loss\.mask_value 50\.0 there, 0\.0 here"),
        ("seed", 3, "seed 0 there, 3 here"),
        ("train.head_lr", 0.5, r"train\.head_lr 0\.001 there, 0\.5 here"),
    ):
        with pytest.raises(ValueError, match=rf"is of a run of another config: {told}; remove"):
            experiment.run(people_config.replace(dial, value), run.folder, progress=False)
    (run.folder / "made_of.json").unlink()
    with pytest.raises(ValueError, match=r"holds a report\.json that does not say what it was made of"):
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
    assert {"torch", "cpu", "library", "code", "data", "weights"} == set(made_of)
    assert len(set(images["content"])) == len(images["path"]) == 72
    assert set(images["part"]) == {"train", "test"}


def of_sysu(people_config: ExperimentConfig, place: Path) -> ExperimentConfig:
    """The same training on a small copy of SYSU-MM01, which is drawn there."""
    copies.write("sysu", place / "sysu", train_ids=8, test_ids=4, images_per_camera=2)
    data = DataConfig(dataset="sysu", root=str(place / "sysu"), height=32, width=16, validation_fraction=0.25)
    return replace(people_config, data=data)


def test_galleries_that_are_fetched_later_are_evaluated_without_a_training(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    config = of_sysu(people_config, tmp_path)
    galleries = tmp_path / "sysu" / "exp" / "rand_perm_cam.mat"
    galleries.rename(tmp_path / "later.mat")
    run = experiment.run(config, progress=False)
    weights, before = (run.folder / "model.pt").stat().st_mtime_ns, Report.load_all(run.folder)
    assert not any("official" in report.protocol["name"] for report in before)
    (tmp_path / "later.mat").rename(galleries)
    again = experiment.run(config, progress=False)
    assert (again.folder, (again.folder / "model.pt").stat().st_mtime_ns) == (run.folder, weights)
    after = {report.protocol["name"]: report for report in Report.load_all(again.folder)}
    assert sum("official" in name for name in after) == 4
    for report in before:
        assert after[report.protocol["name"]].measures == report.measures


def _kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_galleries_that_were_mended_are_evaluated_whenever_it_was_killed(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    config = of_sysu(people_config, tmp_path)
    run = experiment.run(config, progress=False)
    galleries = tmp_path / "sysu" / "exp" / "rand_perm_cam.mat"
    other = loadmat(galleries)
    for camera in other["rand_perm_cam"].ravel():
        for person in camera.ravel():
            person[:] = person[:, ::-1]
    savemat(galleries, {"rand_perm_cam": other["rand_perm_cam"]})
    before = Embeddings.load(run.folder / "embeddings.npz").gallery_order
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "_evaluate", _kill)
        with pytest.raises(KeyboardInterrupt):
            experiment.run(config, progress=False)
    again = experiment.run(config, progress=False)
    after = Embeddings.load(again.folder / "embeddings.npz").gallery_order
    assert again.folder == run.folder
    assert not np.array_equal(before, after)
    assert sum("official" in report.protocol["name"] for report in Report.load_all(again.folder)) == 4


def test_a_report_that_is_damaged_or_gone_is_made_again(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    config = of_sysu(people_config, tmp_path)
    run = experiment.run(config, progress=False)
    names = {report.protocol["name"] for report in Report.load_all(run.folder)}
    (run.folder / "report-sysu-indoor.json").write_text("{}")
    (run.folder / "report-sysu-all-multi-shot.json").unlink()
    experiment.run(config, progress=False)
    assert {report.protocol["name"] for report in Report.load_all(run.folder)} == names


def test_other_files_with_the_same_names_sizes_and_times_are_other_images(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    folders = []
    for shade in (0, 50):
        root = tmp_path / str(shade)
        for file in Path(str(people_config.data.root)).rglob("*.png"):
            copy = (root / file.relative_to(str(people_config.data.root))).with_suffix(".bmp")
            copy.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(Image.open(file).convert("RGB")) // 2 + np.uint8(shade)).save(copy)
            os.utime(copy, (10**9, 10**9))
        folders.append(experiment.run_folder(people_config.replace("data.root", str(root))))
    assert folders[0] != folders[1]


def test_other_weights_in_the_same_file_make_another_run(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    config = people_config.replace("model.weights", str(tmp_path / "w.pt"))
    folders = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "w.pt")
        folders.append(experiment.run_folder(config))
    assert folders[0] != folders[1]
    run = experiment.run(config, tmp_path / "run", progress=False)
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"made of other weights to start from \(weights \w{8} there, \w{8} here\)"):
        experiment.run(config, run.folder, progress=False)


def test_a_run_without_its_config_passes_for_none(people_config: ExperimentConfig, tmp_path: Path) -> None:
    run = experiment.run(people_config, tmp_path / "run", progress=False)
    (run.folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds a report\.json that does not say what it was made of"):
        experiment.run(people_config.replace("loss.mask_value", 0), run.folder, progress=False)


def test_dials_that_were_edited_are_not_shown_as_those_of_the_run(
    people_config: ExperimentConfig, tmp_path: Path
) -> None:
    people_config.save(tmp_path / "config.json")
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    (tmp_path / "config.json").write_text(text.replace('"mask_value": 50.0', '"mask_value": 10.0'), encoding="utf-8")
    with pytest.raises(DamagedFileError, match="its dials were edited"):
        ExperimentConfig.load(tmp_path / "config.json")
    assert read_dials(tmp_path / "config.json")["loss"]["mask_value"] == 10, "a file of dials to start from"
    (tmp_path / "config.json").write_text(text.replace(str(people_config.data.root), "/moved"), encoding="utf-8")
    assert ExperimentConfig.load(tmp_path / "config.json").data.root == "/moved"


def test_pixels_of_other_code_are_made_anew(
    people_config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    before = prepare(people_config.data, progress=False).images.clone()
    monkeypatch.setattr(store, "_pixels", lambda *_: np.zeros((3, 32, 16), np.uint8))
    assert torch.equal(prepare(people_config.data, progress=False).images, before)
    monkeypatch.setattr(store, "code_digest", lambda parts: "another")
    assert not prepare(people_config.data, progress=False).images.any()


def test_one_folder_holds_one_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    ids, spectra = np.repeat(np.arange(4), 4), np.tile([0, 0, 1, 1], 4)
    rows = np.random.default_rng(0).normal(size=(16, 1, 8)).astype(np.float32)
    names = tuple(f"{i}.png" for i in range(16))
    Embeddings(None, rows, ids, np.where(spectra, 3, 1), spectra, names).save(tmp_path / "t.npz")
    cli.main(["evaluate", str(tmp_path / "t.npz"), "--dataset", "sysu", "--method", "m"])
    with pytest.raises(SystemExit, match="holds another evaluation: dataset sysu there, llcm here"):
        cli.main(["evaluate", str(tmp_path / "t.npz"), "--dataset", "llcm", "--method", "m"])


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
    both = ("zo\u00eb", "zoe\u0308", "ole")
    for spectrum, names in (("visible", both), ("infrared", ("zo\u00eb", "ole"))):
        for name in names:
            (tmp_path / spectrum / name).mkdir(parents=True)
            Image.new("L", (8, 16)).save(tmp_path / spectrum / name / f"{len(name)}.png")
    table = folder.listing(tmp_path)
    assert len(set(table.person_ids.tolist())) == 2
    assert len(table) == 5, "none is lost"
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

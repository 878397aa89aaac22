"""The dials: round trip through JSON, what is refused, and digests that tell runs apart."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from sa_lab import disk
from sa_lab.config import PRESETS, VARIANTS, DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig, variant

OTHER_VALUES = {
    "dataset": "synthetic", "root": "elsewhere", "backbone": "resnet18", "weights": "random", "optimizer": "sgd",
    "milestones": (1, 2), "augmentation": "none", "precision": "64-true", "device": "cpu", "steps_per_epoch": None,
    "resize": "bilinear", "asynchronous": False, "own": "mine-12345678",
    "terms": "identity 1 + triplet 0.5", "margin": 0.2, "target": "own", "prototypes": "no_rival",
    "thermal_range": (1.0, 2.0),
}  # fmt: skip
pytestmark = pytest.mark.usefixtures("unchecked")

DIALS = [
    (section, dial.name)
    for section, kind in (("data", DataConfig), ("model", ModelConfig), ("loss", LossConfig), ("train", TrainConfig))
    for dial in fields(kind)
    if dial.name
    not in ("split", "root", "log")  # split has one value, but for regdb; the others change nothing: see their tests
]


def changed(config: ExperimentConfig, section: str, name: str) -> ExperimentConfig:
    """``config`` with another value for one dial."""
    part = getattr(config, section)
    value = getattr(part, name)
    fallback = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else None
    fallback = value and value / 2 if isinstance(value, float) else fallback
    besides = {"terms": "identity 1 + own 1"} if name == "own" else {}
    return replace(config, **{section: replace(part, **{name: OTHER_VALUES.get(name, fallback), **besides})})


def test_a_seed_draws_people_as_well_as_weights() -> None:
    config = ExperimentConfig().seeded(3)
    assert (config.seed, config.data.seed) == (3, 3)
    assert config.changed() == {"seed": 3, "data.seed": 3}


def test_prototypes_that_follow_the_whole_loss_follow_nothing_else() -> None:
    with pytest.raises(ValueError, match=r"loss\.prototypes is 'running_mean', expected learned"):
        LossConfig(asynchronous=False, prototypes="running_mean")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", VARIANTS)
def test_round_trip(tmp_path: Path, preset: str, name: str) -> None:
    config = variant(PRESETS[preset](), name)
    config.save(tmp_path / "run" / "config.json")
    loaded = ExperimentConfig.load(tmp_path / "run" / "config.json")
    assert loaded == config
    assert loaded.digest() == config.digest()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"], "no temporary file stays"


def test_round_trip_of_an_infinite_mask(tmp_path: Path) -> None:
    config = replace(ExperimentConfig(), loss=LossConfig(mask_value=math.inf))
    config.save(tmp_path / "config.json")
    assert ExperimentConfig.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(("section", "name"), DIALS)
def test_every_dial_round_trips_and_changes_the_digest(tmp_path: Path, section: str, name: str) -> None:
    config = changed(ExperimentConfig(), section, name)
    assert config.digest() != ExperimentConfig().digest()
    assert re.fullmatch("[0-9a-f]{8}", config.digest())
    config.save(tmp_path / "config.json")
    assert ExperimentConfig.load(tmp_path / "config.json") == config


def test_digests_are_all_different() -> None:
    configs_ = [changed(ExperimentConfig(), *dial) for dial in DIALS]
    configs_ += [replace(ExperimentConfig(), seed=1), ExperimentConfig()]
    assert len({config.digest() for config in configs_}) == len(configs_)


def edited(path: Path, section: str | None, **changes) -> Path:
    content = json.loads(json.dumps(asdict(ExperimentConfig())))
    (content[section] if section else content).update(changes)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("section", [None, "data", "model", "loss", "train"])
def test_unknown_keys_are_named(tmp_path: Path, section: str | None) -> None:
    path = edited(tmp_path / "config.json", section, colour=1)
    with pytest.raises(ValueError, match=rf"config\.json: .*\(colour\){' in ' + section if section else ''}$"):
        ExperimentConfig.load(path)


@pytest.mark.parametrize("content", ["", "{", "nothing"])
def test_files_that_are_no_json_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged, or no JSON"):
        ExperimentConfig.load(tmp_path / "config.json")


def test_values_of_another_type_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"loss\.mask_value"):
        ExperimentConfig.load(edited(tmp_path / "config.json", "loss", mask_value="much"))
    with pytest.raises(ValueError, match=r"train\.steps_per_epoch"):
        ExperimentConfig.load(edited(tmp_path / "config.json", "train", steps_per_epoch="few"))


OUT_OF_RANGE = [
    (section, kind, name, value)
    for section, kind, wrong in (
        ("data", DataConfig, {
            "dataset": "faces", "height": 0, "width": -1, "train_ids": 0, "test_ids": 0, "images_per_camera": 0,
            "validation_fraction": 1.0,
        }),
        ("model", ModelConfig, {"backbone": "vgg", "num_parts": 0}),
        ("loss", LossConfig, {
            "sas_weight": 1.1, "similarity_weight": -1.0, "mask_value": -1.0, "warmup_steps": -1,
        }),
        ("train", TrainConfig, {
            "ids_per_batch": 0, "images_per_id": 0, "num_epochs": 0, "steps_per_epoch": 0, "optimizer": "lion",
            "backbone_lr": -1.0, "head_lr": -1.0, "weight_decay": -1.0, "milestones": (3, 2), "augmentation": "more",
            "eval_every": -1, "checkpoint_every": 0, "precision": "8-bit", "threads": -1,
        }),
    )
    for name, value in wrong.items()
]  # fmt: skip


@pytest.mark.parametrize(("section", "kind", "name", "value"), OUT_OF_RANGE)
def test_values_out_of_range_are_named(tmp_path: Path, section: str, kind: type, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"{section}\.{name} is {re.escape(repr(value))}, expected "):
        kind(**{name: value})
    path = edited(tmp_path / "config.json", section, **{name: value})
    with pytest.raises(ValueError, match=rf"(?s)config\.json.*{section}\.{name}"):
        ExperimentConfig.load(path)


@pytest.mark.parametrize("name", ["sas_weight", "similarity_weight", "mask_value"])
def test_nan_is_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is nan"):
        LossConfig(**{name: math.nan})


@pytest.mark.parametrize("dataset", ["roadscene", "folder"])
def test_data_on_disk_needs_its_folder(dataset: str) -> None:
    with pytest.raises(ValueError, match=rf"data\.root is None, expected the folder of the {dataset} data set"):
        DataConfig(dataset=dataset)
    assert DataConfig(dataset=dataset, root="x").root == str(Path("x").absolute())  # a run is read from any folder


def test_variants() -> None:
    base = replace(ExperimentConfig(), loss=LossConfig(sas_weight=0.5, similarity_weight=2.0, mask_value=9.0))
    dials = {name: variant(base, name).loss for name in VARIANTS}
    assert dials["complete"] == base.loss
    assert (dials["softmax"].sas_weight, dials["softmax"].similarity_weight) == (0, 0)
    assert dials["no_mask"] == replace(base.loss, mask_value=0.0)
    assert dials["no_absolute"] == replace(base.loss, similarity_weight=0.0)
    for name in VARIANTS:
        assert replace(variant(base, name), loss=base.loss) == base, "nothing but the loss"
    assert len({variant(base, name).digest() for name in VARIANTS}) == len(VARIANTS)
    with pytest.raises(ValueError, match="variant is 'best', expected one of softmax, no_mask"):
        variant(base, "best")


def test_paper_preset_is_the_recipe() -> None:
    paper = PRESETS["paper"]()
    assert (paper.data.height, paper.data.width) == (384, 192)
    assert (paper.model.backbone, paper.model.num_parts, paper.model.weights) == ("resnet50", 12, "imagenet")
    assert (paper.loss.sas_weight, paper.loss.similarity_weight, paper.loss.mask_value) == (0.7, 1.0, 50.0)
    train = paper.train
    assert (train.ids_per_batch, train.images_per_id, train.num_epochs, train.steps_per_epoch) == (8, 8, 101, None)
    assert (train.optimizer, train.backbone_lr, train.head_lr, train.weight_decay) == ("sgd", 0.001, 0.01, 5e-4)
    assert (train.milestones, train.augmentation) == ((40, 80), "random_linear")


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    assert disk.home() == tmp_path
    monkeypatch.delenv("SA_LAB_HOME")
    assert disk.home() == Path(disk.__file__).parents[1] / "data"
    monkeypatch.setattr(disk, "__file__", str(tmp_path / "site-packages" / "sa_lab" / "disk.py"))
    assert disk.home() == Path.home() / ".cache" / "sa_lab"


def test_only_regdb_has_splits() -> None:
    """Each of the ten changes the digest; any other number, and any other data set's second split, is refused."""
    regdb = [ExperimentConfig(data=DataConfig(dataset="regdb", root="x", split=split)) for split in range(1, 11)]
    assert len({config.digest() for config in regdb}) == 10
    for dataset, split in (("regdb", 11), ("regdb", 0), ("sysu", 2), ("synthetic", 2)):
        with pytest.raises(ValueError, match=rf"data\.split is {split}, expected 1\.\."):
            DataConfig(dataset=dataset, root="x", split=split)


def test_where_the_images_lie_changes_no_run() -> None:
    here, there = (ExperimentConfig(data=DataConfig(dataset="sysu", root=root)) for root in ("here/", "/elsewhere"))
    assert here.digest() == there.digest()
    assert here.dials() == there.dials()
    assert here.data.root == str(Path("here").absolute())


def test_dials_are_changed_by_their_names() -> None:
    config = ExperimentConfig()
    assert config.replace("loss.mask_value", 0) == ExperimentConfig(loss=LossConfig(mask_value=0))
    both = config.replace({"train.num_epochs": 9, "loss": {"sas_weight": 0.5}, "seed": 3})
    assert both.changed() == {"loss.sas_weight": 0.5, "train.num_epochs": 9, "seed": 3}
    assert config.replace({"data.dataset": "sysu", "data.root": "/images"}).data.dataset == "sysu", "both at once"
    for name in ("loss", "loss.mask", "mask_value", "loss.mask_value.x", ""):
        with pytest.raises(ValueError, match=rf"there is no dial {name}, expected some of data.dataset"):
            config.replace(name, 1)
    with pytest.raises(ValueError, match=r"loss.mask_value is -1"):
        config.replace("loss.mask_value", -1)


def test_a_config_shows_what_is_not_as_usual() -> None:
    assert repr(ExperimentConfig()) == "ExperimentConfig()"
    changed = ExperimentConfig(seed=2).replace("loss.mask_value", 0)
    assert repr(changed) == "ExperimentConfig(loss.mask_value=0.0, seed=2)"
    assert "| loss.mask_value | 0.0 |" in changed._repr_markdown_()


def test_a_config_of_the_last_release_is_read_but_for_what_is_gone(tmp_path: Path) -> None:
    file, config = tmp_path / "config.json", ExperimentConfig(seed=3)
    config.save(file)
    values = json.loads(file.read_text())
    del values["dials_xxh3"]
    values["train"] |= {"sample_rate": 1.0, "compile": False}
    file.write_text(json.dumps(values))
    assert ExperimentConfig.load(file) == config
    values["train"]["sample_rate"] = 0.1
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="sample_rate"):
        ExperimentConfig.load(file)


WRONG_VALUES: dict[str, tuple[str, object, str]] = {
    "text for a seed": ("seed", "0", "seed is '0', expected a whole number"),
    "float for a seed": ("seed", 1.0, r"seed is 1\.0, expected a whole number"),
    "negative seed": ("seed", -1, "seed is -1, expected a whole number from 0"),
    "endless seed": ("seed", 2**63, "expected a whole number from 0 to 2\\^63 - 1"),
    "bool for a seed": ("seed", True, "seed is True, expected a whole number"),
    "half an epoch": ("train.num_epochs", 2.5, r"train\.num_epochs is 2\.5, expected a whole number"),
    "half a milestone": ("train.milestones", (2.5,), r"train\.milestones is .2\.5,?., expected several, each a whole"),
    "text for milestones": ("train.milestones", "67", "train.milestones is .*, expected several"),
    "text for a rate": ("train.head_lr", "much", r"train\.head_lr is 'much', expected a number"),
    "NaN": ("train.head_lr", math.nan, r"train\.head_lr is nan, expected a number from 0"),
    "infinity": ("train.head_lr", math.inf, r"train\.head_lr is inf, expected a number from 0"),
    "NaN for a mask": ("loss.mask_value", math.nan, r"loss\.mask_value is nan"),
    "number for a switch": ("train.reuse_features", 1, r"train\.reuse_features is 1, expected true or false"),
    "text for a switch": ("loss.asynchronous", "no", r"loss\.asynchronous is 'no', expected true or false"),
    "number for a text": ("model.weights", 3, r"model\.weights is 3, expected a text"),
    "endless parts": ("model.num_parts", 9223372036854775807, r"model\.num_parts is \d+, expected .* at most 1,024"),
    "endless people": ("data.test_ids", 9223372036854775807, r"data\.test_ids is \d+, expected .* at most 100,000"),
    "endless height": ("data.height", 100_000, r"data\.height is 100000, expected .* at most 8,192"),
    "nothing": ("data.height", None, r"data\.height is None, expected a whole number"),
    "another filter": ("data.resize", "nearest", r"data\.resize is 'nearest', expected one of lanczos, bicubic"),
    "a list": ("data.width", [32], r"data\.width is \[32\], expected a whole number"),
}


@pytest.mark.parametrize("way", ["constructor", "replace", "file"])
@pytest.mark.parametrize("name", WRONG_VALUES)
def test_values_of_a_wrong_type_are_told_when_the_config_is_made(name: str, way: str, tmp_path: Path) -> None:
    dial, value, told = WRONG_VALUES[name]
    *group, last = dial.split(".")
    file = edited(tmp_path / "config.json", *(group or [None]), **{last: value})
    part = getattr(ExperimentConfig(), group[0]) if group else ExperimentConfig()
    ways = {
        "constructor": lambda: replace(part, **{last: value}),
        "replace": lambda: ExperimentConfig().replace(dial, value),
        "file": lambda: ExperimentConfig.load(file),
    }
    with pytest.raises(ValueError, match=told) as caught:
        ways[way]()
    assert "\n" not in str(caught.value)


def test_equal_numbers_are_one_config() -> None:
    """Whatever their type, so that a run is found again."""
    plain = ExperimentConfig(seed=3, train=TrainConfig(head_lr=1.0, milestones=(2, 4)))
    numpy = ExperimentConfig(seed=np.int64(3), train=TrainConfig(head_lr=1, milestones=[np.int32(2), 4]))
    assert (plain, plain.digest()) == (numpy, numpy.digest())
    assert type(numpy.seed) is int
    assert type(numpy.train.head_lr) is float

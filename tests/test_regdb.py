"""RegDB: ten splits of the same images; what real copies look like loads, what is wrong is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import ODDITIES, assert_same, rewrite

from sa_lab.config import DataConfig
from sa_lab.data import list_images, published_counts, regdb, statistics
from sa_lab.data.copies import write_regdb
from sa_lab.data.drawn.synthetic import SyntheticSpec
from sa_lab.data.drawn.synthetic import listing as drawn
from sa_lab.data.store import build_store
from sa_lab.schema import DataError, LeakageError

SPEC = SyntheticSpec(num_train_ids=3, num_test_ids=2, images_per_camera=10, height=16, width=8, variant="thermal")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean") / "regdb"
    write_regdb(root, SPEC, progress=False)
    return root


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "regdb"))


def of(root: Path, name: str) -> Path:
    return root / "idx" / f"{name}.txt"


def backslashes(root: Path) -> Path:
    for path in root.glob("idx/*.txt"):
        rewrite(path, lambda text: text.replace("/", "\\"))
    return root


def capitals_in_lists(root: Path) -> Path:
    for path in root.glob("idx/*.txt"):
        rewrite(path, lambda text: text.replace(".bmp", ".BMP").replace(" ", "\t"))
    return root


@pytest.mark.parametrize("oddity", [*ODDITIES, backslashes, capitals_in_lists])
def test_odd_copies_load(oddity: Callable, clean: Path, root: Path, tmp_path: Path) -> None:
    assert_same(regdb.listing(oddity(root), 3), regdb.listing(clean, 3), tmp_path / "cache")


def test_columns_are_those_of_the_drawn_set(clean: Path) -> None:
    found, expected = regdb.listing(clean), drawn(SPEC)
    assert (found.name, found.split) == ("regdb-generated", 1)
    assert list(found.paths) == sorted(expected.paths)
    order = [expected.paths.index(path) for path in found.paths]
    for name in ("person_ids", "camera_ids", "modality"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[order])
    np.testing.assert_array_equal(np.asarray(found.read(7)), np.asarray(expected.read(order[7]).convert("RGB")))
    (clean / "generated.json").rename(clean / "other.json")
    assert regdb.listing(clean).name == "regdb"
    (clean / "other.json").rename(clean / "generated.json")


def test_splits_divide_the_same_images_and_share_one_cache(clean: Path, tmp_path: Path) -> None:
    regdb.check(clean)
    tables = [regdb.listing(clean, split) for split in range(1, 11)]
    for split, table in enumerate(tables, start=1):
        assert (table.split, table.paths) == (split, tables[0].paths)
        lines = of(clean, f"train_visible_{split}").read_text().splitlines()
        assert {int(line.split("/")[1]) for line in lines} == set(table.person_ids[table.is_train].tolist())
    assert len({tuple(table.is_train.tolist()) for table in tables}) > 1
    first, second = (build_store(table, 8, 4, tmp_path, progress=False) for table in tables[:2])
    assert len({path.name for path in tmp_path.iterdir() if path.is_dir()} - {"contents"}) == 1
    assert first.digest != second.digest
    assert (first.split, second.split) == (1, 2)


def test_statistics_have_the_keys_of_what_is_published(clean: Path) -> None:
    data = DataConfig(dataset="regdb", root=f"{clean}/", split=10)
    found, expected = statistics(list_images(data)), published_counts(data.dataset)
    assert expected is not None
    assert list(found) == list(expected)
    assert list(found.values()) == [3, 30, 30, 2, 20, 20]


@pytest.mark.parametrize("split", [0, 11])
def test_split_out_of_range(clean: Path, split: int) -> None:
    with pytest.raises(ValueError, match=rf"split is {split}, expected 1\.\.10"):
        regdb.listing(clean, split)


def relabel(root: Path, name: str, old: int, new: int, lines: slice = slice(None)) -> None:
    """Change label ``old`` to ``new`` in some of its lines."""
    rows = of(root, name).read_text().splitlines()
    for k in [k for k, row in enumerate(rows) if row.endswith(f" {old}")][lines]:
        rows[k] = f"{rows[k].rsplit(' ', 1)[0]} {new}"
    of(root, name).write_text("\n".join(rows))


def swap_labels(root: Path) -> None:
    for old, new in ((0, 9), (1, 0), (9, 1)):
        relabel(root, "train_thermal_1", old, new)


def person_of(root: Path, name: str, line: int = 0) -> int:
    return int(of(root, name).read_text().splitlines()[line].split("/")[1])


def without_label_2(root: Path) -> None:
    rewrite(of(root, "train_thermal_1"), lambda text: "".join(f"{x}\n" for x in text.splitlines() if x[-1] != "2"))


def entry(root: Path, line: str) -> None:
    rewrite(of(root, "test_visible_1"), lambda text: text + line + "\n")


FAULTS = {
    "no list": (lambda root: of(root, "test_thermal_1").unlink(), ["test_thermal_1.txt: no such file"]),
    "empty list": (lambda root: of(root, "train_visible_1").write_text("\r\n"), ["train_visible_1.txt: nothing in"]),
    "no label": (
        lambda root: entry(root, "Visible/4/a.bmp"),
        ["test_visible_1.txt, line 21: 'Visible/4/a.bmp'; expected 'Visible/<identity>/<file> <label>'"],
    ),
    "another folder": (lambda root: entry(root, "Thermal/4/a.bmp 0"), ["line 21: 'Thermal/4/a.bmp 0'; expected 'Vis"]),
    "absent": (
        lambda root: [path.unlink() for path in root.glob("*/4/*_0000[12]_4.bmp")],
        ["Visible/4/drawn_v_00001_4.bmp: no such file", "Visible/4/drawn_v_00002_4.bmp: no such file",
         "Thermal/4/drawn_t_00001_4.bmp: no such file; and "],
    ),
    "twice": (
        lambda root: rewrite(of(root, "train_visible_1"), lambda text: text + text.splitlines()[4] + "\n\n"),
        ["train_visible_1.txt, line 31: ", "is in line 5 already; expected it once"],
    ),
    "gap": (
        lambda root: [relabel(root, f"train_{name}_1", 1, 7) for name in ("visible", "thermal")],
        [f"train_{name}_1.txt: labels have gaps, [1] missing and [7] beyond" for name in ("visible", "thermal")],
    ),
    "label of two": (lambda root: relabel(root, "train_visible_1", 2, 1), ["visible_1.txt: label 1 has identities"]),
    "two labels": (
        lambda root: relabel(root, "train_visible_1", 0, 1, slice(3)),
        ["train_visible_1.txt: identity {train} has labels [0, 1]; expected one"],
    ),
    "disagreement": (swap_labels, ["train_thermal_1.txt: identity {train} has labels 0 and 1; expected one"]),
    "one modality": (without_label_2, ["train_visible_1.txt: identities [{last}] are in this list alone"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault: str, root: Path) -> None:
    train, last = person_of(root, "train_visible_1"), person_of(root, "train_visible_1", -1)
    damage, messages = FAULTS[fault]
    damage(root)
    for look in (regdb.listing, regdb.check):
        with pytest.raises(DataError, match="cannot be used") as error:
            look(root)
        assert not isinstance(error.value, LeakageError)
        for message in messages:
            assert message.format(train=train, last=last) in str(error.value)
    if fault != "absent":
        regdb.listing(root, 2)


def test_faults_of_all_splits_are_named_at_once(root: Path) -> None:
    for split in (2, 9):
        of(root, f"train_thermal_{split}").unlink()
    relabel(root, "test_visible_10", 1, 5)
    regdb.listing(root, 1)
    with pytest.raises(DataError, match="cannot be used") as error:
        regdb.check(root)
    for message in ("train_thermal_2.txt: no such file", "train_thermal_9.txt: no such", "test_visible_10.txt: labels"):
        assert message in str(error.value)


def test_identities_in_training_and_test_are_a_leak(root: Path) -> None:
    for name in ("visible", "thermal"):
        shutil.copy(of(root, f"train_{name}_4"), of(root, f"test_{name}_4"))
    for look in (lambda: regdb.listing(root, 4), lambda: regdb.check(root)):
        with pytest.raises(LeakageError, match=r"split 4: identities \[.*\] are in training and in test"):
            look()

"""LLCM: training lists and test folders; what real copies look like loads, what is wrong is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import ODDITIES, assert_same, rewrite

from sa_lab.config import DataConfig
from sa_lab.data import list_images, llcm, published_counts, statistics
from sa_lab.data.copies import write_llcm
from sa_lab.data.drawn.synthetic import SyntheticSpec
from sa_lab.data.drawn.synthetic import listing as drawn
from sa_lab.schema import DataError, LeakageError, Modality

SPEC = SyntheticSpec(num_train_ids=3, num_test_ids=2, images_per_camera=1, height=16, width=8, variant="low_light")


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean") / "llcm"
    write_llcm(root, SPEC, progress=False)
    return root


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "llcm"))


def idx(root: Path, name: str) -> Path:
    return root / "idx" / f"{name}.txt"


def backslashes(root: Path) -> Path:
    for name in ("train_vis", "train_nir"):
        rewrite(idx(root, name), lambda text: text.replace("/", "\\"))
    return root


def strangers(root: Path) -> Path:
    for folder in ("vis", "test_vis/cam1"):
        (root / folder / "0777").mkdir()
        (root / folder / "0777" / "0777_c01_s000001_f0001_vis.jpg").touch()
    return root


@pytest.mark.parametrize("oddity", [*ODDITIES, backslashes, strangers])
def test_odd_copies_load(oddity: Callable, clean: Path, root: Path, tmp_path: Path) -> None:
    assert_same(llcm.listing(oddity(root)), llcm.listing(clean), tmp_path / "cache")


def test_columns_are_those_of_the_drawn_set(clean: Path) -> None:
    found, expected = llcm.listing(clean), drawn(SPEC)
    assert found.name == "llcm-generated"
    assert found.paths == expected.paths
    for name in ("person_ids", "camera_ids", "modality", "is_train", "group_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert (found.split, found.gallery_order) == (None, None)
    for modality in Modality:
        assert set(found.camera_ids[found.modality == modality].tolist()) <= set(llcm.CAMERAS[modality])


def test_without_marker(root: Path) -> None:
    (root / "generated.json").unlink()
    assert llcm.listing(root).name == "llcm"


def test_statistics_have_the_keys_of_what_is_published(clean: Path) -> None:
    data = DataConfig(dataset="llcm", root=f"{clean}/")
    found, expected = statistics(list_images(data)), published_counts(data.dataset)
    assert expected is not None
    assert list(found) == list(expected)
    assert (found["train identities"], found["test identities"]) == (3, 2)
    assert found["train visible images"] == 12


def without_camera(root: Path) -> None:
    path = next((root / "nir" / "0002").iterdir())
    path.rename(path.with_name("0002_nir.jpg"))
    rewrite(idx(root, "train_nir"), lambda text: text.replace(path.name, "0002_nir.jpg"))


def no_visible_5(root: Path) -> None:
    for folder in root.glob("test_vis/cam*/0005"):
        shutil.rmtree(folder)


FAULTS = {
    "no list": (lambda root: idx(root, "train_nir").unlink(), ["train_nir.txt: no such file"]),
    "no ids": (lambda root: idx(root, "test_id").unlink(), ["test_id.txt: no such file"]),
    "no number": (lambda root: idx(root, "test_id").write_text("4,five"), ["test_id.txt: 'five' is no identity"]),
    "no camera": (
        lambda root: [shutil.rmtree(root / "test_nir" / name) for name in ("cam1", "cam9")],
        ["no folder test_nir/cam1, test_nir/cam9; expected test_vis/cam1, test_vis/cam2"],
    ),
    "no line": (
        lambda root: rewrite(idx(root, "train_vis"), lambda text: f"{text}a.jpg 1\n"),
        ["train_vis.txt, line 13: 'a.jpg 1'; expected 'vis/<identity>/<file> <label>'"],
    ),
    "absent": (
        lambda root: [next((root / f"vis/000{k}").iterdir()).unlink() for k in (1, 3)],
        ["/vis/0001/0001_c0", "/vis/0003/0003_c0", "_vis.jpg: no such file"],
    ),
    "twice": (
        lambda root: rewrite(idx(root, "train_vis"), lambda text: text + text.splitlines()[0]),
        ["train_vis.txt, line 13: ", "is in line 1 already"],
    ),
    "gap": (
        lambda root: rewrite(idx(root, "train_nir"), lambda text: text.replace(" 2\n", " 3\n")),
        [
            "train_nir.txt: labels have gaps, [2] missing and [3] beyond; expected 0..2 for 3 labels",
            "train_nir.txt: identity 3 has labels 2 and 3; expected one",
        ],
    ),
    "one training modality": (
        lambda root: rewrite(
            idx(root, "train_nir"), lambda text: "".join(f"{x}\n" for x in text.splitlines() if x[-1] != "2")
        ),
        ["train_vis.txt: identities [3] are in this list alone"],
    ),
    "nameless camera": (without_camera, ["0002_nir.jpg: no camera in the file name"]),
    "no image": (lambda root: idx(root, "test_id").write_text("4,5,77"), ["identities [77] have no image; expected"]),
    "one test modality": (no_visible_5, ["identities [5] have infrared images but no visible one"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault: str, root: Path) -> None:
    damage, messages = FAULTS[fault]
    damage(root)
    with pytest.raises(DataError, match="cannot be used") as error:
        llcm.listing(root)
    assert not isinstance(error.value, LeakageError)
    for message in messages:
        assert message in str(error.value)


def test_all_faults_are_named_at_once(root: Path) -> None:
    together = ("no camera", "no line", "gap", "nameless camera", "no image")
    for fault in together:
        FAULTS[fault][0](root)
    with pytest.raises(DataError) as error:
        llcm.listing(root)
    for fault in together:
        assert all(message in str(error.value) for message in FAULTS[fault][1])


def test_identities_in_training_and_test_are_a_leak(root: Path) -> None:
    for modality in ("vis", "nir"):
        for path in (root / modality / "0001").iterdir():
            copy = root / f"test_{modality}" / f"cam{int(path.name[6:8])}" / "0001" / path.name
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(path, copy)
    idx(root, "test_id").write_text("1,4,5\n")
    with pytest.raises(LeakageError, match=r"identities \[1\] are in training and in test"):
        llcm.listing(root)

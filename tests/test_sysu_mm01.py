"""SYSU-MM01: what real copies look like loads, what is wrong is named, the galleries' permutations are the file's."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import ODDITIES, assert_same, rewrite
from scipy.io import loadmat, savemat

from sa_lab.config import DataConfig
from sa_lab.data import list_images, published_counts, statistics, sysu_mm01
from sa_lab.data.copies import write_sysu
from sa_lab.data.drawn.synthetic import SyntheticSpec
from sa_lab.data.drawn.synthetic import listing as drawn
from sa_lab.schema import DataError, LeakageError

SPEC = SyntheticSpec(num_train_ids=4, num_test_ids=2, images_per_camera=2, height=16, width=8, seed=1)
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clean") / "sysu"
    write_sysu(root, SPEC, progress=False)
    return root


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "sysu"))


def exp(root: Path, name: str) -> Path:
    return root / "exp" / name


def blanks_and_commas(root: Path) -> Path:
    for part in ("train", "val", "test"):
        rewrite(exp(root, f"{part}_id.txt"), lambda text: " " + text.strip().replace(",", ",\n") + " ,\n\n")
    return root


def turned_cells(root: Path) -> Path:
    path = exp(root, "rand_perm_cam.mat")
    cells = loadmat(path)["rand_perm_cam"].T
    for camera in range(6):
        cells[0, camera] = cells[0, camera].T
        for person in range(6):
            cells[0, camera][0, person] = cells[0, camera][0, person].astype(float)
    savemat(path, {"rand_perm_cam": cells})
    return root


def strangers(root: Path) -> Path:
    shutil.copytree(root / "cam1" / "0001", root / "cam1" / "0777")
    return root


@pytest.mark.parametrize("oddity", [*ODDITIES, blanks_and_commas, turned_cells, strangers])
def test_odd_copies_load(oddity: Callable, clean: Path, root: Path, tmp_path: Path) -> None:
    assert_same(sysu_mm01.listing(oddity(root)), sysu_mm01.listing(clean), tmp_path / "cache")


def test_columns_are_those_of_the_drawn_set(clean: Path) -> None:
    found, expected = sysu_mm01.listing(clean), drawn(SPEC)
    assert found.name == "sysu-generated"
    assert found.paths == expected.paths
    for name in ("person_ids", "camera_ids", "modality", "is_train", "group_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found.split is None


def test_without_marker_and_permutations(root: Path) -> None:
    exp(root, "rand_perm_cam.mat").unlink()
    (root / "generated.json").unlink()
    found = sysu_mm01.listing(root)
    assert (found.name, found.gallery_order) == ("sysu", None)


def test_the_marker_holds_the_spec(clean: Path) -> None:
    note = json.loads((clean / "generated.json").read_text())
    assert SyntheticSpec(**note["spec"]) == SPEC


def test_statistics_have_the_keys_of_what_is_published(clean: Path) -> None:
    data = DataConfig(dataset="sysu", root=f"{clean}/")
    found, expected = statistics(list_images(data)), published_counts(data.dataset)
    assert expected is not None
    assert list(found) == list(expected)
    assert (found["train identities"], found["test identities"]) == (4, 2)
    assert sum(count for name, count in found.items() if "images" in name) == len(drawn(SPEC))
    assert published_counts("sysu-generated") is None


def first_of(root: Path) -> str:
    return exp(root, "train_id.txt").read_text().split(",")[0]


def no_infrared(root: Path) -> None:
    for camera in (3, 6):
        shutil.rmtree(root / f"cam{camera}" / "0006", ignore_errors=True)
    exp(root, "rand_perm_cam.mat").unlink()


def short_matrix(root: Path) -> None:
    camera = 2 if (root / "cam2" / "0005").is_dir() else 5
    (root / f"cam{camera}" / "0005" / "0003.jpg").write_bytes(b"")


def repeated_number(root: Path) -> None:
    path = exp(root, "rand_perm_cam.mat")
    cells = loadmat(path)["rand_perm_cam"]
    for camera in range(6):
        cells[camera, 0][5, 0][3:4] = 1
    savemat(path, {"rand_perm_cam": cells})


FAULTS = {
    "no list": (lambda root: exp(root, "val_id.txt").unlink(), ["val_id.txt: no such file"]),
    "empty list": (lambda root: exp(root, "test_id.txt").write_text(" ,\r\n"), ["test_id.txt: nothing in this list"]),
    "no camera": (lambda root: shutil.rmtree(root / "cam6"), ["no folder cam6; expected cam1, cam2, cam3, cam4"]),
    "no number": (
        lambda root: rewrite(exp(root, "train_id.txt"), lambda text: f"x7,{text.strip()},-1"),
        ["train_id.txt: 'x7' is no identity number", "train_id.txt: '-1' is no identity number"],
    ),
    "no image": (
        lambda root: rewrite(exp(root, "test_id.txt"), lambda text: f"{text.strip()},41,42"),
        ["identities [41, 42] have no image; expected folders such as cam1/0041"],
    ),
    "one modality": (no_infrared, ["identities [6] have visible images but no infrared one"]),
    "in two lists": (
        lambda root: rewrite(exp(root, "val_id.txt"), lambda text: f"{text.strip()},{first_of(root)}"),
        ["are in train_id.txt and in val_id.txt"],
    ),
    "another count": (short_matrix, ["identity 5: a 10 x 2 matrix for 3 images; expected 10 permutations of 1..3"]),
    "no permutation": (repeated_number, ["identity 6: a 10 x 2 matrix for 2 images; expected 10 permutations of 1..2"]),
    "no mat": (
        lambda root: exp(root, "rand_perm_cam.mat").write_bytes(b"MATLAB"),
        ["rand_perm_cam.mat: ", "expected a MATLAB file with the cell array rand_perm_cam"],
    ),
    "another mat": (lambda root: savemat(exp(root, "rand_perm_cam.mat"), {"x": 1}), ["KeyError('rand_perm_cam')"]),
    "no such root": (shutil.rmtree, ["no such folder; expected the root of a data set"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault: str, root: Path) -> None:
    damage, messages = FAULTS[fault]
    damage(root)
    with pytest.raises(DataError, match="cannot be used") as error:
        sysu_mm01.listing(root)
    assert not isinstance(error.value, LeakageError)
    for message in messages:
        assert message in str(error.value)


def test_all_faults_are_named_at_once(root: Path) -> None:
    together = ("no list", "no number", "no image", "one modality")
    exp(root, "val_id.txt").write_text("")
    for fault in together[1:]:
        FAULTS[fault][0](root)
    exp(root, "val_id.txt").unlink()
    with pytest.raises(DataError) as error:
        sysu_mm01.listing(root)
    for fault in together:
        assert all(message in str(error.value) for message in FAULTS[fault][1])


def test_identities_in_training_and_test_are_a_leak(root: Path) -> None:
    rewrite(exp(root, "test_id.txt"), lambda text: f"{text.strip()},2,3")
    exp(root, "val_id.txt").unlink()
    with pytest.raises(LeakageError, match="in training and in test") as error:
        sysu_mm01.listing(root)
    assert "val_id.txt: no such file" in str(error.value)


def test_order_of_the_official_galleries(tmp_path: Path) -> None:
    """In every trial, the images in their places are the raw file's permutation; training images have no place."""
    golden = np.load(GOLDEN / "sysu_official.npz")
    names, test_ids = golden["names"].tolist(), golden["test_ids"].tolist()
    for name in [*names, *(f"cam{camera}/{person:04d}/0001.jpg" for camera in (1, 3) for person in (1, 2))]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "exp").mkdir()
    for part, ids in (("train", [1]), ("val", [2]), ("test", test_ids)):
        exp(tmp_path, f"{part}_id.txt").write_text(",".join(map(str, ids)))
    shutil.copy(GOLDEN / "sysu_official_rand_perm_cam.mat", exp(tmp_path, "rand_perm_cam.mat"))
    found = sysu_mm01.listing(tmp_path)
    order = found.gallery_order
    assert order is not None
    assert order.shape == (len(names) + 4, 10)
    assert (order[found.is_train] == -1).all()
    assert sorted(path for path, train in zip(found.paths, found.is_train, strict=True) if not train) == sorted(names)
    raw = loadmat(GOLDEN / "sysu_official_rand_perm_cam.mat")["rand_perm_cam"]
    for camera in range(1, 7):
        for person in test_ids:
            rows = np.flatnonzero((found.camera_ids == camera) & (found.person_ids == person))
            for trial in (0, 4, 9):
                picked = [found.paths[i] for i in rows[np.argsort(order[rows, trial])]]
                permutation = raw[camera - 1, 0][person - 1, 0][trial]
                assert picked == [f"cam{camera}/{person:04d}/{number:04d}.jpg" for number in permutation]


def test_generated_permutations_place_every_test_image(clean: Path) -> None:
    found = sysu_mm01.listing(clean)
    assert found.gallery_order is not None
    assert (found.gallery_order[found.is_train] == -1).all()
    assert set(found.gallery_order[~found.is_train].ravel().tolist()) == {0, 1}
    assert len(np.unique(found.gallery_order[~found.is_train], axis=1).T) > 1


def test_permutations_must_cover_every_camera_and_test_identity(root: Path) -> None:
    path = exp(root, "rand_perm_cam.mat")
    cells = loadmat(path)["rand_perm_cam"]
    cells[2, 0] = cells[2, 0][:5]
    savemat(path, {"rand_perm_cam": cells[:5]})
    with pytest.raises(DataError) as error:
        sysu_mm01.listing(root)
    assert "5 cameras in rand_perm_cam; expected 6" in str(error.value)
    assert "camera 3 has 5 identities; expected [6] too" in str(error.value)

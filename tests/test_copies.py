"""Drawn copies of the published layouts: written whole or not at all, and readable by others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat

from sa_lab.data import copies
from sa_lab.data.copies import write_llcm, write_regdb, write_sysu
from sa_lab.data.drawn.synthetic import SyntheticSpec, listing

SMALL = SyntheticSpec(num_train_ids=4, num_test_ids=2, images_per_camera=2, height=48, width=24)
WRITERS = {"nir": write_sysu, "thermal": write_regdb, "low_light": write_llcm}


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def test_sysu_layout(tmp_path: Path) -> None:
    root = tmp_path / "sysu"
    write_sysu(root, replace(SMALL, num_train_ids=8), progress=False)
    ids = {p: [int(x) for x in (root / "exp" / f"{p}_id.txt").read_text().split(",")] for p in ("train", "val", "test")}
    assert sorted(ids["train"] + ids["val"]) == list(range(1, 9))
    assert (len(ids["train"]), len(ids["val"]), ids["test"]) == (6, 2, [9, 10])
    table = listing(replace(SMALL, num_train_ids=8))
    assert {p.relative_to(root).as_posix() for p in root.glob("cam*/*/*.jpg")} == set(table.paths)
    for i in (0, 5, len(table) - 1):
        with Image.open(root / table.paths[i]) as image:
            drawn = table.read(i).convert("RGB")
            assert image.mode == "RGB", "three channels, as the real infrared files have"
            assert np.abs(pixels(image) - pixels(drawn)).mean() < 4
    assert [path.name for path in tmp_path.iterdir()] == ["sysu"]


def test_regdb_layout(tmp_path: Path) -> None:
    root = tmp_path / "regdb"
    spec = replace(SMALL, num_train_ids=3, num_test_ids=3, variant="thermal")
    write_regdb(root, spec, progress=False)
    splits = set()
    for trial in range(1, 11):
        people = {}
        for part in ("train", "test"):
            labels = {}
            for modality, folder in (("visible", "Visible"), ("thermal", "Thermal")):
                rows = [
                    line.split() for line in (root / "idx" / f"{part}_{modality}_{trial}.txt").read_text().splitlines()
                ]
                assert len(rows) == 30
                assert all((root / path).is_file() and path.startswith(f"{folder}/") for path, _ in rows)
                labels[modality] = {int(path.split("/")[1]): int(label) for path, label in rows}
                assert sorted(labels[modality].values()) == [0, 1, 2]
            assert labels["visible"] == labels["thermal"]
            people[part] = frozenset(labels["visible"])
        assert people["train"] | people["test"] == set(range(1, 7))
        splits.add(people["train"])
    assert len(splits) > 1
    path = listing(spec).paths[0]
    with Image.open(root / path) as image:
        np.testing.assert_array_equal(pixels(image), pixels(listing(spec).read(0)))
    assert len(list(root.glob("*/*/*.bmp"))) == 6 * 20


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sa_lab.data.drawn.synthetic.draw_image", fail)
    with pytest.raises(KeyboardInterrupt):
        write_sysu(tmp_path / "sysu", SMALL, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="expected a new or empty folder"):
        write_sysu(tmp_path, SMALL, progress=False)


@pytest.mark.parametrize("variant", WRITERS)
def test_writers_take_their_own_variant_only(variant: str, tmp_path: Path) -> None:
    for other in set(WRITERS) - {variant}:
        with pytest.raises(ValueError, match=f"variant is '{other}', expected '{variant}'"):
            WRITERS[variant](tmp_path / "a", replace(SMALL, variant=other))


@pytest.mark.parametrize(
    ("write", "change", "message"),
    [
        (write_sysu, {"num_train_ids": 1}, "num_train_ids is 1, expected at least 2 for the SYSU-MM01 layout"),
        (write_sysu, {"num_test_ids": 0}, "num_test_ids is 0, expected at least 1"),
        (write_regdb, {"num_test_ids": 0, "variant": "thermal"}, "num_test_ids is 0, expected at least 1"),
        (write_llcm, {"num_train_ids": 0, "variant": "low_light"}, "num_train_ids is 0, expected at least 1"),
    ],
)
def test_every_list_names_somebody(write: Callable, change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a", replace(SMALL, **change))
    assert list(tmp_path.iterdir()) == []


def test_the_same_seed_writes_the_same_permutations(tmp_path: Path) -> None:
    spec = replace(SMALL, images_per_camera=3, height=16, width=8, num_train_ids=2, num_test_ids=1)
    first, second, other = (
        permutations(tmp_path / str(k), replace(spec, seed=seed)) for k, seed in enumerate((0, 0, 1))
    )
    assert first.keys() == {(camera, person) for camera in range(1, 7) for person in range(1, 4)}
    for key, matrix in first.items():
        np.testing.assert_array_equal(matrix, second[key])
        assert matrix.shape in ((10, 3), (10, 0))
        assert (np.sort(matrix, axis=1) == np.arange(1, matrix.shape[1] + 1)).all()
    assert any(matrix.shape != other[key].shape or (matrix != other[key]).any() for key, matrix in first.items())


def permutations(root: Path, spec: SyntheticSpec) -> dict[tuple[int, int], np.ndarray]:
    write_sysu(root, spec, progress=False)
    cells = loadmat(root / "exp" / "rand_perm_cam.mat")["rand_perm_cam"]
    assert cells.shape == (6, 1)
    return {(c + 1, p + 1): cells[c, 0][p, 0] for c in range(6) for p in range(len(cells[c, 0]))}


def test_llcm_layout(tmp_path: Path) -> None:
    root, spec = tmp_path / "llcm", replace(SMALL, variant="low_light", images_per_camera=1)
    write_llcm(root, spec, progress=False)
    table = listing(spec)
    assert {path.relative_to(root).as_posix() for path in root.rglob("*.jpg")} == set(table.paths)
    for name in ("vis", "nir"):
        rows = [line.split() for line in (root / "idx" / f"train_{name}.txt").read_text().splitlines()]
        assert {path for path, _ in rows} == {path for path in table.paths if path.startswith(f"{name}/")}
        assert all(int(path.split("/")[1]) == int(label) + 1 for path, label in rows)
        cameras = {int(path.name[3:]) for path in (root / f"test_{name}").iterdir()}
        assert cameras == set(range(1, 10)) - ({3} if name == "nir" else set())
    assert (root / "idx" / "test_id.txt").read_text() == "5,6\n"


def test_a_copy_is_drawn_once_and_only_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    drawn: list[str] = []
    monkeypatch.setattr(copies, "write", lambda dataset, root, **_: (drawn.append(dataset), root.mkdir(parents=True)))
    assert [copies.default_root("llcm", "") for _ in range(2)] == [str(tmp_path / "generated" / "llcm")] * 2
    assert (copies.default_root("llcm", "elsewhere"), copies.default_root("synthetic", "")) == ("elsewhere", "")
    assert drawn == ["llcm"]

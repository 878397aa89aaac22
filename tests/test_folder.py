"""The reader's own images: names, cameras, split, and what is said of a folder that does not fit."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sa_lab.data import folder
from sa_lab.data.files import chosen_by_name, divide, person_of, read_image
from sa_lab.data.store import build_store
from sa_lab.schema import DataError, Modality

PEOPLE = ("anna", "Bo", "07", "d e", "élan", "zoë")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for modality, mode in (("visible", "RGB"), ("infrared", "L")):
        for k, person in enumerate(PEOPLE):
            home = tmp_path / modality / person
            home.mkdir(parents=True)
            Image.new(mode, (16, 32), k).save(home / "a.PNG")
            Image.new(mode, (20, 40), k).save(home / "5_b.jpeg")
            (home / "notes.txt").write_text("not an image")
            (home / ".hidden.png").write_text("not an image")
    return tmp_path


def test_columns(root: Path) -> None:
    table = folder.listing(root)
    assert len(table) == 2 * 2 * len(PEOPLE)
    for i, path in enumerate(table.paths):
        modality, person, name = path.split("/")
        assert table.person_ids[i] == person_of(person)
        assert table.modality[i] == Modality[modality.upper()]
        assert table.camera_ids[i] == (5 if name == "5_b.jpeg" else table.modality[i] + 1)
        assert table.read(i).mode == ("RGB" if modality == "visible" else "L")
    assert pickle.loads(pickle.dumps(table.read))(0).size == table.read(0).size


def test_identities_are_split_by_seed(root: Path) -> None:
    table = folder.listing(root, test_fraction=1 / 3)
    train, test = (set(table.person_ids[part].tolist()) for part in (table.is_train, ~table.is_train))
    assert train.isdisjoint(test)
    assert min(len(train), len(test)) >= 1
    np.testing.assert_array_equal(table.is_train, folder.listing(root, test_fraction=1 / 3).is_train)
    assert len({tuple(folder.listing(root, seed=seed).is_train.tolist()) for seed in range(8)}) > 1
    assert folder.listing(root, test_fraction=0.0).is_train.all()
    assert not folder.listing(root, test_fraction=1.0).is_train.any()


@given(names=st.lists(st.text(min_size=1, max_size=4), min_size=2, max_size=30, unique=True), seed=st.integers(0, 99))
def test_nobody_changes_sides_when_somebody_comes(names: list[str], seed: int) -> None:
    """But for the one that a part would lack altogether."""
    before = names[:-1] if len(names) > 2 else names
    whole, fewer = (chosen_by_name(some, 0.5, seed, "things") for some in (names, before))
    assert 1 <= whole.sum() < len(names)
    assert (whole[: len(fewer)] != fewer).sum() <= 1


def test_nested_folders_count_and_what_is_no_image_is_told(root: Path, tmp_path_factory, capsys) -> None:
    deeper = root / "visible" / "anna" / "monday" / "noon"
    deeper.mkdir(parents=True)
    Image.new("RGB", (16, 32), 9).save(deeper / "7_c.webp")
    Image.new("RGB", (16, 32), 9).save(deeper / "d.tif")
    (root / "visible" / "anna" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (root / "visible" / "anna" / "clip.mp4").write_bytes(b"0")
    table = folder.listing(root)
    assert len(table) == 2 * 2 * len(PEOPLE) + 2
    place = table.paths.index("visible/anna/monday/noon/7_c.webp")
    assert (table.camera_ids[place], table.person_ids[place]) == (7, person_of("anna"))
    assert table.read(place).mode == "RGB"
    kinds = Counter(line.rpartition(": ")[2] for line in table.passed_over)
    assert kinds == {"no suffix of an image": 2 * len(PEOPLE) + 1, "a pipe, a device or a link that leads nowhere": 1}
    build_store(table, 16, 8, tmp_path_factory.mktemp("cache"), progress=False)
    told = capsys.readouterr().err
    assert f"folder: passed over {2 * len(PEOPLE) + 1} (" in told
    assert "folder: passed over 1 (" in told


def test_one_range_of_black_and_white_for_all_deep_images(root: Path, tmp_path: Path, tmp_path_factory) -> None:
    """Twelve bits in a PNG of sixteen, and floats in a TIFF; visible images stay as they are."""
    for k, person in enumerate(PEOPLE):
        place = root / "infrared" / person
        pixels = np.linspace(1000 + k, 3000 + k, 32 * 16).reshape(32, 16)
        Image.fromarray(pixels.astype(np.uint16)).save(place / "a.PNG")
        (place / "5_b.jpeg").unlink()
        Image.fromarray(pixels.astype(np.float32)).save(place / "b.tiff")
    table = folder.listing(root)
    cache = tmp_path_factory.mktemp("cache")
    store = build_store(table, 32, 16, cache, progress=False)
    low, high = store.thermal_range
    assert 1000 <= low < 1060 < 2700 < high <= 3005
    rows = [row for row, path in enumerate(store.paths) if path.startswith("infrared/") and path.endswith(".PNG")]
    pixels = store.gather(torch.tensor(rows)).numpy()
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert len(np.unique(pixels)) > 200, "not the upper byte alone"
    again = build_store(table, 32, 16, cache, progress=False)
    assert again.thermal_range == store.thermal_range
    given = build_store(table, 32, 16, cache, progress=False, thermal_range=(0.0, 6000.0))
    assert given.thermal_range == (0.0, 6000.0)
    assert given.gather(torch.tensor(rows)).numpy().max() < 140


@pytest.mark.parametrize(
    ("name", "camera"),
    [("3_a.jpg", 3), ("12_a.jpg", 12), ("003_a.jpg", 1), ("123_a.jpg", 1), ("3a.jpg", 1), ("3_", 1), ("a_3.jpg", 1)],
)
def test_camera_prefix(name: str, camera: int) -> None:
    assert folder.camera_of(name, Modality.VISIBLE) == camera


@given(camera=st.integers(1, 99), rest=st.text(min_size=1).filter(lambda text: text[0] != "\n"))
def test_every_camera_from_1_to_99_can_be_named(camera: int, rest: str) -> None:
    assert folder.camera_of(f"{camera}_{rest}", Modality.INFRARED) == camera


@given(count=st.integers(2, 60), fraction=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_divide_leaves_something_on_both_sides(count: int, fraction: float, seed: int) -> None:
    chosen = divide(count, fraction, seed, "share", "things")
    assert 1 <= chosen.sum() < count
    assert abs(chosen.sum() - fraction * count) <= 1
    np.testing.assert_array_equal(chosen, divide(count, fraction, seed, "share", "things"))


def test_missing_folder(root: Path) -> None:
    (root / "infrared").rename(root / "thermal")
    with pytest.raises(DataError, match="infrared: no such folder; expected the folders visible and infrared"):
        folder.listing(root)


def test_all_faults_are_named_at_once(root: Path) -> None:
    for path in (root / "infrared" / "anna").iterdir():
        path.unlink()
    (root / "infrared" / "anna").rmdir()
    (root / "visible" / "new").mkdir()
    Image.new("L", (8, 8)).save(root / "visible" / "loose.png")
    with pytest.raises(DataError, match="cannot be used") as error:
        folder.listing(root)
    message = str(error.value)
    assert f"{root / 'infrared' / 'anna'}: no such folder; every identity needs visible and infrared images" in message
    assert f"{root / 'visible' / 'new'}: no image; expected at least one file *.bmp, *.jpeg, *.jpg, *.png" in message
    assert f"{root / 'infrared' / 'new'}: no such folder" in message
    assert f"loose.png: expected in a folder {root / 'visible'}/<identity>" in message


def test_no_identity(tmp_path: Path) -> None:
    (tmp_path / "visible").mkdir()
    (tmp_path / "infrared").mkdir()
    with pytest.raises(DataError, match="no identity; expected folders"):
        folder.listing(tmp_path)


def test_one_identity_cannot_be_divided(tmp_path: Path) -> None:
    for modality in ("visible", "infrared"):
        (tmp_path / modality / "only").mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / modality / "only" / "a.png")
    with pytest.raises(DataError, match=r"only 1 identities in .* expected at least two"):
        folder.listing(tmp_path)
    with pytest.raises(ValueError, match="test_fraction is -1"):
        folder.listing(tmp_path, test_fraction=-1.0)


def test_unreadable_and_truncated_files_fail_when_read(root: Path) -> None:
    (root / "visible" / "anna" / "a.PNG").write_bytes(b"no image")
    jpeg = root / "visible" / "anna" / "5_b.jpeg"
    jpeg.write_bytes(jpeg.read_bytes()[:-40])
    table = folder.listing(root)
    for name in ("a.PNG", "5_b.jpeg"):
        with pytest.raises(DataError, match=rf"{name}: (no image in one of the formats BMP|.*truncated)"):
            table.read(table.paths.index(f"visible/anna/{name}"))


@pytest.mark.parametrize(("mode", "expected"), [("P", "RGB"), ("RGBA", "RGB"), ("LA", "L"), ("1", "L")])
def test_modes_become_rgb_or_grey(tmp_path: Path, mode: str, expected: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").mode == expected


def test_grey_of_sixteen_bits_keeps_its_numbers(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert (read.mode, np.asarray(read).min()) == ("F", 30000)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: holds NaN or infinity"):
        read_image(tmp_path / "a.tif")

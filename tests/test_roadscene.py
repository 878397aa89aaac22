"""RoadScene: windows as identities, split by scene, every fault of the folder named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sa_lab.data import roadscene
from sa_lab.data.files import person_of
from sa_lab.schema import DataError, Modality

REAL = Path(__file__).parents[2] / "shared" / "data" / "roadscene"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six generated pairs of different sizes."""
    rng = np.random.default_rng(0)
    for folder in roadscene.FOLDERS.values():
        (tmp_path / folder).mkdir()
    for k in range(6):
        shape = (60 + 4 * k, 100 + 20 * k)
        visible, infrared = rng.integers(0, 255, (*shape, 3), np.uint8), rng.integers(0, 255, shape, np.uint8)
        Image.fromarray(visible).save(tmp_path / "crop_LR_visible" / f"FLIR_{k}.jpg")
        Image.fromarray(infrared).save(tmp_path / "cropinfrared" / f"FLIR_{k}.jpg")
    return tmp_path


def test_columns(root: Path) -> None:
    table = roadscene.listing(root, images_per_window=3)
    assert len(table) == 6 * 3 * 2 * 3
    names = {f"FLIR_{k}#{window}": k for k in range(6) for window in (1, 2, 3)}
    group_of = {person_of(name): group for name, group in names.items()}
    assert set(table.person_ids.tolist()) == set(group_of)
    assert [group_of[person] for person in table.person_ids.tolist()] == table.group_ids.tolist()
    np.testing.assert_array_equal(table.camera_ids, table.modality + 1)
    assert table.paths[0] == "crop_LR_visible/FLIR_0.jpg#1-1"
    for i, path in enumerate(table.paths):
        assert ("visible" in path) == (table.modality[i] == Modality.VISIBLE)
        assert table.read(i).mode == ("RGB" if table.modality[i] == Modality.VISIBLE else "L")


def test_scenes_are_split_whole(root: Path) -> None:
    table = roadscene.listing(root)
    train, test = (set(table.group_ids[part].tolist()) for part in (table.is_train, ~table.is_train))
    assert train.isdisjoint(test)
    assert (len(train), len(test)) == (4, 2)
    splits = {tuple(roadscene.listing(root, seed=seed).is_train.tolist()) for seed in range(8)}
    assert len(splits) > 1


def test_same_seed_gives_same_crops(root: Path) -> None:
    first, second, other = (roadscene.listing(root, seed=seed) for seed in (3, 3, 4))
    assert first.stamps == second.stamps
    assert first.stamps != other.stamps
    for i in reversed(range(0, len(first), 7)):
        np.testing.assert_array_equal(np.asarray(first.read(i)), np.asarray(second.read(i)))


def test_modalities_are_cropped_independently(root: Path) -> None:
    table = roadscene.listing(root)
    box = [stamp.rsplit(":", 1)[1] for stamp in table.stamps]
    mine = table.person_ids == person_of("FLIR_0#2")
    visible, infrared = ([box[i] for i in np.flatnonzero(mine & (table.modality == m))] for m in Modality)
    assert not set(visible) & set(infrared)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 999), window=st.integers(0, 2), width=st.integers(24, 900), height=st.integers(24, 600))
def test_crops_are_upright_and_stay_in_their_third(seed: int, window: int, width: int, height: int) -> None:
    x0, y0, x1, y1 = roadscene._crop(np.random.default_rng(seed), window, width, height)
    assert int(width / 3 * window) <= x0 < x1 <= width / 3 * (window + 1) + 1
    assert 0 <= y0 < y1 <= height
    assert abs((y1 - y0) - 2 * (x1 - x0)) <= 3


def test_each_file_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    monkeypatch.setattr(roadscene, "read_image", lambda path: decoded.append(path) or Image.open(path).copy())
    roadscene._decoded.cache_clear()
    table = roadscene.listing(root)
    for i in range(len(table)):
        table.read(i)
    assert len(decoded) == len(set(decoded)) == 12


def test_a_rewritten_file_is_seen(root: Path) -> None:
    before = roadscene.listing(root)
    old = np.asarray(before.read(0))
    path = root / "crop_LR_visible" / "FLIR_0.jpg"
    Image.fromarray(np.zeros((60, 100, 3), np.uint8)).save(path)
    os.utime(path, ns=(1, 1))
    after = roadscene.listing(root)
    assert after.stamps[0] != before.stamps[0]
    assert np.asarray(after.read(0)).mean() < 1 < old.mean()


def test_reader_is_picklable(root: Path) -> None:
    table = roadscene.listing(root)
    np.testing.assert_array_equal(np.asarray(pickle.loads(pickle.dumps(table.read))(5)), np.asarray(table.read(5)))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="crop_LR_visible: no such folder; expected the folders crop_LR_visible and cropi"
    ):
        roadscene.listing(tmp_path)


def test_empty_folders(root: Path) -> None:
    for path in root.glob("*/*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match=r"no \.jpg file"):
        roadscene.listing(root)


def test_files_without_partner_are_all_named(root: Path) -> None:
    (root / "crop_LR_visible" / "FLIR_1.jpg").unlink()
    (root / "cropinfrared" / "FLIR_4.jpg").unlink()
    with pytest.raises(DataError, match="2 files have no partner") as error:
        roadscene.listing(root)
    assert f"{Path('crop_LR_visible') / 'FLIR_4.jpg'}" in str(error.value)
    assert f"{Path('cropinfrared') / 'FLIR_1.jpg'}" in str(error.value)


def test_size_mismatch_and_unreadable_files_are_all_named(root: Path) -> None:
    Image.new("L", (90, 60)).save(root / "cropinfrared" / "FLIR_0.jpg")
    (root / "crop_LR_visible" / "FLIR_2.jpg").write_bytes(b"no image")
    (root / "cropinfrared" / "FLIR_3.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="3 of 6 pairs cannot be used") as error:
        roadscene.listing(root)
    message = str(error.value)
    assert "100x60" in message
    assert "90x60; expected one size" in message
    assert message.count("no image in one of the formats BMP, JPEG, PNG") == 2


def test_truncated_file_fails_when_it_is_read(root: Path) -> None:
    path = root / "crop_LR_visible" / "FLIR_0.jpg"
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"FLIR_0\.jpg: .*truncated"):
        roadscene.listing(root).read(0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"images_per_window": 0}, "images_per_window is 0"), ({"train_fraction": 1.5}, r"train_fraction is 1\.5")],
)
def test_arguments_out_of_range(root: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        roadscene.listing(root, **options)  # type: ignore[arg-type]


@pytest.mark.skipif(not REAL.is_dir(), reason="the RoadScene pairs are not here")
def test_real_pairs() -> None:
    table = roadscene.listing(REAL)
    scenes = len(list((REAL / "cropinfrared").glob("*.jpg")))
    assert len(table) == scenes * 3 * 2 * 4
    assert len(set(table.person_ids[table.is_train].tolist())) == 3 * round(scenes * 2 / 3)
    sizes = np.array([table.read(i).size for i in range(0, len(table), 97)])
    np.testing.assert_allclose(sizes[:, 1] / sizes[:, 0], 2, atol=0.1)

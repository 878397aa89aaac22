"""Anybody's images by a table: columns, official splits, tracks, and what is said of a table that does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from sa_lab import experiment
from sa_lab.config import DataConfig, ExperimentConfig
from sa_lab.data import list_images, manifest, prepare
from sa_lab.data.files import person_of
from sa_lab.data.store import split_identities
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.evaluation.search import search
from sa_lab.schema import DataError, Role

COLUMNS = ("path", "person", "camera", "modality")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six people, two images in each of two cameras."""
    (tmp_path / "all pictures").mkdir()
    for person in range(6):
        for spectrum in ("visible", "infrared"):
            for k in range(2):
                pixels = np.random.default_rng([person, k]).integers(0, 255, (32, 16), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "all pictures" / f"{person}-{spectrum}-{k}.png")
    return tmp_path


def rows_of(**more) -> list[dict]:
    """A row an image; ``more``: further columns, each a function of person, spectrum and number."""
    return [
        {
            "path": f"all pictures\\{person}-{spectrum}-{k}.png", "person": f"p{person}",
            "camera": 1 + (k if more else 0), "modality": spectrum,
            **{name: of(person, spectrum, k) for name, of in more.items()},
        }
        for person in range(6) for spectrum in ("visible", "infrared") for k in range(2)
    ]  # fmt: skip


def write(root: Path, rows: list[dict], suffix: str = ".csv") -> Path:
    table = root / f"list{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), table)
        return table
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    table.write_text("\ufeff" + "\r\n".join([*lines, "", ""]), encoding="utf-8")  # as a spreadsheet writes it
    return table


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns(root: Path, suffix: str) -> None:
    found = manifest.listing(write(root, rows_of(), suffix), test_fraction=0.5)
    assert len(found) == 24
    assert found.paths[0] == "all pictures/0-visible-0.png"
    assert found.person_ids[:4].tolist() == [person_of("p0")] * 4
    assert found.modality[:4].tolist() == [0, 0, 1, 1]
    assert set(found.camera_ids.tolist()) == {1}
    assert found.roles is None
    assert found.tracks is None
    assert 0 < len(np.unique(found.person_ids[found.is_train])) < 6
    assert manifest.listing(write(root, rows_of(), suffix), test_fraction=0.0).is_train.all()


OFFICIAL = {0: "train", 1: "train", 2: "validation", 3: "validation"}


def official(person: int, spectrum: str, k: int) -> str:
    return OFFICIAL.get(person, "query" if spectrum == "infrared" else "gallery")


def test_an_official_split_is_kept(root: Path) -> None:
    found = manifest.listing(write(root, rows_of(split=official)), test_fraction=0.9, seed=3)
    train, held = split_identities(found, 0.0, seed=7)
    assert train.tolist() == sorted(person_of(f"p{one}") for one in (0, 1))
    assert held.tolist() == sorted(person_of(f"p{one}") for one in (2, 3))
    tested = found.roles[~found.is_train]
    assert set(tested[found.modality[~found.is_train] == 1].tolist()) == {Role.QUERY}
    assert set(tested[found.modality[~found.is_train] == 0].tolist()) == {Role.GALLERY}


def test_tracks_are_one_in_a_ranking(
    root: Path, monkeypatch: pytest.MonkeyPatch, people_config: ExperimentConfig
) -> None:
    """The mean of their descriptors, of unit length again; a query asks and is not searched."""
    monkeypatch.setenv("SA_LAB_HOME", str(root / "home"))
    split = lambda person, spectrum, k: "train" if person < 4 else "query" if spectrum == "infrared" else "gallery"  # noqa: E731
    rows = rows_of(split=split, track=lambda person, spectrum, k: f"t{person}" if person == 5 else "")
    rows = [{**row, "camera": 1} for row in rows]
    data = DataConfig(dataset="manifest", root=str(write(root, rows)), height=32, width=16, validation_fraction=0.0)
    run = experiment.run(people_config.replace({"data": data.__dict__, "train.ids_per_batch": 4}), progress=False)
    tested = run.embeddings
    assert len(tested) == 2 * 2 + 2, "person 4 has two images a spectrum, person 5 a track"
    searched = search(tested, protocols_of(tested.dataset, None, False)[0])
    assert set(tested.modality[searched.query].tolist()) == {1}
    assert len(searched.gallery) == 3
    row = int(np.flatnonzero(tested.person_ids == person_of("p5"))[0])
    whole = np.linalg.norm(np.asarray(tested.embeddings[row], np.float32))
    assert whole == pytest.approx(1.0, abs=1e-2)
    assert len(prepare(data, progress=False)) == 24


BAD = {
    "no table": (lambda root: root / "none.csv", r"none\.csv: no such file; expected a table"),
    "another suffix": (lambda root: root, r"expected a table, \.csv or \.parquet"),
    "no row": (lambda root: write_text(root, "path,person,camera,modality\n"), "no row; expected a header"),
    "a column lacks": (lambda root: write(root, [{"path": "a", "person": 1}]), "lacks the column camera, modality"),
    "no such file": (lambda root: write(root, one(path="x.png")), r"line 2: .*x\.png: no such file"),
    "outside": (lambda root: write(root, one(path="../x.png")), r"line 2: '\.\./x\.png' lies outside"),
    "camera": (lambda root: write(root, one(camera="left")), r"line 2: camera 'left'; expected a number from 1"),
    "modality": (lambda root: write(root, one(modality="heat")), "line 2: modality 'heat'; expected visible or"),
    "person": (lambda root: write(root, one(person="")), "line 2: no person; expected a number or a name"),
    "split": (lambda root: write(root, one(split="dev")), "line 2: split 'dev'; expected train, validation, query"),
    "both": (
        lambda root: write(root, rows_of(split=lambda person, spectrum, k: "train" if k else "validation")),
        r"persons \['p0', 'p1', .* are in train and in validation",
    ),
    "leak": (
        lambda root: write(root, rows_of(split=lambda person, spectrum, k: "train" if k else "test")),
        "are in training and in test",
    ),
}  # fmt: skip


def write_text(root: Path, text: str) -> Path:
    (root / "list.csv").write_text(text)
    return root / "list.csv"


def one(**changes: str) -> list[dict]:
    first, *others = rows_of()
    return [{**first, "split": "train", **changes}, *({**row, "split": "train"} for row in others)]


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_named_with_its_line(root: Path, name: str) -> None:
    make, told = BAD[name]
    with pytest.raises(DataError, match=told):
        manifest.listing(make(root))


def test_a_split_by_names_moves_nobody_when_somebody_comes(root: Path) -> None:
    data = DataConfig(dataset="manifest", root=str(write(root, rows_of())), test_fraction=0.5)
    before = list_images(data)
    without = [row for row in rows_of() if row["person"] != "p2"]
    write(root, without)
    after = list_images(data)
    sides = [
        {int(person): bool(train) for person, train in zip(found.person_ids, found.is_train, strict=True)}
        for found in (before, after)
    ]
    assert sides[1].items() <= sides[0].items()

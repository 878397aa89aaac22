"""The drawn data set as files, in the layouts of SYSU-MM01, RegDB and LLCM: for tests, and to learn the layouts from.

A copy appears under its name only when everything is written. ``generated.json`` at its root says what was drawn, and
its listing is named ``<data set>-generated``, so that no number from it passes for one from the real data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat
from tqdm.auto import tqdm

from sa_lab.config import LAYOUTS, NUM_TRIALS, REGDB_SPLITS
from sa_lab.data.drawn.synthetic import DRAWING_VERSION, SyntheticSpec, generator, listing
from sa_lab.data.files import MARKER, new_folder
from sa_lab.disk import home
from sa_lab.schema import Listing, Modality

_REGDB_IMAGES = 10


def write(dataset: str, root: Path, train_ids: int, test_ids: int, images_per_camera: int = 4, seed: int = 0) -> None:
    """Write drawn people in the layout of ``dataset``: sysu, regdb or llcm; see the function of each."""
    writers = {"sysu": (write_sysu, "nir"), "regdb": (write_regdb, "thermal"), "llcm": (write_llcm, "low_light")}
    writer, variant = writers[dataset]
    writer(root, SyntheticSpec(train_ids, test_ids, images_per_camera, seed=seed, variant=variant))  # type: ignore[arg-type]


def default_root(dataset: str, root: str) -> str:
    """``root``, or where it is empty the folder of a generated copy of sysu, regdb or llcm, which is drawn once."""
    if root or dataset not in LAYOUTS:
        return root
    folder = home() / "generated" / dataset
    if not folder.is_dir():
        with suppress(FileExistsError):  # another process was faster
            write(dataset, folder, train_ids=60, test_ids=30)
    return str(folder)


def write_sysu(root: Path, spec: SyntheticSpec, progress: bool = True) -> None:
    """Write the near-infrared data set as files in the layout of SYSU-MM01.

    ``cam{1..6}/{id:04d}/{n:04d}.jpg``, ``exp/{train,val,test}_id.txt``, each one comma-separated line, and
    ``exp/rand_perm_cam.mat``, the galleries of ten trials. The training identities are divided about 3:1 into train and
    val; as usual with SYSU-MM01, the training set is both together.

    Args:
        root: folder to make; it appears only when everything is written.
        spec: what to draw; its variant must be ``nir``.
        progress: show a progress bar.

    Raises:
        ValueError: the variant is not ``nir``, or there are too few identities for the three lists.
        FileExistsError: ``root`` exists and is not an empty folder.
    """
    _require(spec, "nir", "SYSU-MM01", least_train=2)
    train = (generator(spec.seed, 7).permutation(spec.num_train_ids) + 1).tolist()
    cut = spec.num_train_ids - max(1, spec.num_train_ids // 4)
    test = range(spec.num_train_ids + 1, spec.num_train_ids + spec.num_test_ids + 1)
    with _drawn(root, spec, progress, quality=95, subsampling=0) as (folder, table):
        (folder / "exp").mkdir()
        for part, people in (("train", train[:cut]), ("val", train[cut:]), ("test", test)):
            _write_ids(folder / "exp" / f"{part}_id.txt", people)
        for camera in spec.cameras:
            (folder / f"cam{camera}").mkdir(exist_ok=True)
        savemat(folder / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": _permutations(spec, table)})


def write_regdb(root: Path, spec: SyntheticSpec, progress: bool = True) -> None:
    """Write the thermal data set as files in the layout of RegDB, with ten index splits.

    ``{Visible,Thermal}/{id}/*.bmp``, ten images each, and ``idx/{train,test}_{visible,thermal}_{1..10}.txt`` with
    lines ``path label``. Each split takes another ``num_train_ids`` of all identities for training; labels count
    from 0 in a file, and are the same in the visible and the thermal file of a split.

    Args:
        root: folder to make; it appears only when everything is written.
        spec: what to draw; its variant must be ``thermal``; ``images_per_camera`` is taken as 10.
        progress: show a progress bar.

    Raises:
        ValueError: the variant is not ``thermal``, or a part has no identity.
        FileExistsError: ``root`` exists and is not an empty folder.
    """
    _require(spec, "thermal", "RegDB")
    with _drawn(root, replace(spec, images_per_camera=_REGDB_IMAGES), progress) as (folder, table):
        for split in range(1, REGDB_SPLITS + 1):
            people = (generator(spec.seed, 8, split).permutation(spec.num_train_ids + spec.num_test_ids) + 1).tolist()
            for part, chosen in (("train", people[: spec.num_train_ids]), ("test", people[spec.num_train_ids :])):
                for modality, name in ((Modality.VISIBLE, "visible"), (Modality.INFRARED, "thermal")):
                    _write_entries(folder / "idx" / f"{part}_{name}_{split}.txt", table, modality, chosen)


def write_llcm(root: Path, spec: SyntheticSpec, progress: bool = True) -> None:
    """Write the low-light data set as files in the layout of LLCM.

    Training images in ``{vis,nir}/{id:04d}`` and in ``idx/train_{vis,nir}.txt`` with lines ``path label``; test images
    in ``test_{vis,nir}/cam{k}/{id:04d}``, their identities in ``idx/test_id.txt``, one comma-separated line.

    Args:
        root: folder to make; it appears only when everything is written.
        spec: what to draw; its variant must be ``low_light``.
        progress: show a progress bar.

    Raises:
        ValueError: the variant is not ``low_light``, or a part has no identity.
        FileExistsError: ``root`` exists and is not an empty folder.
    """
    _require(spec, "low_light", "LLCM")
    with _drawn(root, spec, progress, quality=95, subsampling=0) as (folder, table):
        names = {Modality.VISIBLE: "vis", Modality.INFRARED: "nir"}
        for modality, name in names.items():
            _write_entries(folder / "idx" / f"train_{name}.txt", table, modality, range(1, spec.num_train_ids + 1))
        _write_ids(folder / "idx" / "test_id.txt", table.person_ids[~table.is_train].tolist())
        for camera in spec.cameras.values():
            (folder / f"test_{names[camera.modality]}" / f"cam{camera.number}").mkdir(parents=True, exist_ok=True)


def _require(spec: SyntheticSpec, variant: str, layout: str, least_train: int = 1) -> None:
    if spec.variant != variant:
        raise ValueError(f"variant is {spec.variant!r}, expected {variant!r} for the {layout} layout")
    for name, least in (("num_train_ids", least_train), ("num_test_ids", 1)):
        if getattr(spec, name) < least:
            raise ValueError(f"{name} is {getattr(spec, name)}, expected at least {least} for the {layout} layout")


@contextmanager
def _drawn(root: Path, spec: SyntheticSpec, progress: bool, **options: Any) -> Iterator[tuple[Path, Listing]]:
    """The new folder with the marker and all images in it, and their listing; the block adds the lists."""
    table = listing(spec)
    with new_folder(Path(root)) as folder:
        note = {"drawing_version": DRAWING_VERSION, "spec": asdict(spec)}
        (folder / MARKER).write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")
        for i, path in enumerate(tqdm(table.paths, desc=f"draw {spec.variant}", unit="image", disable=not progress)):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            table.read(i).convert("RGB").save(folder / path, **options)  # the real infrared files have three channels
        yield folder, table


def _write_ids(path: Path, people: Iterable[int]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(",".join(str(person) for person in sorted(set(people))) + "\n", encoding="utf-8")


def _write_entries(path: Path, table: Listing, modality: Modality, people: Iterable[int]) -> None:
    """Lines ``path label`` of the images of some identities in one modality, by identity."""
    label_of = {person: label for label, person in enumerate(sorted(people))}
    rows = np.flatnonzero((table.modality == modality) & np.isin(table.person_ids, list(label_of)))
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{table.paths[i]} {label_of[int(table.person_ids[i])]}\n" for i in rows), encoding="utf-8")


def _permutations(spec: SyntheticSpec, table: Listing) -> np.ndarray:
    """``rand_perm_cam``: (6,1) cells, each (identities,1) cells of (10, images) matrices with image numbers from 1."""
    people = spec.num_train_ids + spec.num_test_ids
    cells = np.empty((len(spec.cameras), 1), dtype=object)
    for row, camera in enumerate(spec.cameras):
        cells[row, 0] = np.empty((people, 1), dtype=object)
        for person in range(1, people + 1):
            images = int(((table.person_ids == person) & (table.camera_ids == camera)).sum())
            draws = generator(spec.seed, 10, camera, person)
            cells[row, 0][person - 1, 0] = np.array(
                [draws.permutation(images) + 1 for _ in range(NUM_TRIALS)], dtype=np.uint16
            )
    return cells

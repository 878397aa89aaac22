"""Anybody's images in a table: CSV or Parquet, one row per image, whatever their folders and names look like."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sa_lab.data.files import Found, chosen_by_name, listing_of, name_of, person_of, refuse
from sa_lab.schema import DataError, Listing, Modality, Role

NEEDED = ("path", "person", "camera", "modality")
OPTIONAL = ("split", "track")
SPLITS = {"train": None, "validation": None, "query": Role.QUERY, "gallery": Role.GALLERY, "test": Role.BOTH}
"""What a row may be for; test: it is both query and gallery."""
_MODALITIES = {"visible": Modality.VISIBLE, "infrared": Modality.INFRARED, "thermal": Modality.INFRARED}
_MODALITIES |= {"rgb": Modality.VISIBLE, "ir": Modality.INFRARED, "nir": Modality.INFRARED}


def listing(table: Path | str, test_fraction: float = 1 / 3, seed: int = 0) -> Listing:
    """The images that a table names.

    Columns: ``path`` (from the table's folder, slashes of either kind), ``person`` (a number or any text), ``camera``
    (a number from 1), ``modality`` (visible or infrared). There may be ``split`` (`SPLITS`), which is kept as it is,
    and ``track``, a number or any text: images of a person in a camera with one track count as one in a ranking, by the
    mean of their descriptors. Other columns are passed over.

    Args:
        table: the file, ``.csv`` or ``.parquet``.
        test_fraction: share of the identities, 0..1, that are test identities where there is no column split.
        seed: decides which, by their names alone.

    Raises:
        DataError: no such table, columns or files are missing, values that do not fit, people who are in training and
            in test; each with its line.
    """
    table = Path(table)
    rows = _rows(table)
    columns = set(rows[0][1])
    if missing := [name for name in NEEDED if name not in columns]:
        told = ", ".join(sorted(columns))
        advice = ", separated by commas" if len(columns) == 1 else ""
        raise DataError(
            f"{table} lacks the column {', '.join(missing)} among {told}; expected {', '.join(NEEDED)}{advice}"
        )
    faults: list[str] = []
    found: list[Found] = []
    kept: list[Mapping[str, str]] = []
    lines: list[int] = []
    names: dict[int, str] = {}
    for line, row in rows:
        one, wrong = _found(table, line, row)
        faults += wrong
        if one is None:
            continue
        found.append(one)
        kept.append(row)
        lines.append(line)
        person = name_of(row["person"])
        if (other := names.setdefault(one.person, person)) != person:
            faults.append(f"{table}, line {line}: persons {other!r} and {person!r} have the same number; rename one")
    refuse(table, faults)
    roles = held = None
    if "split" in columns:
        splits = [row["split"].lower() for row in kept]
        is_train = [name in ("train", "validation") for name in splits]
        roles = np.array([SPLITS[name] or Role.BOTH for name in splits], dtype=np.int64)
        held = np.unique([one.person for one, name in zip(found, splits, strict=True) if name == "validation"])
        trained = {one.person for one, name in zip(found, splits, strict=True) if name == "train"}
        if shared := sorted(names[one] for one in trained & set(held.tolist())):
            refuse(table, [f"{table}: persons {shared} are in train and in validation; expected each in one"])
        first: dict[tuple[int, bool], int] = {}
        for line, one, train in zip(lines, found, is_train, strict=True):
            first.setdefault((one.person, train), line)
        leaks = [
            f"{table}, lines {first[one, True]} and {first[one, False]}, of person {names[one]!r}, are in training and "
            "in test; expected each person in one"
            for one, train in first
            if train and (one, False) in first
        ]
        refuse(table, (), leaks)
    else:
        people = sorted(names)
        chosen = chosen_by_name([names[one] for one in people], test_fraction, seed, f"persons in {table}")
        tested = {one for one, test in zip(people, chosen, strict=True) if test}
        is_train = [one.person not in tested for one in found]
    found = [one._replace(is_train=train) for one, train in zip(found, is_train, strict=True)]
    tracks = _tracks(table, found, kept) if "track" in columns else None
    return listing_of(
        "manifest",
        table.parent,
        found,
        roles=roles,
        tracks=tracks,
        held_ids=held if held is not None and len(held) else None,
    )


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """Number of the line and columns, as stripped texts, of each row that is not blank; a row of several lines is known
    by its last one, and one of a Parquet file by its place, the first being 2."""
    try:
        if table.suffix.lower() == ".parquet":
            from pyarrow import parquet

            read: Sequence[tuple[int, Mapping[str, Any]]] = [*enumerate(parquet.read_table(table).to_pylist(), start=2)]
        elif table.suffix.lower() == ".csv":
            with table.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file)
                read = [(reader.line_num, row) for row in reader]
        else:
            raise DataError(f"{table}: expected a table, .csv or .parquet")
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{table}: no such file; expected a table, .csv or .parquet") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{table} is no UTF-8, expected a table that is saved as CSV UTF-8") from error
    except Exception as error:  # damaged
        raise DataError(f"{table} cannot be read: {error}") from error
    rows = [
        (line, {str(name).strip().lower(): "" if value is None else str(value).strip() for name, value in row.items()})
        for line, row in read
    ]
    rows = [(line, row) for line, row in rows if any(row.values())]
    if not rows:
        raise DataError(f"{table}: no row; expected a header with {', '.join(NEEDED)}, and one row per image")
    return rows


def _found(table: Path, line: int, row: Mapping[str, str]) -> tuple[Found | None, list[str]]:
    """The image of a row, or None, and what is wrong with it."""
    where = f"{table}, line {line}"
    path = table.parent / Path(row["path"].replace("\\", "/"))
    spelt = [Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD")]  # accents, as the disk has them
    path = next((one for one in (path, *spelt) if one.is_file()), path)
    inside = ".." not in path.relative_to(table.parent).parts if path.is_relative_to(table.parent) else False
    modality, camera, split = _MODALITIES.get(row["modality"].lower()), row["camera"], row.get("split", "train")
    checks = (
        (bool(row["person"]), f"{where}: no person; expected a number or a name"),
        (camera.isdecimal() and int(camera) > 0, f"{where}: camera {camera!r}; expected a number from 1"),
        (modality is not None, f"{where}: modality {row['modality']!r}; expected visible or infrared"),
        (split.lower() in SPLITS, f"{where}: split {split!r}; expected {', '.join(SPLITS)}"),
        (inside, f"{where}: {row['path']!r} lies outside of {table.parent}; expected a path below it"),
        (not inside or path.is_file(), f"{where}: {path}: no such file"),
    )
    wrong = [fault for fits, fault in checks if not fits]
    if wrong or modality is None:
        return None, wrong
    return Found(path, person_of(name_of(row["person"])), int(camera), modality, True), []


def _tracks(table: Path, found: Sequence[Found], rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """The number of each image's track; without one, its own."""
    keys = [
        (one.person, one.camera, one.modality, one.is_train, row["track"] or f"alone {place}", row.get("split", ""))
        for place, (one, row) in enumerate(zip(found, rows, strict=True))
    ]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], dtype=np.int64)

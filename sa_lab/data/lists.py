"""What the published data sets share: lists of identities, lists of labelled files, folders of cameras."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from sa_lab.data.files import Found, images_in
from sa_lab.schema import Modality


class Entry(NamedTuple):
    """A line of a list: an image file, the identity whose folder it lies in, and its label."""

    path: Path
    person: int
    label: int


def read_ids(path: Path, faults: list[str]) -> list[int]:
    """The identity numbers of a comma-separated list; blanks, blank lines and a comma at the end are passed over.

    Args:
        path: the list.
        faults: gets a line for a missing or empty list and for each entry that is no number.
    """
    words = re.findall(r"[^,\s]+", _text(path, faults))
    faults += [
        f"{path}: {word!r} is no identity number; expected comma-separated numbers"
        for word in words
        if not _is_number(word)
    ]
    return [int(word) for word in words if _is_number(word)]


def read_pair(root: Path, lists: Mapping[Modality, tuple[str, str]], faults: list[str]) -> dict[Modality, list[Entry]]:
    """The visible and the infrared list of one part of a data set, lines ``<folder>/<identity>/<file> <label>``.

    Paths may have backslashes and a suffix in the other case; blank lines are passed over.

    Args:
        root: folder that the paths in the lists start from.
        lists: of each modality, the list's path and the folder that its files lie in, both relative to ``root``.
        faults: gets a line for each thing that is wrong with a list, its files or its labels, or between the two.
    """
    entries = {modality: _entries(root, root / name, folder, faults) for modality, (name, folder) in lists.items()}
    for modality, (name, _) in lists.items():
        _check_labels(root / name, entries[modality], faults)
    if all(entries.values()):
        _check_same_identities({root / name: entries[modality] for modality, (name, _) in lists.items()}, faults)
    return entries


def in_camera_folders(
    root: Path, cameras: Mapping[str, tuple[int, Modality]], is_train: Mapping[int, bool], faults: list[str]
) -> list[Found]:
    """The images ``<camera folder>/<id:04d>/*`` of some identities, by identity, camera folder and name.

    Args:
        root: folder that holds the camera folders.
        cameras: number and modality of the camera in each folder.
        is_train: the identities, and whether each is a training identity; other identities are passed over.
        faults: gets a line for missing camera folders, identities without any image and those without one modality.
    """
    found = [
        Found(path, person, *camera, training)
        for person, training in sorted(is_train.items())
        for name, camera in cameras.items()
        if (root / name / f"{person:04d}").is_dir()
        for path in images_in(root / name / f"{person:04d}")
    ]
    seen = {modality: {image.person for image in found if image.modality == modality} for modality in Modality}
    if missing := [name for name in cameras if not (root / name).is_dir()]:
        faults.append(f"{root}: no folder {', '.join(missing)}; expected {', '.join(cameras)}")
    absent = sorted(set(is_train) - set().union(*seen.values()))
    if absent and len(missing) < len(cameras):
        folder = f"{next(iter(cameras))}/{absent[0]:04d}"
        faults.append(f"{root}: identities {absent} have no image; expected folders such as {folder}")
    for modality in Modality:
        alone = sorted(seen[modality] - seen[modality.other])
        if alone and not missing:
            faults.append(
                f"{root}: identities {alone} have {modality.name.lower()} images but no "
                f"{modality.other.name.lower()} one; every identity needs both"
            )
    return found


def leaks_of(train: Iterable[int], test: Iterable[int], where: str) -> list[str]:
    """A line that names the identities of both parts, if there are any."""
    both = sorted(set(train) & set(test))
    return [f"{where}: identities {both} are in training and in test; the two must be disjoint"] if both else []


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _text(path: Path, faults: list[str]) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        faults.append(f"{path}: {(error.strerror or str(error)).lower()}; expected a list")
        return ""
    if not text.strip(", \t\r\n"):
        faults.append(f"{path}: nothing in this list")
    return text


def _entries(root: Path, path: Path, folder: str, faults: list[str]) -> list[Entry]:
    if not (root / folder).is_dir():
        faults.append(f"{root / folder}: no such folder")
        return []
    pattern = re.compile(rf"({folder}/([0-9]+)/[^/]+?)\s+([0-9]+)")
    entries: list[Entry] = []
    first_line: dict[Path, int] = {}
    for number, line in enumerate(_text(path, faults).splitlines(), start=1):
        parts = pattern.fullmatch(line.strip().replace("\\", "/"))
        if not line.strip():
            continue
        if not parts:
            faults.append(f"{path}, line {number}: {line.strip()!r}; expected '{folder}/<identity>/<file> <label>'")
            continue
        file = _on_disk(root / parts[1])
        if not file.is_file():
            faults.append(f"{path}, line {number}: {file}: no such file")
        if first_line.setdefault(file, number) != number:
            faults.append(f"{path}, line {number}: {file} is in line {first_line[file]} already; expected it once")
        entries.append(Entry(file, int(parts[2]), int(parts[3])))
    return entries


def _on_disk(path: Path) -> Path:
    """``path``, with its suffix in lower or upper case if only so it exists."""
    same = (path.with_suffix(suffix) for suffix in (path.suffix, path.suffix.lower(), path.suffix.upper()))
    return next((one for one in same if one.is_file()), path)


def _check_labels(path: Path, entries: list[Entry], faults: list[str]) -> None:
    """Labels count from 0 without gaps, one label an identity, one identity a label."""
    labels, people = {entry.label for entry in entries}, {entry.person for entry in entries}
    expected = set(range(len(labels)))
    if labels != expected:
        faults.append(
            f"{path}: labels have gaps, {sorted(expected - labels)} missing and {sorted(labels - expected)} beyond; "
            f"expected 0..{len(labels) - 1} for {len(labels)} labels"
        )
    of_label: dict[int, set[int]] = {label: set() for label in sorted(labels)}
    of_person: dict[int, set[int]] = {person: set() for person in sorted(people)}
    for entry in entries:
        of_label[entry.label].add(entry.person)
        of_person[entry.person].add(entry.label)
    for what, other, groups in (("label", "identities", of_label), ("identity", "labels", of_person)):
        faults += [
            f"{path}: {what} {one} has {other} {sorted(many)}; expected one"
            for one, many in groups.items()
            if len(many) > 1
        ]


def _check_same_identities(lists: Mapping[Path, list[Entry]], faults: list[str]) -> None:
    """The visible and the infrared list hold the same identities under the same labels."""
    (first, labels), (second, others) = (
        (path, {entry.person: entry.label for entry in entries}) for path, entries in lists.items()
    )
    faults += [
        f"{first} and {second}: identity {person} has labels {labels[person]} and {others[person]}; expected one"
        for person in sorted(set(labels) & set(others))
        if labels[person] != others[person]
    ]
    for path, alone in ((first, set(labels) - set(others)), (second, set(others) - set(labels))):
        if alone:
            faults.append(
                f"{path}: identities {sorted(alone)} are in this list alone; every identity needs both modalities"
            )

"""RoadScene: real visible-thermal pairs of street scenes, cut into windows that stand in for identities.

Layout: ``<root>/crop_LR_visible/NAME.jpg`` (colour) and ``<root>/cropinfrared/NAME.jpg`` (thermal), same name and size.
Each pair is cut into three upright 1:2 windows side by side; a window is an identity, jittered crops of it are its
images, drawn independently in the two modalities. Training and test never share a scene.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from sa_lab.data.files import content_of, divide, images_in, listed, name_of, person_of, read_image, size_of, stamp
from sa_lab.schema import DataError, Listing, Modality

WINDOWS = 3
"""Windows a scene is cut into."""
FOLDERS = {Modality.VISIBLE: "crop_LR_visible", Modality.INFRARED: "cropinfrared"}
_SMALLEST = 0.85  # a crop is at least this share of its window
_SHIFT = 0.06  # and its middle at most this share of the window's size away from the window's

Box = tuple[int, int, int, int]


def listing(root: Path | str, seed: int = 0, images_per_window: int = 4, train_fraction: float = 2 / 3) -> Listing:
    """Find the pairs and lay out windows and crops.

    Args:
        root: folder that holds ``crop_LR_visible`` and ``cropinfrared``.
        seed: decides on the split and the crops.
        images_per_window: crops of a window in each modality, at least 1.
        train_fraction: share of the scenes, 0..1, whose windows are training identities.

    Returns:
        Person ids of the names ``<scene>#<window>`` (`sa_lab.data.files.person_of`), camera 1 visible, 2 infrared;
        windows of a scene form one group. A path is the file's, then ``#``, window and number of the crop.

    Raises:
        DataError: a folder is missing or empty, a file has no partner, two partners differ in size, a header cannot
            be read; all files concerned are named at once.
        ValueError: an argument out of range.
    """
    if images_per_window < 1:
        raise ValueError(f"images_per_window is {images_per_window}, expected at least 1")
    root = Path(root)
    scenes = _pairs(root)
    sizes = _sizes(scenes)
    in_train = divide(len(scenes), train_fraction, seed, "train_fraction", f"scenes in {root}")
    rows: list[tuple[str, int, int, int, bool, str, int]] = []
    files: list[Path] = []
    boxes: list[Box] = []
    for scene, (name, pair) in enumerate(scenes.items()):
        for modality, path in pair.items():
            file_stamp = stamp(path)
            for window in range(WINDOWS):
                rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(name.encode()), window, modality]))
                for k in range(images_per_window):
                    box = _crop(rng, window, *sizes[name])
                    label = f"{name_of(path.relative_to(root).as_posix())}#{window + 1}-{k + 1}"
                    person = person_of(f"{name}#{window + 1}")
                    code = f"{file_stamp}:{','.join(map(str, box))}"
                    rows.append((label, person, modality + 1, int(modality), bool(in_train[scene]), code, scene))
                    files.append(path)
                    boxes.append(box)
    paths, persons, cameras, modalities, is_train, stamps, groups = zip(*rows, strict=True)
    reader = _Reader(tuple(files), tuple(boxes), stamps)
    columns = (np.array(column, dtype=np.int64) for column in (persons, cameras, modalities, groups))
    person_ids, camera_ids, modality_codes, group_ids = columns
    return Listing(
        "roadscene", paths, person_ids, camera_ids, modality_codes, np.array(is_train, dtype=bool), stamps,
        reader, group_ids, content=reader.content,
    )  # fmt: skip


def _pairs(root: Path) -> dict[str, dict[Modality, Path]]:
    """Both files of every scene, by name, sorted."""
    found: dict[Modality, dict[str, Path]] = {}
    for modality, folder in FOLDERS.items():
        if not (root / folder).is_dir():
            raise DataError(
                f"{root / folder}: no such folder; expected the folders {' and '.join(FOLDERS.values())} in {root}"
            )
        files = [path for path in images_in(root / folder) if path.suffix.lower() == ".jpg"]
        found[modality] = {name_of(path.stem): path for path in files}
        if len(found[modality]) < len(files):
            twice = [str(path) for path in files if found[modality][name_of(path.stem)] != path]
            what = f"{root / folder}: {len(twice)} names are there twice but for how accents are written; expected once"
            raise DataError(listed(what, twice))
    visible, infrared = found[Modality.VISIBLE], found[Modality.INFRARED]
    alone = [found[m][name] for m in Modality for name in sorted(set(found[m]) - set(found[m.other]))]
    if alone:
        what = f"{root}: {len(alone)} files have no partner of the same name in the other folder"
        raise DataError(listed(what, [*map(str, alone)]))
    if not visible:
        raise DataError(f"{root}: no .jpg file in {' and '.join(FOLDERS.values())}")
    return {name: {Modality.VISIBLE: visible[name], Modality.INFRARED: infrared[name]} for name in sorted(visible)}


def _sizes(scenes: dict[str, dict[Modality, Path]]) -> dict[str, tuple[int, int]]:
    """Width and height of every pair, from the files' headers."""
    faults: list[str] = []
    sizes: dict[str, tuple[int, int]] = {}
    for name, pair in scenes.items():
        seen: dict[Path, tuple[int, int]] = {}
        for path in pair.values():
            try:
                seen[path] = size_of(path)
            except DataError as error:
                faults.append(str(error))
        if len(seen) < len(pair):
            continue
        if len(set(seen.values())) > 1:
            faults.append(", ".join(f"{path}: {w}x{h}" for path, (w, h) in seen.items()) + "; expected one size")
        sizes[name] = seen[pair[Modality.VISIBLE]]
        if min(sizes[name]) < 8 * WINDOWS:
            faults.append(f"{pair[Modality.VISIBLE]}: {sizes[name]} pixels are too few to cut {WINDOWS} windows")
    if faults:
        raise DataError(listed(f"{len(faults)} of {len(scenes)} pairs cannot be used", faults))
    return sizes


def _crop(rng: np.random.Generator, window: int, width: int, height: int) -> Box:
    """A jittered 1:2 crop that stays in its third of the picture."""
    third = width / WINDOWS
    full = min(float(height), 2 * third)
    tall = full * rng.uniform(_SMALLEST, 1.0)
    wide = tall / 2
    x = third * (window + 0.5) + _SHIFT * full / 2 * rng.uniform(-1, 1) - wide / 2
    y = height / 2 + _SHIFT * full * rng.uniform(-1, 1) - tall / 2
    x = min(max(x, third * window), third * (window + 1) - wide)
    y = min(max(y, 0.0), height - tall)
    return int(x), int(y), int(x + wide), int(y + tall)


@dataclass(frozen=True)
class _Reader:
    files: tuple[Path, ...]
    boxes: tuple[Box, ...]
    stamps: tuple[str, ...]

    def __call__(self, index: int) -> Image.Image:
        return _decoded(self.files[index], self._stamp(index)).crop(self.boxes[index])

    def content(self, index: int) -> str:
        return f"{content_of(self.files[index], self._stamp(index))}:{','.join(map(str, self.boxes[index]))}"

    def _stamp(self, index: int) -> str:
        return self.stamps[index].rsplit(":", 1)[0]


@lru_cache(maxsize=8)
def _decoded(path: Path, file_stamp: str) -> Image.Image:
    """A whole picture; neighbours in the listing come from the same file, so a few are enough to decode each once."""
    del file_stamp  # part of the key only: a rewritten file is decoded again
    return read_image(path)

"""Files: where they live; written to a temporary name and renamed; large arrays read where they lie."""

from __future__ import annotations

import csv
import os
import struct
import uuid
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def home() -> Path:
    """Folder of prepared data and runs: ``$SA_LAB_HOME``, else ``data/`` of the checkout, else the user's cache."""
    if chosen := os.environ.get("SA_LAB_HOME"):
        return Path(chosen).expanduser().absolute()
    checkout = Path(__file__).parents[1]
    return checkout / "data" if (checkout / "pyproject.toml").is_file() else Path.home() / ".cache" / "sa_lab"


class atomic_path:
    """Context manager: write to a temporary name beside ``path``, rename on success, remove on failure."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = self.path.with_name(f".{self.path.stem}-{uuid.uuid4().hex}{self.path.suffix}")
        return self.temporary

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            os.replace(self.temporary, self.path)
        else:
            self.temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` and a line end, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``rows`` with a header, atomically; a column that a row lacks stays empty in it."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fields)
        writer.writeheader()
        writer.writerows(rows)


def mapped_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; those that are stored uncompressed stay on disk until they are read.

    Raises:
        ValueError: this is no archive of plain arrays.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as plain:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    mappable = member.compress_type == zipfile.ZIP_STORED and np.lib.format.read_magic(file) == (1, 0)
                    if mappable:
                        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
                        mappable, header = bool(shape) and 0 not in shape and not dtype.hasobject, file.tell()
                if not mappable:
                    arrays[name] = plain[name]
                    continue
                with path.open("rb") as file:  # the member's bytes follow its local header of 30 bytes, name and extra
                    file.seek(member.header_offset + 26)
                    start = member.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
                arrays[name] = np.memmap(path, dtype, "r", start + header, shape, "F" if fortran else "C")
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npz of plain arrays: {error}") from error
    return arrays

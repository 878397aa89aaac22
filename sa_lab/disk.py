"""Files: where they live; written whole or not at all, with a checksum; large arrays read where they lie.

What is being written has a temporary name that tells its process, beside its final one: what a killed process has left
is removed by the next one that writes the same file. Archives (.npz, .pt) end with their checksum, as the comment that
every zip file may have; JSON has it as its last key, CSV as the last column of each row. XXH3 takes a thirtieth of the
time that reading takes. A file without a checksum, of an older version or by somebody else, is taken as it is.
"""

from __future__ import annotations

import csv
import errno
import glob
import json
import os
import shutil
import socket
import struct
import sys
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.lib.format import open_memmap

from sa_lab.dials import plain, plain_lines

_SEAL = b"xxh3:"
_CHUNK = 1 << 24


class Refusal(RuntimeError):
    """An error that the user can mend: the command line reports it in one line, without a traceback."""


def reason_of(error: BaseException, most: int = 200) -> str:
    """The message of an exception, in one line of at most ``most`` letters; its type where it has none."""
    return " ".join(str(error).split())[:most] or type(error).__name__


class DamagedFileError(ValueError):
    """A file is not as it was written; the message names it and says what is wrong."""


def checkout() -> Path | None:
    """The folder of the repository; None where the library was installed without it."""
    folder = Path(__file__).parents[1]
    return folder if (folder / "pyproject.toml").is_file() else None


def notebooks() -> Path:
    """The folder of the chapters: the checkout's, else the one that was installed with the library."""
    folder = checkout()
    return folder / "notebooks" if folder else Path(__file__).parent / "notebooks"


def home() -> Path:
    """Folder of prepared data and runs: ``$SA_LAB_HOME``, else ``data/`` of the checkout, else the user's cache.

    Raises:
        Refusal: there is none of them, and none can be made.
    """
    folder = checkout()
    try:
        if chosen := os.environ.get("SA_LAB_HOME"):
            place = Path(chosen).expanduser().absolute()
        elif folder and can_be_written(folder / "data"):
            place = folder / "data"
        else:
            place = Path.home() / ".cache" / "sa_lab"
    except RuntimeError as error:
        raise Refusal("there is no folder for data and runs: this user has no home; set SA_LAB_HOME to one") from error
    if not place.exists() and not can_be_written(place):
        raise Refusal(f"the folder for data and runs cannot be made: {place}; set SA_LAB_HOME to another one")
    return place


def can_be_written(folder: Path) -> bool:
    """Whether files can be made in ``folder``, which need not be there yet."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return os.access(there, os.W_OK)


def temporary_name(path: Path) -> Path:
    """A new hidden name beside ``path``, of this process; what dead processes have left for ``path`` is removed.

    Raises:
        OSError: the folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.stem)}~*{glob.escape(path.suffix)}"):
        _remove_if_left(left)
    return path.with_name(f".{path.stem}~{socket.gethostname()}-{os.getpid()}~{uuid.uuid4().hex[:8]}{path.suffix}")


def sweep(folder: Path) -> None:
    """Remove the temporary files that dead processes have left in ``folder`` and below."""
    for left in list(folder.rglob(".*~*-*~*")):
        _remove_if_left(left)


def _remove_if_left(temporary: Path) -> None:
    """Remove what a dead process of this machine has left, or any machine's a day ago."""
    host, _, process = temporary.name.rsplit("~", 2)[1].rpartition("-")
    with suppress(OSError):  # it is gone by now
        dead = host == socket.gethostname() and process.isdigit() and not _lives(int(process))
        if dead or time.time() - temporary.stat().st_mtime > _A_DAY:
            shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink()


_A_DAY = 86_400  # seconds


def check_output(path: Path, *suffixes: str) -> None:
    """Check that ``path`` can be written, or overwritten, as a file with one of the suffixes.

    Raises:
        Refusal: it cannot, as shown by a trial in its folder or in the one where that would be made.
    """
    if suffixes and path.suffix not in suffixes:
        raise Refusal(f"the file to write is {path}, expected a name that ends in {' or '.join(suffixes)}")
    _check_kind(path)
    folder = next(place for place in path.absolute().parents if place.exists())
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Refusal(f"the file to write is {path}, but {folder} cannot be written to: {error.strerror}") from error


def check_folder(path: Path, advice: str) -> None:
    """Check that files can be made in ``path``, which need not exist yet.

    Raises:
        Refusal: they cannot; ``advice`` says what else to do.
    """
    if path.exists() and not path.is_dir():
        raise Refusal(f"{path} is no folder; {advice}")
    if not can_be_written(path):
        raise Refusal(f"{path} cannot be written to; {advice}")


def _check_kind(path: Path) -> None:
    if path.exists() and not path.is_file():
        raise Refusal(f"the file to write is {path}, which is a {'folder' if path.is_dir() else 'device'}")


def replace(new: Path, path: Path) -> None:
    """Give a file or a folder the name of another one, durably: content and name survive a loss of power.

    Raises:
        OSError: the disk did not accept the content after all; then ``path`` is unchanged.
    """
    if new.is_file():
        _sync(new)
    os.replace(new, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(handle)


_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM)
"""What a file system says that knows no such thing, or not for folders."""


class atomic_path:
    """Context manager: write to a temporary name beside ``path``, rename on success, remove on failure.

    Raises:
        OSError: the disk is full; the message tells how much is free.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def __enter__(self) -> Path:
        _check_kind(self.path)
        self.temporary = temporary_name(self.path)
        return self.temporary

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        if kind is None:
            try:
                replace(self.temporary, self.path)
            except OSError as failure:
                size = self.temporary.stat().st_size if self.temporary.is_file() else 0
                self.temporary.unlink(missing_ok=True)
                if failure.errno in _NO_ROOM:
                    raise _full(self.path, size, failure.errno) from failure
                raise OSError(failure.errno, failure.strerror, str(self.path)) from failure
            return
        size = self.temporary.stat().st_size if self.temporary.is_file() else 0
        self.temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise _full(self.path, size, error.errno) from error


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A folder with a temporary name beside ``path``, removed in the end."""
    folder = temporary_name(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """A new .npy that is mapped into memory, its space reserved: writing to it cannot meet a full disk.

    Raises:
        OSError: the disk does not have enough space; nothing is left behind.
    """
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    try:
        array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        needed = path.stat().st_size
        if hasattr(os, "posix_fallocate"):  # not on macOS
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return array  # a file system that cannot reserve
        path.unlink(missing_ok=True)
        if error.errno in _NO_ROOM:
            raise _full(path, needed, error.errno) from error
        raise
    return array


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _full(path: Path, needed: int, number: int | None) -> OSError:
    free = shutil.disk_usage(path.parent).free
    why = "a file may not be that large" if number == errno.EFBIG else "the disk is full"
    return OSError(
        number, f"{why}: at least {needed:,} bytes are needed and {free:,} are free; make room, then run it again to "
        "go on", str(path),
    )  # fmt: skip


@contextmanager
def locked(path: Path, what: str, waiting: Callable[[], object] = bool) -> Iterator[None]:
    """Hold the lock of ``path``, the hidden file ``.<name>.lock`` beside it; a process that has to wait says for whom.

    Where nothing can be written, no lock is held. On a file system without locks, a file stands in for one.

    Raises:
        Refusal: the lock is another user's.

    Args:
        path: what is made or changed in the block.
        what: how messages describe that, as in "prepares sysu".
        waiting: called every few seconds while waiting.
    """
    from filelock import FileLock, SoftFileLock, Timeout  # not for `sa-lab --help`

    lock: FileLock | SoftFileLock = FileLock(path.with_name(f".{path.name}.lock"))
    owner = path.with_name(f".{path.name}.owner")
    told = False
    while not lock.is_locked:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_ASK_AGAIN if told else 0)
        except Timeout:
            if not told:
                with suppress(OSError):
                    tell(f"waiting for {owner.read_text(encoding='utf-8')}")
            told = True
            waiting()
        except (NotImplementedError, OSError) as error:
            if getattr(error, "errno", None) in _READ_ONLY:
                if not can_be_written(path.parent):
                    break
                raise Refusal(f"{lock.lock_file} is another user's, so nobody else can make {path.name}") from error
            if getattr(error, "errno", None) not in (None, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
            lock = SoftFileLock(path.with_name(f".{path.name}.soft-lock"))
    try:
        with suppress(OSError):  # nothing but a help for those who wait
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}, which {what}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            owner.unlink(missing_ok=True)
        lock.release()


_ASK_AGAIN = 5.0
"""Seconds."""
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What writing to a place meets that can be read alone."""


@contextmanager
def kept_where_possible() -> Iterator[None]:
    """Ignore it if something cannot be kept because its place is read-only."""
    try:
        yield
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise


def tell(text: str) -> None:
    """Print a line for the user above the progress bars, safe whatever a name contains."""
    from tqdm import tqdm  # not for `sa-lab --help`

    tqdm.write(plain(f"sa-lab: {text}"), file=sys.stderr)


def say(text: str) -> None:
    """Print lines, safe whatever a name contains."""
    print(plain_lines(text), flush=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` and a line end as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` and their checksum, atomically."""
    write_text(path, json.dumps({**values, "xxh3": checksum(values)}, indent=1))


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote, or a JSON object without a checksum.

    Raises:
        DamagedFileError: the file is none, or not as it was written.
        OSError: it cannot be read.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path} is damaged, or no JSON: {error}") from error
    if not isinstance(values, dict):
        raise DamagedFileError(f"{path} is damaged: it holds {type(values).__name__}, expected values by name")
    if (known := values.pop("xxh3", None)) not in (None, checksum(values)):
        raise DamagedFileError(
            f"{path} is damaged, or was edited: its checksum is {known}, expected {checksum(values)}"
        )
    return values


def checksum(values: Mapping[str, Any]) -> str:
    """XXH3, 64 bits, of what will be read back after ``values`` are written as JSON."""
    read = json.loads(json.dumps(values))  # tuples are lists then, keys texts
    return xxhash.xxh3_64_hexdigest(json.dumps(read, sort_keys=True).encode())


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write ``rows`` with a header and a checksum per row, atomically; a column that a row lacks stays empty in it."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    table = [[str(row.get(field, "")) for field in fields] for row in rows]
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*fields, _CRC])
        writer.writerows([*cells, crc] for cells, crc in zip(table, _crcs(fields, table), strict=True))


def read_csv(path: Path, needed: Sequence[str] = ()) -> dict[str, list[str]]:
    """The columns of what `write_csv` wrote, or of a CSV file without checksums, ``needed`` ones among them.

    Raises:
        DamagedFileError: the file is no table with rows, or not as it was written.
        OSError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        columns = {name: list(column) for name, *column in zip(header, *rows, strict=True)}
    except (ValueError, csv.Error) as error:
        raise DamagedFileError(f"{path} is damaged, or no table with a header: {error}") from error
    missing = [name for name in needed if name not in columns]
    if missing or (needed and not rows):
        raise DamagedFileError(f"{path} is damaged, or another table: it has no {', '.join(missing) or 'rows'}")
    if known := columns.pop(_CRC, None):
        expected = _crcs(header[:-1], [row[:-1] for row in rows])
        for line, (there, here) in enumerate(zip(known, expected, strict=True), start=2):
            if there != here:
                raise DamagedFileError(f"{path} is damaged, or was edited: the checksum of line {line} does not fit")
    return columns


_CRC = "crc32"


def _crcs(fields: Sequence[str], table: Sequence[Sequence[str]]) -> list[str]:
    """CRC-32 of each row with all above it; the last one tells that it is the last."""
    sums, state = [], zlib.crc32(chr(0).join(fields).encode())
    for number, cells in enumerate(table, start=1):
        state = zlib.crc32(chr(0).join([*cells, "end" if number == len(table) else ""]).encode(), state)
        sums.append(f"{state:08x}")
    return sums


def seal(archive: Path) -> None:
    """Write the checksum of a zip file into its comment."""
    with archive.open("r+b") as file:
        size = archive.stat().st_size
        digest = _SEAL + hexdigest(file, size - 2).encode()
        file.seek(size - 2)
        file.write(struct.pack("<H", len(digest)) + digest)


def check_seal(archive: Path, needed: bool = False) -> None:
    """Check that the file is as it was sealed, or has no seal and none is ``needed``.

    Raises:
        DamagedFileError: it is not.
        OSError: it cannot be read.
    """
    length = len(_SEAL) + 32
    with archive.open("rb") as file:
        size = archive.stat().st_size
        file.seek(max(0, size - 2 * length))
        tail = file.read()
        end = tail[-length - 2 :]
        if not end[2:].startswith(_SEAL):
            if needed or _SEAL in tail:
                raise DamagedFileError(f"{archive} is damaged: its checksum is missing, or cut")
            return
        file.seek(0)
        if hexdigest(file, size - length - 2) != end[2 + len(_SEAL) :].decode(errors="replace"):
            raise DamagedFileError(f"{archive} is damaged: its checksum does not fit")


def hexdigest(file: Any, size: int) -> str:
    """XXH3, 128 bits, of the next ``size`` bytes of an open file, or of as many as there are."""
    digest = xxhash.xxh3_128()
    while size > 0 and (block := file.read(min(_CHUNK, size))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


def mapped_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; those that are stored uncompressed stay on disk until they are read.

    Raises:
        DamagedFileError: this is no archive of plain arrays, or not as it was written.
        OSError: it cannot be read.
    """
    arrays = {}
    check_seal(path)
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
    except OSError:
        raise
    except Exception as error:  # damaged archives fail in many ways
        raise DamagedFileError(f"{path} is damaged, or no .npz of plain arrays: {error}") from error
    return arrays


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True

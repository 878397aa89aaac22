"""Images that are damaged, odd or none: one line with the file's name, never a traceback or a silent upper byte."""

from __future__ import annotations

import io
import os
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from sa_lab.data import files, folder, roadscene
from sa_lab.data.files import read_image, size_of
from sa_lab.schema import DataError

# what Pillow can write here, each a small picture; of these FORMATS alone are meant
KINDS = (
    "BMP", "DDS", "DIB", "EPS", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "MPO", "MSP", "PCX", "PDF", "PNG",
    "PPM", "QOI", "SGI", "SPIDER", "TGA", "TIFF", "WEBP", "XBM", "AVIF",
)  # fmt: skip
MODES = {"MSP": "1", "XBM": "1", "SPIDER": "F"}


def picture(kind: str, seed: int = 0) -> bytes | None:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 16, 3), np.uint8)
    buffer = io.BytesIO()
    try:
        Image.fromarray(pixels).convert(MODES.get(kind, "RGB")).save(buffer, kind)
    except (OSError, KeyError, ValueError):
        return None  # a codec that is not in this Pillow
    return buffer.getvalue()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One of the ways in which files break."""
    found = bytearray(content)
    way = rng.randrange(6)
    if way == 0:
        return bytes(found[: rng.randrange(len(found))])
    if way == 1:
        for _ in range(rng.randrange(1, 9)):
            found[rng.randrange(len(found))] = rng.randrange(256)
    elif way == 2:
        start = rng.randrange(len(found))
        found[start : start + rng.randrange(1, 64)] = bytes(rng.randrange(1, 64))
    elif way == 3:
        at = rng.randrange(min(64, len(found)))  # headers hold sizes
        found[at : at + 4] = struct.pack(">I", rng.choice([0, 2**31 - 1, 2**31, 2**32 - 1]))
    elif way == 4:
        start = rng.randrange(len(found))
        found[start:start] = found[start : start + rng.randrange(64)]
    else:
        del found[rng.randrange(len(found)) :: rng.randrange(2, 9)]
    return bytes(found)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_of_every_format(kind: str, tmp_path: Path) -> None:
    """Read, or told in one line; formats that are not meant are never opened, whatever the suffix says."""
    content = picture(kind)
    if content is None:
        pytest.skip(f"this Pillow cannot write {kind}")
    rng, read = random.Random(kind), 0
    for trial in range(150):
        file = tmp_path / f"x{trial % 3}{random.Random(trial).choice(files.SUFFIXES)}"
        file.write_bytes(damaged(content, rng) if trial else content)
        for reader in (read_image, size_of):
            try:
                reader(file)
                read += 1
            except DataError as error:
                message = str(error)
                assert file.name in message, message
                assert "\n" not in message, message
                assert len(message) < 600, message
    meant = kind in ("BMP", "JPEG", "MPO", "PNG", "TIFF", "WEBP")
    assert (read > 0) == meant, f"{kind}: {read} read"


def png(mode: str, depth: int, colour: int, channels: int, value: int) -> bytes:
    """A PNG of 4 x 4 pixels by hand: Pillow cannot write 16-bit colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    sample = struct.pack(">H", value) if depth == 16 else bytes([value])
    rows = b"".join(b"\x00" + sample * channels * 4 for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("16-bit colour", png("RGB", 16, 2, 3, 300), "more than eight bits a channel"),
        ("16-bit grey and alpha", png("LA", 16, 4, 2, 300), "more than eight bits a channel"),
        ("16-bit colour and alpha", png("RGBA", 16, 6, 4, 300), "more than eight bits a channel"),
        ("8-bit grey", png("L", 8, 0, 1, 200), ""),
        ("8-bit grey and alpha", png("LA", 8, 4, 2, 200), ""),
        ("8-bit colour", png("RGB", 8, 2, 3, 200), ""),
        ("8-bit colour and alpha", png("RGBA", 8, 6, 4, 200), ""),
    ],
)
def test_bits_of_a_channel(name: str, content: bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(content)
    if told:
        with pytest.raises(DataError, match=rf"x\.png: {told}"):
            read_image(file)
    else:
        assert set(np.asarray(read_image(file)).ravel().tolist()) == {200}, name


def test_a_bomb_is_told_from_its_header(tmp_path: Path) -> None:
    """Nothing of it is decoded."""
    for width, height in ((100_000, 100_000), (2**31 - 1, 2**31 - 1), (10_000, 10_000), (65_000, 1_000)):
        content = bytearray(png("L", 8, 0, 1, 1))
        content[16:24] = struct.pack(">II", width, height)
        content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
        (tmp_path / "x.png").write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with pytest.raises(DataError, match=r"x\.png: .*pixels; expected 1\.\.64,000,000"):
                read_image(tmp_path / "x.png")


@pytest.mark.parametrize("orientation", [*range(10), 255, 65535, "six", 2**20])
def test_odd_orientation(orientation: object, tmp_path: Path) -> None:
    """The eight that there are turn the picture; anything else leaves it, or is told."""
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "x.png"
    try:
        image.save(file, exif=exif)
    except (ValueError, TypeError, struct.error, AttributeError):
        pytest.skip("Pillow does not write such a value")
    assert said_or_size(file) in ("told", (2, 3) if orientation in (5, 6, 7, 8) else (3, 2))


def said_or_size(file: Path) -> object:
    """The size of an image, or "told" where the refusal names the file."""
    try:
        return read_image(file).size
    except DataError as error:
        return "told" if file.name in str(error) else str(error)


def test_damaged_exif_is_read_or_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "words"
    rng, file = random.Random(0), tmp_path / "x.jpg"
    for _ in range(200):
        content = bytearray(exif.tobytes())
        for _ in range(rng.randrange(1, 5)):
            content[rng.randrange(6, len(content))] = rng.randrange(256)
        Image.new("L", (3, 2)).save(file, exif=bytes(content))
        assert said_or_size(file) in ("told", (2, 3), (3, 2))


def people(root: Path) -> Path:
    for spectrum in ("visible", "infrared"):
        for name in ("a", "b"):
            (root / spectrum / name).mkdir(parents=True)
            Image.new("L", (8, 16), 90).save(root / spectrum / name / "0.png")
    return root


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize(
    "put",
    [os.mkfifo, lambda file: file.symlink_to("/dev/zero"), lambda file: file.symlink_to("nowhere"),
     lambda file: file.symlink_to(file.name)],
    ids=["pipe", "device", "broken link", "loop"],
)  # fmt: skip
@pytest.mark.parametrize("layout", ["folder", "roadscene"])
def test_what_only_has_the_name_of_an_image_is_told(layout: str, put: Callable[[Path], None], tmp_path: Path) -> None:
    """A pipe would be waited for, a device read for ever."""
    names = {"folder": ("visible/1", "infrared/1"), "roadscene": ("crop_LR_visible", "cropinfrared")}[layout]
    for name in names:
        (tmp_path / name).mkdir(parents=True)
        put(tmp_path / name / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: a pipe, a device or a link that leads nowhere"):
        {"folder": folder, "roadscene": roadscene}[layout].listing(tmp_path)


def test_a_folder_with_the_name_of_an_image_is_none(tmp_path: Path) -> None:
    root = people(tmp_path)
    (root / "visible" / "a" / "folder.png").mkdir()
    assert len(folder.listing(root)) == 4


def test_names_that_are_no_utf8_are_told(tmp_path: Path) -> None:
    root = people(tmp_path)
    odd = os.fsencode(root / "visible" / "a") + b"/\xff.png"
    try:
        with open(odd, "wb") as file:
            file.write(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    with pytest.raises(DataError, match=r"'\\udcff\.png': the name is no UTF-8; expected one that is, so rename it"):
        folder.listing(root)


def test_many_of_one_kind_are_a_count_and_three_names() -> None:
    from sa_lab.data.files import listed
    from sa_lab.data.store import _told

    told = _told({f"p/{k:03}.png": f"/data/p/{k:03}.png: no image" for k in range(500)} | {"q.png": "/data/q.png: cut"})
    assert "\n" not in told
    assert "501 images cannot be read" in told
    assert "p/000.png, p/001.png, p/002.png and 497 more: no image" in told
    assert "q.png: cut" in told
    faults = [f"/data/list.txt, line {k}: '{k}.jpg': no such file" for k in range(99)]
    what, *parts = listed("/data cannot be used", [*faults, "another fault"]).split(": /data/list.txt, ")
    assert what == "/data cannot be used"
    assert "".join(parts) == (
        "line 0: '0.jpg': no such file; /data/list.txt, line 1: '1.jpg': no such file; "
        "/data/list.txt, line 2: '2.jpg': no such file; and 96 more of this kind; another fault"
    )


def test_codecs_are_as_expected() -> None:
    assert features.check("jpg")
    assert features.check("zlib")

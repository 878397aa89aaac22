"""ImageStore: built once, reused, and rebuilt whenever it is not this very cache, whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sa_lab.data import folder
from sa_lab.data import store as stores
from sa_lab.data.contents import contents_of, digest_of
from sa_lab.data.files import read_image
from sa_lab.data.store import ImageStore, build_store
from sa_lab.schema import DataError, Listing

COUNT = 12


class Reader:
    """Draws image i and counts; some cannot be read, and one may interrupt."""

    def __init__(self, broken: tuple[int, ...] = (), interrupt_at: int | None = None) -> None:
        self.broken, self.interrupt_at = set(broken), interrupt_at
        self.calls: list[int] = []
        self.lock = threading.Lock()

    def __call__(self, i: int) -> Image.Image:
        with self.lock:
            self.calls.append(i)
        if i == self.interrupt_at:
            raise KeyboardInterrupt
        if i in self.broken:
            raise OSError(f"truncated file number {i}")
        return Image.new("L", (5, 7), 20 * i) if i % 2 else Image.new("RGB", (9, 4), (20 * i, i, 255 - i))


def listing_of(read: Reader, stamp: str = "1", train: int = 8) -> Listing:
    index = np.arange(COUNT)
    return Listing(
        "drawn",
        tuple(f"{i:02}.png" for i in index),
        index // 2,
        index % 2 + 1,
        index % 2,
        index < train,
        (stamp,) * COUNT,
        read,
    )


def build(read: Reader, cache: Path, height: int = 6, width: int = 3, **changes) -> ImageStore:
    return build_store(listing_of(read, **changes), height, width, cache, progress=False)


def folder_in(cache: Path) -> Path:
    (folder,) = [path for path in cache.iterdir() if path.is_dir()]
    return folder


def pixels_of(i: int) -> np.ndarray:
    return np.array([20 * i] * 3 if i % 2 else [20 * i, i, 255 - i])


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Path]:
    """The folder of a finished cache; afterwards whatever was done to it must have been noticed."""
    build(Reader(), tmp_path)
    yield folder_in(tmp_path)
    assert_whole(build(Reader(), tmp_path))


def assert_whole(store: ImageStore) -> None:
    for i, image in enumerate(store.gather(torch.arange(COUNT)).numpy()):
        assert (image == pixels_of(i)[:, None, None]).all()


def test_columns_and_pixels(tmp_path: Path) -> None:
    read = Reader()
    store = build(read, tmp_path)
    assert sorted(read.calls) == list(range(COUNT))
    assert (len(store), store.size, store.images.dtype) == (COUNT, (6, 3), torch.uint8)
    assert store.images.shape == (COUNT, 3, 6, 3)
    listing = listing_of(read)
    for name in ("person_ids", "camera_ids", "modality", "is_train", "group_ids", "paths"):
        np.testing.assert_array_equal(getattr(store, name), getattr(listing, name))
    for i in range(COUNT):
        assert (store.images[i].numpy() == pixels_of(i)[:, None, None]).all()
    assert store.on(torch.device("cpu")) is store


def test_resizing_averages() -> None:
    stripes = np.zeros((8, 16, 3), np.uint8)
    stripes[:, ::2] = 200
    small = stores._pixels(Image.fromarray(stripes), 4, 4, "bilinear")
    assert small.shape == (3, 4, 4)
    assert abs(small.astype(int) - 100).max() <= 15


def test_the_filter_is_lanczos_named_and_another_one_is_another_store(tmp_path: Path) -> None:
    """As `sa_lab.config.DataConfig.resize`; by Pillow itself."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), np.uint8))
    listing = replace(listing_of(Reader()), read=lambda i: noise)
    stored, digests = {}, set()
    for name in ("lanczos", "bicubic", "bilinear"):
        store = build_store(listing, 16, 8, tmp_path, progress=False, resize=name)
        stored[name] = store.images[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(stored[name], np.asarray(noise.resize((8, 16), Image.Resampling[name.upper()])))
        digests.add(store.digest)
    assert len(digests) == 3
    by_default = build_store(listing, 16, 8, tmp_path, progress=False)
    np.testing.assert_array_equal(by_default.images[0].permute(1, 2, 0).numpy(), stored["lanczos"])
    folder = by_default.checks.file.parent
    assert json.loads((folder / "manifest.json").read_text())["filter"] == "lanczos"
    assert np.abs(stored["lanczos"].astype(int) - stored["bilinear"]).mean() > 5


def test_gather(tmp_path: Path) -> None:
    store = build(Reader(), tmp_path)
    batch = store.gather(torch.tensor([5, 0, 5]))
    assert batch.shape == (3, 3, 6, 3)
    assert batch[:, :, 0, 0].tolist() == [pixels_of(i).tolist() for i in (5, 0, 5)]
    batch.zero_()
    assert store.images[5].max() == 100, "a batch is a copy"


def test_writing_into_the_images_never_reaches_the_cache(built: Path) -> None:
    store = build(Reader(), built.parent)
    store.images.zero_()


def test_reuse_touches_nothing(built: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in built.iterdir()}
    read = Reader()
    build(read, built.parent)
    assert read.calls == []
    assert {path.name: path.stat().st_mtime_ns for path in built.iterdir()} == before


@pytest.mark.parametrize("change", [{"height": 7}, {"width": 4}, {"stamp": "2"}])
def test_anything_else_gets_another_cache(built: Path, change: dict) -> None:
    read = Reader()
    build(read, built.parent, **change)
    assert len(read.calls) == COUNT
    assert len([path for path in built.parent.iterdir() if path.is_dir()]) == 2
    again = Reader()
    build(again, built.parent)
    assert again.calls == []


def test_another_division_shares_the_cache(built: Path) -> None:
    read = Reader()
    other, again = build(read, built.parent, train=6), build(read, built.parent)
    assert read.calls == []
    assert folder_in(built.parent) == built
    assert other.digest != again.digest
    assert other.is_train.sum() == 6


def test_every_column_decides_the_digest() -> None:
    listing = listing_of(Reader())
    others = [
        replace(listing, name="other"),
        replace(listing, paths=(*listing.paths[:-1], "other")),
        replace(listing, camera_ids=listing.camera_ids + 1),
        replace(listing, person_ids=listing.person_ids + 1),
        replace(listing, modality=1 - listing.modality),
        replace(listing, group_ids=listing.person_ids // 2),
        replace(listing, stamps=("2",) * COUNT),
        replace(listing, is_train=listing.person_ids < 3),
        replace(listing, split=1),
        replace(listing, split=2),
    ]

    def digest(one: Listing, resize: str = "lanczos") -> str:
        return digest_of(one, 6, 3, resize, contents_of(one, Path("unused")))

    digests = {digest(one) for one in [listing, *others]} | {digest(listing, "bilinear")}
    assert len(digests) == 2 + len(others)
    galleries = replace(listing, gallery_order=np.zeros((COUNT, 2), int))
    assert digest(galleries) == digest(listing), "a file that training does not see"


def test_a_copy_with_other_times_is_the_same_data(tmp_path: Path) -> None:
    """Content decides; names, sizes and times only spare the reading."""
    root = tmp_path / "people"
    for k, (spectrum, person) in enumerate(product(("visible", "infrared"), ("anna", "bo", "cleo"))):
        (root / spectrum / person).mkdir(parents=True)
        Image.new("L", (8, 16), 20 * k).save(root / spectrum / person / "0.png")
    first = build_store(folder.listing(root), 8, 4, tmp_path / "cache", progress=False)
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    for file in (tmp_path / "copy").rglob("*.png"):
        os.utime(file, (1, 1))
    copied = folder.listing(tmp_path / "copy")
    assert copied.stamps != folder.listing(root).stamps
    read = Reader()
    second = build_store(replace(copied, read=read), 8, 4, tmp_path / "cache", progress=False)
    assert (second.digest, read.calls) == (first.digest, [])
    assert second.contents == first.contents
    Image.new("L", (8, 16), 77).save(root / "visible" / "bo" / "0.png")
    third = build_store(folder.listing(root), 8, 4, tmp_path / "cache", progress=False)
    assert third.digest != first.digest
    assert sum(a != b for a, b in zip(first.contents, third.contents, strict=True)) == 1


def expect_rebuilt(built: Path) -> None:
    read = Reader()
    build(read, built.parent)
    assert sorted(read.calls) == list(range(COUNT))


@pytest.mark.parametrize("kept", [0, 60, 500, -1])
def test_truncated_pixels_are_rebuilt(built: Path, kept: int) -> None:
    with (built / "images.npy").open("r+b") as file:
        file.truncate(kept if kept >= 0 else (built / "images.npy").stat().st_size - 1)
    expect_rebuilt(built)


def flip(file: Path, position: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


@pytest.mark.parametrize("seed", range(20))
def test_one_flipped_bit_is_mended_on_first_touch(built: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    """In memory and on disk, and only that image is made again."""
    pixels, rng = COUNT * 3 * 6 * 3, np.random.default_rng(seed)
    at = int(rng.integers(pixels))
    flip(built / "images.npy", at - pixels, int(rng.integers(8)))
    read = Reader()
    store = build(read, built.parent)
    assert read.calls == []
    assert_whole(store)
    assert read.calls == [at // (3 * 6 * 3)]
    assert f"image {read.calls[0]} was damaged and is made again" in capsys.readouterr().err
    again = Reader()
    assert build(again, built.parent).verify(progress=False) == 0
    assert again.calls == []


def test_verify_reads_all_and_counts(built: Path) -> None:
    for row in (2, 7):
        flip(built / "images.npy", row * 54 - COUNT * 54)
    assert build(Reader(), built.parent).verify(progress=False) == 2


def test_a_damaged_image_that_cannot_be_made_again_is_told(built: Path) -> None:
    flip(built / "images.npy", -1)
    store = build(Reader(broken=(COUNT - 1,)), built.parent)
    with pytest.raises(OSError, match="truncated file number 11"):
        store.gather(torch.tensor([COUNT - 1]))
    other = replace(listing_of(Reader()), read=lambda i: Image.new("L", (4, 4)))
    store = build_store(other, 6, 3, built.parent, progress=False)
    with pytest.raises(DataError, match="image 11 is damaged, and its file is another one by now"):
        store.gather(torch.tensor([COUNT - 1]))


@pytest.mark.parametrize("content", ["", "{", "{}", '{"digest": "another", "checksum": 0}'])
def test_foreign_manifest_is_rebuilt(built: Path, content: str) -> None:
    (built / "manifest.json").write_text(content)
    expect_rebuilt(built)


def test_missing_files_and_foreign_arrays_are_rebuilt(built: Path) -> None:
    (built / "manifest.json").unlink()
    expect_rebuilt(built)
    (built / "images.npy").unlink()
    expect_rebuilt(built)
    np.save(built / "images.npy", np.zeros((COUNT, 3, 6, 4), np.uint8))
    expect_rebuilt(built)
    np.save(built / "images.npy", np.zeros((COUNT, 3, 6, 3), np.float32))
    expect_rebuilt(built)


def test_a_manifest_that_is_no_object_is_rebuilt(built: Path) -> None:
    (built / "manifest.json").write_text("[]")
    expect_rebuilt(built)


def test_interrupted_build_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_CHUNK", 4)
    first = Reader(interrupt_at=6)
    with pytest.raises(KeyboardInterrupt):
        build(first, tmp_path)
    assert set(first.calls) <= set(range(8))
    assert not any((path / "manifest.json").exists() for path in tmp_path.iterdir())
    second = Reader()
    store = build(second, tmp_path)
    assert sorted(second.calls) == list(range(4, COUNT)), "the first chunk is done"
    for i in range(COUNT):
        assert (store.images[i].numpy() == pixels_of(i)[:, None, None]).all()
    assert {path.name for path in folder_in(tmp_path).iterdir()} == {"images.npy", "manifest.json"}


@pytest.mark.parametrize("damage", ["no note", "no pixels", "truncated pixels", "foreign note"])
def test_interrupted_and_damaged_build_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(stores, "_CHUNK", 4)
    with pytest.raises(KeyboardInterrupt):
        build(Reader(interrupt_at=6), tmp_path)
    partial = folder_in(tmp_path)
    if damage == "no note":
        (partial / "done.json").unlink()
    elif damage == "no pixels":
        (partial / "images.npy").unlink()
    elif damage == "foreign note":
        (partial / "done.json").write_text("many")
    else:
        os.truncate(partial / "images.npy", 200)
    read = Reader()
    build(read, tmp_path)
    assert sorted(read.calls) == list(range(COUNT))


def test_unreadable_images_are_listed_at_once_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "_CHUNK", 4)
    with pytest.raises(DataError) as caught:
        build(Reader(broken=(1, 2, 11)), tmp_path)
    message = str(caught.value)
    assert message.startswith("drawn: 3 images cannot be read")
    for i in (1, 2, 11):
        assert f"{i:02}.png: truncated file number {i}" in message
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    read = Reader()
    build(read, tmp_path)
    assert len(read.calls) == COUNT


def test_truncated_file_on_disk_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(whole)
    content = whole.read_bytes()
    files = {"good.png": content, "half.png": content[: len(content) // 2], "empty.png": b"", "text.png": b"hello"}
    for name, part in files.items():
        (tmp_path / name).write_bytes(part)

    def read(i: int) -> Image.Image:
        return read_image(tmp_path / list(files)[i])

    index = np.arange(4)
    stamps = ("1",) * 4
    listing = Listing("files", tuple(files), index // 2, index % 2 + 1, index % 2, index < 4, stamps, read)
    with pytest.raises(DataError, match="3 images cannot be read") as caught:
        build_store(listing, 8, 8, tmp_path / "cache", progress=False)
    for name in files:
        assert (name in str(caught.value)) == (name != "good.png")


def test_two_processes_share_one_build(tmp_path: Path) -> None:
    """Both succeed, and each image is read once in total."""
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        import numpy as np
        from PIL import Image
        from sa_lab.data.store import build_store
        from sa_lab.schema import Listing

        home, index = Path(sys.argv[1]), np.arange(12)

        def read(i):
            with (home / "reads").open("a") as file:
                file.write(f"{i}\\n")
            time.sleep(0.05)
            return Image.new("L", (4, 4), 20 * i)

        stamps = ("1",) * 12
        paths = tuple(map(str, index))
        listing = Listing("shared", paths, index // 2, index % 2, index % 2, index < 8, stamps, read)
        (home / sys.argv[2]).touch()
        while not all((home / name).exists() for name in ("first", "second")):
            time.sleep(0.01)
        store = build_store(listing, 4, 4, home / "cache", progress=False)
        print(store.images[:, 0, 0, 0].tolist() == list(range(0, 240, 20)))
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path, name], stdout=subprocess.PIPE, env=environment)
        for name in ("first", "second")
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in processes] == [b"True", b"True"]
    assert sorted(map(int, (tmp_path / "reads").read_text().split())) == list(range(12))
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {"", ".lock"}
    assert not list((tmp_path / "cache").glob("*.owner"))


def test_manifest_is_readable(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    assert manifest["shape"] == [COUNT, 3, 6, 3]
    assert manifest["digest"].startswith(built.name.rsplit("-", 1)[1])


@pytest.mark.parametrize(("height", "width"), [(0, 3), (6, -1)])
def test_wrong_size(tmp_path: Path, height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"height x width is {height} x {width}"):
        build(Reader(), tmp_path, height, width)
    assert list(tmp_path.iterdir()) == []


def test_listings_that_do_not_match_are_refused() -> None:
    listing = listing_of(Reader())
    odd = np.arange(COUNT)
    for wrong, message in (
        ({"stamps": ("1",)}, "stamps has 1 entries, expected 12"),
        ({"paths": ("a",) * COUNT}, "a is there twice"),
        ({"modality": odd}, r"modality holds \[2, 3.* expected only 0"),
        ({"modality": np.zeros(COUNT, int)}, r"training identities \[0, 1, 2, 3\] have visible images but no infrared"),
        ({"is_train": odd % 4 < 2}, None),
        ({"is_train": odd < 7}, r"identities \[3\]"),
        ({"person_ids": odd // 2 % 4, "is_train": odd < 8}, r"identities \[0, 1\] are in training and in test"),
    ):
        if message is None:
            replace(listing, **wrong)
            continue
        with pytest.raises(ValueError, match=message):
            replace(listing, **wrong)
    with pytest.raises(DataError, match="the listing holds no image"):
        replace(
            listing,
            paths=(),
            stamps=(),
            **{k: getattr(listing, k)[:0] for k in ("person_ids", "camera_ids", "modality", "is_train", "group_ids")},
        )


def test_no_more_open_files_costs_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the images; what is done stays, and the next call goes on."""
    root = tmp_path / "people"
    for person in range(2):
        for spectrum in ("visible", "infrared"):
            (root / spectrum / str(person)).mkdir(parents=True)
            for k in range(70):
                pixels = np.full((8, 4), person * 70 + k, np.uint8)
                Image.fromarray(pixels).save(root / spectrum / str(person) / f"{k}.png")
    opened, real = [], Image.open

    def scarce(path, *more, **options):
        opened.append(path)
        if len(opened) > 270:
            raise OSError(errno.EMFILE, "Too many open files")
        return real(path, *more, **options)

    listing = folder.listing(root)
    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", scarce)
        with pytest.raises(OSError, match="Too many open files"):
            build_store(listing, 8, 4, tmp_path / "cache", progress=False)
    opened.clear()
    monkeypatch.setattr(Image, "open", lambda *a, **o: opened.append(a) or real(*a, **o))
    assert len(build_store(listing, 8, 4, tmp_path / "cache", progress=False)) == 280
    assert len(opened) == 280 - 256

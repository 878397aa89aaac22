"""A disk that is full or read-only, and other limits: one line, exit 1, nothing half-written, and on with room."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sa_lab
from sa_lab import cli, disk
from sa_lab.disk import new_array
from sa_lab.weights import save_state

ROOT = Path(sa_lab.__file__).parents[1]


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of its own; of sixteen megabytes, if a training does not need more."""
    place = tmp_path / "small"
    place.mkdir()
    size = "size=500m" if request.node.callspec.params["name"] == "train" else "size=16m"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk; the other tests simulate one")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def filled(place: Path, leave: int) -> Path:
    """All but so many bytes of a disk are taken."""
    filler = place / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(place).free - leave)
    return filler


COMMANDS = {
    "prepare": "prepare folder --root {given}/people --height 32 --width 16",
    "train": "train tiny {dials} --run {home}/run",
    "embed": "embed {given}/run --out {home}/out.npz",
    "generate": "generate llcm {home}/copy --train-ids 6 --test-ids 6",
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What commands begin with: a folder of people, 800 small images, and a finished run."""
    place = tmp_path_factory.mktemp("given")
    for person in range(8):
        for spectrum in ("visible", "infrared"):
            folder = place / "people" / spectrum / f"{person:02}"
            folder.mkdir(parents=True)
            for i in range(50):
                pixels = np.random.default_rng([person, i]).integers(0, 255, (24, 12), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    assert not command("train", place / "home", place, place)
    return place


def command(name: str, home: Path, given: Path, place: Path | None = None) -> str:
    """What it ends with where it fails, else nothing."""
    dials = (
        "--data.height 32 --data.width 16 --data.train-ids 40 --data.test-ids 20 --data.images-per-camera 2 "
        "--model.num-parts 1 --train.num-epochs 2 --train.steps-per-epoch 2 --loss.warmup-steps 1 "
        "--train.ids-per-batch 4 --train.num-probes 0 --train.device cpu --data.validation-fraction 0"
    )
    words = COMMANDS[name].format(dials=dials, home=place or home, given=given).split()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SA_LAB_HOME", str(home))
        try:
            cli.main(words)
        except SystemExit as stop:
            return str(stop.code)
    return ""


def in_a_process(name: str, home: Path, given: Path) -> str:
    """As `command` without dials; what the process says last, without bars."""
    words = COMMANDS[name].format(home=home, given=given).split()
    environment = {**os.environ, "SA_LAB_HOME": str(home), "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-m", "sa_lab", *words], capture_output=True, text=True, env=environment, encoding="utf-8"
    )
    assert result.returncode == 1, (result.returncode, result.stderr[-500:])
    assert "Traceback" not in result.stderr
    return [line for line in result.stderr.replace("\r", "\n").split("\n") if line.strip()][-1]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no way to fill a disk")
@pytest.mark.parametrize(
    ("name", "leave"),
    [
        ("generate", 0), ("generate", 40_000), ("prepare", 0), ("prepare", 400_000), ("train", 40_000),
        ("train", 3_000_000), ("embed", 0), ("embed", 3_000_000),
    ],
)  # fmt: skip
def test_a_full_disk_is_told_and_the_same_command_goes_on(
    name: str, leave: int, small_disk: Path, request: pytest.FixtureRequest
) -> None:
    given = request.getfixturevalue("given")  # not where no disk can be mounted
    filler = filled(small_disk, leave // 100 if name == "embed" else leave)  # its file has 180 kB
    said = (in_a_process if (name, leave) == ("prepare", 0) else command)(name, small_disk, given)
    assert said.startswith("sa-lab: ")
    assert len(said.splitlines()) == 1
    assert "No space left" in said or "the disk is full" in said, said
    filler.unlink()
    assert not command(name, small_disk, given)
    left = [path for path in small_disk.rglob(".*") if "~" in path.name]
    assert not left, "temporary files"


def test_space_is_reserved_before_it_is_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        OSError, match=r"the disk is full: at least 12,128 bytes are needed and [\d,]+ are free"
    ) as told:
        new_array(tmp_path / "x.npy", (1000, 3), np.float32)
    assert "x.npy" in str(told.value)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(os, "posix_fallocate", lambda *a: (_ for _ in ()).throw(OSError(errno.EOPNOTSUPP, "no")))
    assert new_array(tmp_path / "x.npy", (1000, 3), np.float32).shape == (1000, 3), "a disk that cannot reserve"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_torch_hides_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "temporary_name", lambda path: Path("/dev/full"))
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
    with pytest.raises(OSError, match="the disk is full"):
        save_state(tmp_path / "x.pt", {"a": torch.zeros(10**6)})


def test_limits_on_files_are_told(tmp_path: Path) -> None:
    """Size of a file and number of open ones."""
    script = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        import numpy as np, torch
        from sa_lab import disk
        from sa_lab.weights import save_state
        from sa_lab.schema import Embeddings

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        root = Path(sys.argv[1])
        ids, names = np.arange(9999) % 2, tuple(map(str, range(9999)))
        many = Embeddings(None, np.ones((9999, 1, 64), np.float32), ids, ids, ids, names)
        for write in (
            lambda: disk.new_array(root / "a.npy", (10**6,), np.float32), lambda: many.save(root / "b.npz"),
            lambda: save_state(root / "c.pt", {"a": torch.zeros(10**6)}),
            lambda: disk.write_text(root / "d", "x" * 10**6),
        ):
            try:
                write()
            except OSError as error:
                print("told", error)
        print(sorted(path.name for path in root.iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        try:
            disk.write_text(root / "e", "x")
        except OSError as error:
            print("told", error)
    """)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, env=environment, encoding="utf-8"
    )
    lines = result.stdout.strip().split("\n")
    assert [line[:5] for line in lines] == ["told "] * 4 + ["[]", "told "], result.stdout + result.stderr[-500:]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_told(tmp_path: Path, given: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in command("prepare", tmp_path, given)

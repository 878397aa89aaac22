"""Killed at any rename or removal, a run goes on as if nothing had happened, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import sys
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from test_workers import CONFIG

from sa_lab import disk, experiment
from sa_lab.data import prepare
from sa_lab.data.drawn import synthetic
from sa_lab.disk import temporary_name
from sa_lab.runs import Run, measure_folder
from sa_lab.schema import Embeddings
from sa_lab.training.loop import SPEED

pytestmark = [
    pytest.mark.usefixtures("narrow"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to kill many processes in little time"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]
CALLS = ("replace", "rename", "unlink", "remove", "rmdir")
VALIDATED = CONFIG.replace(
    {
        "data.train_ids": 12, "data.validation_fraction": 0.25, "train.num_epochs": 3, "train.num_probes": 2,
        "model.backbone": "mobilenet_v2",
    }
)  # fmt: skip


def in_child(action: Callable[[], object], kill_at: int | None = None, after: bool = False) -> int:
    """Do it in a process of its own, killed before or after so many renames and removals; the exit status.

    Without ``kill_at``: the number of them, at most 250.
    """
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    done = 0

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def replacement(*arguments: object, **options: object) -> object:
            nonlocal done
            if done == kill_at and not after:
                os._exit(255)
            done += 1
            result = call(*arguments, **options)
            if done - 1 == kill_at and after:
                os._exit(255)
            return result

        return replacement

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    try:
        action()
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        os._exit(254)
    os._exit(done if kill_at is None else 0)


def everything(folder: Path) -> dict[str, object]:
    """What a finished run says, but for what tells when it was made."""
    run = Run(folder)
    weights = torch.load(folder / "model.pt", weights_only=True)
    return {
        "metrics": {k: v.tolist() for k, v in run.metrics().items() if k != SPEED},
        "report": (folder / "report.json").read_text(),
        "queries": (folder / "queries.csv").read_text(),
        "overlap": json.loads((folder / "overlap.json").read_text())["measures"],
        "embeddings": zlib.crc32(run.embeddings.embeddings.tobytes()),
        "weights": {k: zlib.crc32(v.numpy().tobytes()) for k, v in weights["model"].items()},
        "prototypes": zlib.crc32(weights["prototypes"].numpy().tobytes()),
        "probes": {k: zlib.crc32(v.embeddings.tobytes()) for k, v in run.probes().items()},
        "files": sorted(str(path.relative_to(folder)) for path in folder.rglob("*")),
    }


def whole(folder: Path) -> None:
    experiment.run(VALIDATED, folder, progress=False)
    measure_folder(folder)


EVERY = bool(os.environ.get("SA_LAB_EVERY_KILL"))
"""Before and after each point, in twice the time; else on one side of it, by turns."""


@pytest.mark.slow
def test_a_run_survives_every_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    prepare(VALIDATED.data, progress=False)
    points = in_child(lambda: whole(tmp_path / "whole"))
    assert 25 < points < 250
    expected = str(everything(tmp_path / "whole"))
    killed = 0
    for point in range(points):
        for after in (False, True) if EVERY else (point % 2 == 1,):
            folder = tmp_path / f"killed-{point}-{after}"
            assert in_child(lambda folder=folder: whole(folder), point, after) == 255
            assert in_child(lambda folder=folder: whole(folder)) < 250
            assert str(everything(folder)) == expected, (point, after)
            shutil.rmtree(folder)
            killed += 1
    assert not [path for path in tmp_path.glob(".*") if path.suffix not in (".lock",)]
    print(f"{killed} kill points survived")


def test_a_store_survives_every_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_lab.data.store._CHUNK", 8)
    listing = synthetic.listing(synthetic.SyntheticSpec(4, 2, 1, height=128, width=64))

    def build(cache: Path) -> None:
        from sa_lab.data.store import build_store

        build_store(listing, 16, 8, cache, progress=False)

    points = in_child(lambda: build(tmp_path / "whole"))
    (expected,) = (tmp_path / "whole").glob("*/images.npy")
    for point in range(points):
        for after in (False, True):
            cache = tmp_path / f"killed-{point}-{after}"
            assert in_child(lambda cache=cache: build(cache), point, after) == 255
            assert in_child(lambda cache=cache: build(cache)) < 250
            (found,) = cache.glob("*/images.npy")
            assert found.read_bytes() == expected.read_bytes()
            assert sorted(path.name for path in found.parent.iterdir()) == ["images.npy", "manifest.json"]
            assert not [path for path in cache.iterdir() if path.suffix == ".partial" or "~" in path.name]


@pytest.mark.parametrize("moment", range(8))
def test_what_a_killed_process_leaves_is_swept_by_the_next(tmp_path: Path, moment: int) -> None:
    """Killed while it writes, at any of its writes; files and folders of other processes that live stay."""
    out = tmp_path / "found.npz"

    def write(kill: bool) -> None:
        real, calls = np.savez, 0

        def killed(*arguments: object, **columns: object) -> None:
            nonlocal calls
            real(*arguments, **columns)
            os._exit(255)

        if kill and moment % 2:
            np.savez = killed
        rng = np.random.default_rng(0)
        with disk.temporary_folder(out) as folder:
            disk.new_array(folder / "a.npy", (4, 1, 3), np.float16)
            if kill and not moment % 2:
                os._exit(255)
            Embeddings(
                None, rng.normal(size=(4, 1, 3)).astype(np.float32), np.arange(4), np.arange(4), np.arange(4) % 2,
                tuple("abcd"),
            ).save(out)  # fmt: skip

    mine = temporary_name(out)
    mine.write_text("another file of a process that lives")
    assert in_child(lambda: write(True), kill_at=-1) == 255
    assert [path for path in tmp_path.iterdir() if path != mine]
    assert in_child(lambda: write(False), kill_at=-1) == 0
    assert sorted(tmp_path.iterdir()) == sorted([mine, out])

"""Runs in processes of their own: one that fails stops no other, and none stays behind."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout

from sa_lab import disk
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig
from sa_lab.provenance import function_name
from sa_lab.runs import Run
from sa_lab.study import FailedRunsError, run_all, run_each
from sa_lab.training.learner import NonFiniteLossError
from sa_lab.training.objective import OwnLoss

ROOT = Path(__file__).parents[1]
CONFIG = ExperimentConfig(
    DataConfig("synthetic", height=16, width=8, train_ids=8, test_ids=4, images_per_camera=1, validation_fraction=0.0),
    ModelConfig("resnet18", 1, "random"), LossConfig(warmup_steps=1),
    TrainConfig(
        ids_per_batch=4, num_epochs=2, steps_per_epoch=2, milestones=(1,), augmentation="none", device="cpu",
        num_probes=0,
    ),
)  # fmt: skip


def test_a_diverging_run_can_be_sent_home() -> None:
    error = pickle.loads(pickle.dumps(NonFiniteLossError("step 3: not finite", None)))
    assert (str(error), error.batch) == ("step 3: not finite", None)


def test_one_failure_stops_no_other_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    configs = [
        CONFIG, CONFIG.replace("train.head_lr", 1e6).replace("train.optimizer", "sgd"),
        CONFIG.replace("train.ids_per_batch", 99), CONFIG.replace("seed", 1),
    ]  # fmt: skip
    with pytest.raises(FailedRunsError, match="2 of 4 runs failed; the others are finished") as caught:
        run_all(configs, jobs=2, progress=False)
    message = str(caught.value)
    assert "is not finite" in message
    assert "expected at most 8, the identities left for training" in message
    assert len(list(tmp_path.glob("runs/*/report.json"))) == 2
    finished = {file: file.stat().st_mtime_ns for file in tmp_path.glob("runs/*/report.json")}
    runs = run_all([configs[0], configs[3]], jobs=1, progress=False)
    assert {run.folder / "report.json": (run.folder / "report.json").stat().st_mtime_ns for run in runs} == finished


def endless(call: str, home: Path, begun: int) -> subprocess.Popen[bytes]:
    """A process of its own that trains without end, once so many of its runs have a checkpoint.

    Args:
        call: asks for them; it may name CONFIG, a config without end, and what `sa_lab.study` has.
        home: its data folder, which also takes what it says.
        begun: how many runs.
    """
    script = home / "endless.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'tests')!r})\nfrom test_workers import CONFIG\n"
        f"from sa_lab.study import *\n\nCONFIG = CONFIG.replace('train.num_epochs', 100_000)\n{call}\n"
    )
    environment = {**os.environ, "SA_LAB_HOME": str(home), "PYTHONPATH": str(ROOT)}
    with (home / "said").open("w") as said:
        process = subprocess.Popen([sys.executable, script], env=environment, stderr=said)
    deadline = time.monotonic() + 120
    while len(list(home.glob("runs/*/checkpoint.pt"))) < begun:
        assert process.poll() is None, (home / "said").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process


TWO_SEEDS = "run_all([CONFIG.replace('seed', s) for s in (0, 1)], jobs={jobs}, progress=False)"


def children_of(process: int) -> list[int]:
    told = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True).stdout
    return [int(word) for word in told.split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").split()[2] != "Z"
    except OSError:
        return False


def out_of_memory(embeddings: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


def killed(embeddings: torch.Tensor) -> torch.Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    return embeddings


@pytest.mark.parametrize(("loss", "reason"), [(out_of_memory, "CUDA out of memory"), (killed, "its worker was killed")])
def test_whatever_fails_a_run_stops_no_other_one(
    loss: OwnLoss, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    own = CONFIG.replace({"loss.own": function_name(loss), "loss.terms": "identity 1 + own 1"})
    done = run_each([CONFIG, own, CONFIG.replace("seed", 1)], 1, False, loss)
    assert isinstance(done[0], Run)
    assert reason in str(done[1])
    assert isinstance(done[2], Run)
    assert len(list(tmp_path.glob("runs/*/report.json"))) == 2


def test_what_cannot_work_is_told_before_any_image_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    with pytest.raises(FailedRunsError, match="SA-Softmax would never begin"):
        run_all([CONFIG.replace("loss.warmup_steps", 10_000)], progress=False)
    with pytest.raises(FailedRunsError, match="no such file"):
        run_all([CONFIG.replace("model.weights", "nowhere.pt")], progress=False)
    assert not list(tmp_path.glob("prepared/*/images.npy"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look for processes in")
def test_asked_to_stop_no_other_run_is_begun(tmp_path: Path) -> None:
    """Runs wait in the line of the one worker."""
    parent = endless(TWO_SEEDS.format(jobs=1), tmp_path, begun=1)
    parent.terminate()
    parent.wait(timeout=60)
    assert len(list(tmp_path.glob("runs/*/config.json"))) == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look for processes in")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_worker_stays_behind_and_the_same_call_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    parent = endless(TWO_SEEDS.format(jobs=2), tmp_path, begun=2)
    workers = children_of(parent.pid)
    assert len(workers) >= 2
    parent.send_signal(number)
    deadline = time.monotonic() + (40 if number == signal.SIGKILL else 10)
    parent.wait(timeout=60)
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.2)
    for run in tmp_path.glob("runs/*"):
        if run.is_dir():
            with FileLock(run.with_name(f".{run.name}.lock"), timeout=0):
                pass
            assert (run / "metrics.csv").is_file()


def test_who_waits_for_a_lock_says_for_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = (
        "import sys, time; from pathlib import Path; from sa_lab.disk import locked\n"
        "with locked(Path(sys.argv[1]), 'trains run'):\n    print('held', flush=True)\n    time.sleep(3)"
    )
    path = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", script, path], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert holder.stdout.readline() == b"held\n"
    holder.stdout.close()
    with pytest.raises(Timeout), FileLock(tmp_path / ".run.lock", timeout=0):
        pass
    with disk.locked(path, "evaluates run"):
        pass
    holder.wait()
    said = capsys.readouterr().err
    assert f"waiting for process {holder.pid} on " in said
    assert "which trains run" in said

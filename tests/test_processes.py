"""Two processes over gloo: as one process on the same batch, resumed by another number, never hanging."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sa_lab import experiment, transforms
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig
from sa_lab.data.store import ImageStore
from sa_lab.disk import locked
from sa_lab.provenance import function_name
from sa_lab.training import fit, loop, objective, processes
from sa_lab.training.processes import LostProcessError

CONFIG = ExperimentConfig(
    DataConfig(height=32, width=16, validation_fraction=0.0),
    ModelConfig("resnet18", 2, "random"),
    LossConfig(warmup_steps=1),
    TrainConfig(
        ids_per_batch=4, images_per_id=2, num_epochs=2, steps_per_epoch=2, milestones=(1,), augmentation="none",
        optimizer="sgd", backbone_lr=1e-4, head_lr=1e-3, prototype_lr=1e-2, device="cpu", num_probes=0,
    ),
)  # fmt: skip
DIALS = (
    "--data.height 32 --data.width 16 --data.train-ids 10 --data.test-ids 6 --data.images-per-camera 1 "
    "--model.backbone resnet18 --model.weights random --loss.warmup-steps 0 --train.device cpu "
    "--train.ids-per-batch 4 --train.num-epochs 1 --train.steps-per-epoch 2 --train.num-probes 0"
)
KINDS = {
    "complete": CONFIG,
    "one term": replace(CONFIG, loss=LossConfig(1.0, 0.0, warmup_steps=0)),
    "synchronous": replace(CONFIG, loss=LossConfig(warmup_steps=0, asynchronous=False)),
    "one forward": replace(CONFIG, train=replace(CONFIG.train, reuse_features=True)),
}


def store() -> ImageStore:
    """Eight people, three random images each in each spectrum."""
    person, modality = np.repeat(np.arange(8), 6), np.tile([0, 0, 0, 1, 1, 1], 8)
    images = torch.randint(0, 256, (48, 3, 32, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    paths = tuple(f"{i}.png" for i in range(48))
    return ImageStore("noise", images, person, modality + 1, modality, np.ones(48, bool), person, paths, "noise")


def begun(config: ExperimentConfig, images: ImageStore, own_loss: None = None) -> loop.Training:
    """A training whose batch norms keep to statistics of all images, which do not depend on how a batch is shared."""
    training = loop.start(config, images)
    norms = [m for m in training.network.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for module in norms:
        module.momentum = 1.0
    with torch.no_grad():
        pixels = transforms.normalize(transforms.to_float(images.images))
        training.network(pixels, torch.from_numpy(images.modality))
    for module in norms:
        module.eval().train = lambda mode=True, module=module: module
    return training


def train_all(folder: Path) -> None:
    for name, config in KINDS.items():
        training = begun(config, store())
        rows = list(loop.iterate(training))
        torch.save((rows, training.state_dict()), folder / f"{name} {processes.rank()}.pt")


def fit_until(step: int, act: Callable[[], object], folder: Path) -> None:
    """A fit in which the second process does something else before that step."""
    draw = loop.draw_batch

    def disturbed(training, index):
        if len(training.rows) == step and processes.rank() == 1:
            act()
        return draw(training, index)

    loop.draw_batch = disturbed
    fit.fit(CONFIG, store(), folder, progress=False)


def die_in_the_second_epoch(folder: Path) -> None:
    fit.start = begun
    fit_until(3, lambda: os._exit(3), folder)


def fall_silent(folder: Path) -> None:
    os.environ[processes.TIMEOUT] = "10"
    fit_until(1, lambda: time.sleep(300), folder)


def listen(folder: Path) -> None:
    """Write down where this process listens once it has met the others, as /proc says it: hexadecimal, 0A listens."""
    fabric = processes.fabric_of(CONFIG.train)
    fabric.barrier()
    mine = {os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.exists() or file.is_symlink()}
    tables = [Path(f"/proc/self/net/{kind}").read_text(encoding="utf-8") for kind in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.splitlines()]
    places = [line[1].split(":")[0] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in mine]
    (folder / str(processes.rank())).write_text(" ".join(places))
    fabric.barrier()


def end_stopped(folder: Path) -> None:
    """The second process is stopped once the first one no longer needs it."""
    processes.fabric_of(CONFIG.train)
    processes.agree_with_first()
    if processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    (folder / "done").touch()


def refuse(folder: Path) -> None:
    processes.fabric_of(CONFIG.train)
    if processes.rank() == 1:
        raise ValueError("a dial is\nwrong")
    processes.fabric_of(CONFIG.train).barrier()


def close(first: object, second: object) -> None:
    """The same structure, numbers equal to 1e-5, norms of gradients to 1e-3, speed aside."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first.keys() - {loop.SPEED}:
            if str(key).endswith("_gradient"):
                assert first[key] == pytest.approx(second[key], rel=1e-3)
            else:
                close(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            close(one, other)
    elif isinstance(first, float):
        assert first == pytest.approx(second, rel=1e-5, abs=1e-5)
    else:
        assert first == second


def test_two_processes_are_as_one_on_the_same_batch(tmp_path: Path) -> None:
    processes.launch(train_all, (tmp_path,), 2)
    for name, config in KINDS.items():
        training = begun(config, store())
        rows = list(loop.iterate(training))
        moved = training.state_dict()["prototypes"] - begun(config, store()).criterion.prototypes
        assert moved.abs().max() > 1e-3, name
        for rank in range(2):
            theirs, state = torch.load(tmp_path / f"{name} {rank}.pt", weights_only=True)
            close(theirs, rows)
            mine = training.state_dict()
            for part in ("model", "prototypes", "sampler"):
                close(state[part], mine[part])


def test_a_process_that_dies_ends_the_others_and_any_number_goes_on(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(LostProcessError, match=r"process 1 of 0\.\.1 ended with exit code 3"):
        processes.launch(die_in_the_second_epoch, (tmp_path / "run",), 2)
    assert time.monotonic() - started < 300, "far less than they wait for one another"
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert len(saved["rows"]) == 2
    resumed = begun(CONFIG, store())
    resumed.load_state_dict(saved)
    whole = begun(CONFIG, store())
    for training in (resumed, whole):
        for _ in loop.iterate(training):
            pass
    assert len(resumed.rows) == 4
    close(resumed.state_dict(), whole.state_dict())


@pytest.mark.skipif(not Path("/proc/self/net/tcp").is_file(), reason="only Linux tells where a process listens")
def test_nobody_on_the_network_can_join(tmp_path: Path) -> None:
    processes.launch(listen, (tmp_path,), 2)
    places = [place for rank in range(2) for place in (tmp_path / str(rank)).read_text().split()]
    assert places, "they talk by sockets"
    assert all(place.endswith("7F") or place == "00000000000000000000000001000000" for place in places), places


def test_a_stopped_process_does_not_hold_up_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "_GRACE", 2.0)
    processes.launch(end_stopped, (tmp_path,), 2)
    assert (tmp_path / "done").is_file()
    assert "process 1 of 0..1 did not end with the first one; it was ended" in capsys.readouterr().err


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(LostProcessError, match=r"^process 1 of 0\.\.1 failed: a dial is wrong$"):
        processes.launch(refuse, (tmp_path,), 2)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_they_save_a_checkpoint(tmp_path: Path, kind: signal.Signals) -> None:
    program = (
        "import sys; from pathlib import Path; from dataclasses import replace; sys.path.insert(0, sys.argv[1])\n"
        "import test_processes as t\n"
        "if __name__ == '__main__': t.processes.launch(t.train_long, (Path(sys.argv[2]),), 2)"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py"), str(Path(__file__).parent), str(tmp_path / "run")]
    with (tmp_path / "said").open("w") as file:
        started = subprocess.Popen(command, stderr=file)
    wait_for(tmp_path / "run" / "metrics.csv")
    started.send_signal(kind)
    assert started.wait(60)
    assert "stopped; the same call goes on with what is finished" in (tmp_path / "said").read_text()
    rows = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["rows"]
    assert 2 <= len(rows) < 2000


def wait_with_a_stopped_one(folder: Path) -> None:
    begun(CONFIG, store())
    if processes.rank() == 1:
        (folder / "stopped").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is in a step, which does not end
    processes.agree_with_first()
    torch.distributed.barrier()


def test_a_stopped_process_does_not_hold_up_a_plea_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "_GRACE", 2.0)
    monkeypatch.setattr(processes, "_TOLD", 1.0)

    def plead() -> None:
        wait_for(tmp_path / "stopped")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=plead, daemon=True).start()
    with pytest.raises(KeyboardInterrupt, match="the same call goes on with what is finished"):
        processes.launch(wait_with_a_stopped_one, (tmp_path,), 2)
    assert "process 0 of 0..1 is asked to stop; asked again (Ctrl-C), all are ended" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found in /proc")
def test_a_terminals_interrupt_while_they_start_is_one_line(tmp_path: Path) -> None:
    """It goes to the whole group: also to processes that only load."""
    command = [sys.executable, "-m", "sa_lab", "train", "tiny", "--processes", "2", "--run", str(tmp_path / "run")]
    with (tmp_path / "said").open("w") as file:
        started = subprocess.Popen(
            [*command, *DIALS.split()], env=os.environ | {"SA_LAB_HOME": str(tmp_path)}, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children")
    deadline = time.monotonic() + 120
    while len(children.read_text(encoding="utf-8").split()) < 3:  # with the tracker of shared memory
        assert started.poll() is None, (tmp_path / "said").read_text()[-1500:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.3)
    os.killpg(started.pid, signal.SIGINT)
    assert started.wait(60)
    said = (tmp_path / "said").read_text()
    assert "Traceback" not in said
    assert "sa-lab: stopped; the same call goes on with what is finished" in said


def train_long(folder: Path) -> None:
    config = replace(CONFIG, train=replace(CONFIG.train, num_epochs=1000, checkpoint_every=1))
    fit.fit(config, store(), folder, progress=False)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 120
    while not file.is_file():
        assert time.monotonic() < deadline, f"{file} is not there"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_process_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(LostProcessError, match=r"(?s)process [01] .*10 s without an answer.*the same command goes on"):
        processes.launch(fall_silent, (tmp_path / "run",), 2)


@pytest.mark.slow
def test_a_whole_run_on_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    data = DataConfig(height=32, width=16, train_ids=10, test_ids=6, images_per_camera=1, validation_fraction=0.2)
    config = replace(CONFIG, data=data, train=replace(CONFIG.train, augmentation="light", num_probes=2))
    done = experiment.run(config, progress=False, num_processes=2)
    assert done.report.num_queries > 0
    assert sorted(done.probes()) == [0, 4]
    assert len(done.metrics()["total"]) == 4
    again = experiment.run(config, progress=False, num_processes=2)
    assert again.folder == done.folder


@pytest.mark.slow
@pytest.mark.parametrize("way", ["--processes", "torchrun"])
def test_a_second_call_waits_for_the_lock(tmp_path: Path, way: str) -> None:
    """Longer than its processes would wait for one another."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    command = [sys.executable, "-m", *(torchrun if way == "torchrun" else []), "sa_lab", "train", "tiny"]
    command += ["--run", str(tmp_path / "run"), *DIALS.split(), *(["--processes", "2"] if way != "torchrun" else [])]
    environment = os.environ | {"SA_LAB_HOME": str(tmp_path), processes.TIMEOUT: "8"}
    with locked(tmp_path / "run", "is a test"), (tmp_path / "said").open("w") as file:
        started = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        deadline = time.monotonic() + 120
        while "waiting for process" not in (tmp_path / "said").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(10)
        assert started.poll() is None
    assert started.wait(120) == 0, (tmp_path / "said").read_text()
    assert "which is a test" in (tmp_path / "said").read_text()


@pytest.mark.slow
def test_the_command_under_torchrun(tmp_path: Path) -> None:
    """The first process alone talks and writes; a finished run is found again; another config is told."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    command = [*torchrun, "--", "sa_lab", "train", "tiny", "--run", str(tmp_path / "run"), *DIALS.split()]
    environment = os.environ | {"SA_LAB_HOME": str(tmp_path)}

    def call(*more: str) -> subprocess.CompletedProcess:
        return subprocess.run([*command, *more], env=environment, capture_output=True, text=True)

    for _ in range(2):
        done = call()
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("run folder: ") == 1
    assert (tmp_path / "run" / "report.json").is_file()
    wrong = call("--seed", "1")
    assert wrong.returncode
    assert "is of a run of another config" in wrong.stderr


def test_another_config_is_told_before_processes_start(tmp_path: Path) -> None:
    data = DataConfig(height=32, width=16, train_ids=10, test_ids=6, images_per_camera=1)
    config = replace(CONFIG, data=data)
    config.save(tmp_path / "config.json")
    with pytest.raises(ValueError, match="is of a run of another config"):
        experiment.run(replace(config, seed=1), tmp_path, progress=False, num_processes=2)


OWN = """
import torch


class Closer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.point = torch.nn.Parameter(torch.randn(512) / 100)

    def forward(self, embeddings):
        return (embeddings - self.point).square().mean()


closer = Closer()
"""


@pytest.mark.slow
def test_a_loss_of_a_file_is_trained_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no such module, and no notebook; what it learns stays the same in all, and as in one process."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    (tmp_path / "my losses.py").write_text(OWN)
    place = f"{tmp_path / 'my losses.py'}:closer"
    data = DataConfig(height=32, width=16, train_ids=10, test_ids=6, images_per_camera=1, validation_fraction=0.0)
    config = replace(CONFIG, data=data, loss=replace(CONFIG.loss, terms="identity 1 + own 1"))
    own = objective.from_file(place)
    alone, together = (
        experiment.run(config, tmp_path / name, progress=False, own_loss=own, num_processes=number)
        for name, number in (("alone", 1), ("together", 2))
    )
    assert alone.config == together.config
    assert alone.config.loss.own == function_name(objective.from_file(place)), "another process finds it again"
    losses = [run.metrics()["own"][1:] for run in (alone, together)]
    np.testing.assert_allclose(*losses, rtol=0.1)  # each process has its own batch statistics


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("def f(embeddings): return embeddings.sum()", "g", "has no function or module 'g'"),
        ("f = 3", "f", "has no function or module 'f'"),
        ("import nothing_of_that_name", "f", "cannot be run: ModuleNotFoundError"),
        ("def f(:", "f", "cannot be run: SyntaxError"),
        ("", "f:g", "expected a file and a name in it"),
        ("", "", "expected a file and a name in it"),
    ],
)
def test_a_file_without_a_loss_is_told(text: str, name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=said):
        objective.from_file(f"{tmp_path / 'mine.py'}:{name}")


def test_what_processes_cannot_do_is_told(tmp_path: Path) -> None:
    for number in (0, -1):
        with pytest.raises(ValueError, match=f"processes is {number}, expected 1 to"):
            processes.launch(train_all, (tmp_path,), number)
    with pytest.raises(ValueError, match="num_processes is 2, expected 1 with watch"):
        experiment.run(CONFIG, watch=lambda row: None, num_processes=2)


def test_alone_there_is_nobody_to_wait_for() -> None:
    assert (processes.size(), processes.rank(), processes.is_first()) == (1, 0, True)
    values = torch.arange(3.0)
    assert processes.mean(values) is values
    assert processes.agree_with_first()
    assert not processes.agree_with_first(False)
    with pytest.raises(RuntimeError, match="timed out"), processes.lost_process_errors():
        raise RuntimeError("timed out")


def test_errors_of_the_library_are_told_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "size", lambda: 2)
    with pytest.raises(LostProcessError, match="has lost another one"), processes.lost_process_errors():
        raise RuntimeError("Connection closed by peer [127.0.0.1]:9999")
    for error in (RuntimeError("mat1 and mat2"), ValueError("timed out")):
        with pytest.raises(type(error), match=str(error)), processes.lost_process_errors():
            raise error

"""Where runs are computed changes none of them: one worker, two, or a Dask cluster that loses one of its two."""

from __future__ import annotations

import csv
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_workers import CONFIG, endless

from sa_lab import cli, study
from sa_lab.disk import Refusal, read_json
from sa_lab.study import engines

distributed = pytest.importorskip("distributed", reason="Dask is not installed (the extra cluster)")

pytestmark = pytest.mark.slow
LONGER = CONFIG.replace("train.num_epochs", 3)
OVER = {"loss.mask_value": [0.0, 5.0]}
COST = ("seconds", "peak_mb")
"""The columns that differ when a run is repeated."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.LocalCluster]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
        worker_dashboard_address=None,
    ) as made:  # fmt: skip
        yield made


def rows_of(home: Path, monkeypatch: pytest.MonkeyPatch, **where: object) -> list[dict[str, object]]:
    """The table of one small sweep, made in a data folder of its own."""
    monkeypatch.setenv("SA_LAB_HOME", str(home))
    found = study.sweep(LONGER, OVER, ("softmax", "complete"), progress=False, **where)
    assert found.failed == {}
    return [{name: value for name, value in row.items() if name not in COST} for row in found.rows]


def test_the_table_is_the_same_whoever_computes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: distributed.LocalCluster
) -> None:
    one = rows_of(tmp_path / "one", monkeypatch, jobs=1)
    assert len(one) == 3
    assert rows_of(tmp_path / "two", monkeypatch, jobs=2) == one
    killed = []

    def kill_one() -> None:
        while not list((tmp_path / "dask").glob("runs/*/checkpoint.pt")):
            time.sleep(0.02)
        killed.append(cluster.workers[0].process.pid)
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill_one, daemon=True).start()
    assert rows_of(tmp_path / "dask", monkeypatch, scheduler=cluster.scheduler_address) == one
    assert killed


def test_asked_to_stop_the_workers_of_a_cluster_end_their_runs(
    tmp_path: Path, cluster: distributed.LocalCluster
) -> None:
    call = "run_each([CONFIG.replace('seed', s) for s in range(3)], 1, False, scheduler={!r})"
    asking = endless(call.format(cluster.scheduler_address), tmp_path, begun=2)
    asking.terminate()
    deadline = time.monotonic() + 10
    with distributed.Client(cluster, set_as_default=False) as client:
        while any(client.run(lambda dask_worker: dask_worker.state.executing_count).values()):
            assert time.monotonic() < deadline, "a worker trains for nobody"
            time.sleep(0.2)
    assert asking.wait(timeout=30) != 0
    assert len(list(tmp_path.glob("runs/*/config.json"))) == 2  # the one that waited was not begun


def test_no_cluster_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    with pytest.raises(Refusal, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        engines.Dask("tcp://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(Refusal, match=r"pip install 'sa-lab\[cluster\]'"):
        study.run_each([CONFIG], progress=False, scheduler="tcp://127.0.0.1:1")


OWN = """
import os
import signal

def once(embeddings):
    if not os.path.exists({flag!r}):
        open({flag!r}, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return embeddings.square().mean()
"""


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_ten_cells_of_which_three_fail(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: distributed.LocalCluster,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Not finite, no value of this dial, a worker that is killed; on a cluster the latter is begun again."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    (tmp_path / "own.py").write_text(OWN.format(flag=str(tmp_path / "flag")))
    CONFIG.replace({"loss.terms": "identity 1 + own 1", "train.optimizer": "sgd"}).save(tmp_path / "config.json")
    rates = ["1e-3", "2e-3", "3e-3", "4e-3", "5e-3", "6e-3", "7e-3", "8e-3", "1e6", "-1"]
    engine = ["--jobs", "2"] if where == "here" else ["--scheduler", cluster.scheduler_address]
    with pytest.raises(SystemExit) as ended:
        cli.main([
            "sweep", "--config", str(tmp_path / "config.json"), "--over", "train.head-lr", *rates, "--loss", "own",
            "--own-loss", f"{tmp_path / 'own.py'}:once", *engine, "--out", str(tmp_path / "out"), "tiny",
        ])  # fmt: skip
    failed = read_json(tmp_path / "out" / "failed.json")["cells"]
    told = str(ended.value)
    assert ended.value.code not in (0, None)
    assert "is not finite" in failed["once, head_lr 1000000.0, seed 0"]
    assert "train.head_lr is -1.0, expected a number from 0" in failed["own, head_lr -1.0, seed 0"]
    assert all(cell in told for cell in failed)
    killed = [cell for cell, why in failed.items() if "worker was killed" in why]
    assert len(killed) == (1 if where == "here" else 0)
    with (tmp_path / "out" / "table.csv").open(encoding="utf-8") as file:
        runs = {row["run"] for row in csv.DictReader(file)}
    assert len(runs) == (7 if where == "here" else 8) == 10 - len(failed)


def test_gpus_are_shared_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    made = engines.Loky(3)
    seen = [made._lines.get_nowait()["CUDA_VISIBLE_DEVICES"] for _ in range(3)]
    assert seen == ["2", "5", "2"]
    made.close()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(engines.torch.cuda, "device_count", lambda: 2)
    assert engines._visible_gpus() == ["0", "1"]


def test_a_worker_sees_its_gpu_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of one's own writes down what its process may use."""
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,9")
    file = str(tmp_path / "seen")

    def told(embeddings):
        with open(file, "a", encoding="utf-8") as seen:
            seen.write(os.environ["CUDA_VISIBLE_DEVICES"] + "\n")
        return embeddings.square().mean()

    config = CONFIG.replace("loss.terms", "identity 1 + own 1")
    assert study.sweep(config, {}, ("own",), (0, 1), 2, progress=False, own_loss=told).failed == {}
    assert set(Path(file).read_text(encoding="utf-8").split()) == {"7", "9"}


def test_a_line_a_run_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sa_lab.study.workers import _Board

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    folders = [tmp_path / name for name in ("first", "second", "old")]
    for folder in folders:
        folder.mkdir()
        (folder / "metrics.csv").write_text("step\n" + "0\n" * 3)
    os.utime(folders[2] / "metrics.csv", (0, 0))
    with _Board(dict(enumerate((folder, 10) for folder in folders)), 5, True) as board:
        for folder in folders[:2]:
            os.utime(folder / "metrics.csv", (time.time() + 5, time.time() + 5))
        board.look()
        board.finished(0)
    said = capsys.readouterr().err
    assert "first" in said
    assert "second" in said
    assert "3 of 10 steps" in said
    assert "2/5" in said
    assert "3/5" in said
    assert "old" not in said

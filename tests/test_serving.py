"""The page of `sa-lab app`: refusals before anything starts, then the page itself, offline and behind its token."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Watched, stop

from sa_lab import experiment
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig
from sa_lab.course import app
from sa_lab.data import copies


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_serve", lambda *_: pytest.fail("a server was started"))


@pytest.mark.usefixtures("unstarted")
def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run is .*/nowhere, expected the folder of a finished run"):
        app.serve((tmp_path / "nowhere",))
    with pytest.raises(ValueError, match=r"report\.json"):
        app.serve((tmp_path,))
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="runs are 3 folders, expected one or two"):
        app.serve((tmp_path,) * 3)


@pytest.mark.usefixtures("unstarted")
def test_a_port_that_cannot_be_had_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"port is {port}, expected a free one"):
            app.serve(port=port)
    with pytest.raises(ValueError, match="port is 70000, expected 0"):
        app.serve(port=70000)


@pytest.mark.usefixtures("unstarted")
def test_without_the_server_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"sa-lab\[notebooks\]"):
        app.serve()


def test_a_server_that_ends_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_write", lambda place, _: place / "page" / "absent.ipynb")
    with pytest.raises(ValueError, match=r"server ended with exit code 1: .*absent\.ipynb"):
        app.serve(browser=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps on drawn people, evaluated."""
    root = tmp_path_factory.mktemp("copies") / "llcm"
    copies.write("llcm", root, train_ids=8, test_ids=6, images_per_camera=2)
    config = ExperimentConfig(
        data=DataConfig(dataset="llcm", root=str(root), height=32, width=16),
        model=ModelConfig(num_parts=1, weights="random"),
        loss=LossConfig(warmup_steps=2),
        train=TrainConfig(ids_per_batch=4, num_epochs=1, steps_per_epoch=6, device="cpu"),
    )
    return experiment.run(config, progress=False).folder


@pytest.mark.slow
def test_the_page_works_offline_behind_its_token_and_ends_without_a_trace(
    run: Path, tmp_path: Path, page_at: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-m", "sa_lab", "app", str(run), "--no-browser"]
    log = tmp_path / "log"
    with log.open("w") as file:
        served = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        address = _address(served, log)
        host = address.split("?")[0]
        stranger = page_at(1280)
        stranger.page.goto(host)
        assert "token" in stranger.page.url + stranger.page.inner_text("body").lower()
        assert stranger.page.locator(".widget-tab, .js-plotly-plot").count() == 0

        watched = page_at(1280)
        watched.page.goto(address, timeout=60_000)
        figure = watched.page.locator(".js-plotly-plot").first
        figure.wait_for(state="visible", timeout=60_000)
        assert figure.evaluate("g => g._fullData.length") > 0
        assert watched.page.title() == app.TITLE
        assert watched.page.locator(".jp-InputArea:visible, .highlight:visible").count() == 0
        watched.page.get_by_role("tab", name="Ranking browser").click()
        watched.page.wait_for_timeout(3000)
        assert watched.errors == []
        assert [one for one in watched.requests if not one.startswith((host, "data:", f"blob:{host}"))] == []

        served.send_signal(signal.SIGINT)
        assert served.wait(60) == 0, log.read_text()
        assert list(tmp_path.iterdir()) == [log]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(host.rstrip("/").rpartition(":")[2])), timeout=5)
    finally:
        stop(served)


def _address(served: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 90
    while not (found := re.search(r"http://127\.0\.0\.1:\d+/\?token=\w+", log.read_text(encoding="utf-8"))):
        assert served.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.2)
    return found[0]

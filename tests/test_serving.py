"""The page of `sa-lab app`: refusals before anything starts, then the page itself, offline and behind its token."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from browsing import Watched, stop

from sa_lab import experiment
from sa_lab.config import DataConfig, ExperimentConfig, LossConfig, ModelConfig, TrainConfig
from sa_lab.course import app
from sa_lab.data import copies

PREFIX = "/user/ann/proxy/absolute/8866"
"""Of the page's path, behind a proxy."""


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_serve", lambda *_: pytest.fail("a server was started"))


@pytest.mark.usefixtures("unstarted")
def test_what_is_no_finished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run is .*/nowhere, expected the folder of a finished run"):
        app.serve((tmp_path / "nowhere",))
    with pytest.raises(ValueError, match=r"report\.json in it, or of evaluated descriptors"):
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
    with pytest.raises(ValueError, match="base_url is 'proxy/8866', expected a path that begins and ends with /"):
        app.serve(base_url="proxy/8866")


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
    served, address = _start(tmp_path, str(run), "--base-url", f"{PREFIX}/")
    log = tmp_path / "log"
    try:
        host = address.split("?")[0]
        origin = "http://" + urlsplit(host).netloc
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
        assert [one for one in watched.requests if not one.startswith((host, "data:", f"blob:{origin}"))] == []

        served.send_signal(signal.SIGINT)
        assert served.wait(60) == 0, log.read_text()
        assert list(tmp_path.iterdir()) == [log]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", urlsplit(host).port), timeout=5)
    finally:
        stop(served)


def _kernels(place: Path) -> list[Path]:
    """The kernels of the pages served from ``place``, as /proc lists them."""
    lines = {file: file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline") if file.exists()}
    return [file for file, line in lines.items() if b"ipykernel_launcher" in line and str(place).encode() in line]


def _wait(for_what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not for_what():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _start(place: Path, *more: str) -> tuple[subprocess.Popen[bytes], str]:
    command = [sys.executable, "-m", "sa_lab", "app", *(more if "--browser" in more else ("--no-browser", *more))]
    log = place / "log"
    with log.open("w") as file:
        served = subprocess.Popen(command, stdout=file, stderr=file)
    return served, _address(served, log)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").is_file(), reason="kernels are counted in /proc")
def test_a_tab_has_one_kernel_and_strangers_have_none(
    tmp_path: Path, page_at: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    served, address = _start(tmp_path, "--tabs", "2")
    host = address.split("?")[0]
    try:
        mine = page_at(1280)
        for _ in range(3):
            mine.page.goto(address, timeout=60_000)
            mine.page.locator(".js-plotly-plot").first.wait_for(state="visible", timeout=60_000)
            _wait(lambda: len(_kernels(tmp_path)) == 1, 20)

        others = [page_at(1280).page for _ in range(2)]
        assert [one.goto(address, timeout=60_000).status for one in others] == [200, 503]
        assert "2 tabs are open, which is the limit; close one" in others[1].inner_text("body")
        assert mine.page.reload(timeout=60_000).status == 200, "its own tab is loaded anew at the limit, too"
        mine.page.locator(".js-plotly-plot").first.wait_for(state="visible", timeout=60_000)
        for page in (mine.page, others[0]):
            page.goto("about:blank")
        _wait(lambda: not _kernels(tmp_path), 20)

        (tmp_path / "other").mkdir()
        visitor = mine.page  # who has the cookie
        with _page_on_another_port(tmp_path / "other", host) as other:
            for way in ("form", "link"):
                visitor.goto(other)
                with visitor.expect_navigation(url=f"{host}**"):
                    visitor.locator(f"#{way}").click()
                assert "another page asked for this one" in visitor.inner_text("body")
            visitor.goto(other)
            visitor.wait_for_timeout(2000)  # its frame and its script have asked as well
        assert not _kernels(tmp_path)
        cookies = [one for one in visitor.context.cookies(host) if one["name"].startswith("username")]
        assert [one["sameSite"] for one in cookies] == ["Strict"]
    finally:
        stop(served)


@contextmanager
def _page_on_another_port(folder: Path, host: str) -> Iterator[str]:
    """A page of somebody else that leads to ``host`` in four ways."""
    (folder / "index.html").write_text(
        f"<a id=link href='{host}'>link</a><form method=get action='{host}'><button id=form>send</button></form>"
        f"<iframe src='{host}'></iframe><script>fetch('{host}', {{mode: 'no-cors', credentials: 'include'}})</script>"
    )
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").is_file(), reason="kernels are counted in /proc")
def test_a_killed_command_leaves_nothing_behind(
    tmp_path: Path, page_at: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BROWSER", "/bin/true")
    (tmp_path / "home").mkdir()
    served, address = _start(tmp_path, "--browser")
    page_at(1280).page.goto(address, timeout=60_000)
    _wait(lambda: len(_kernels(tmp_path)) == 1, 30)
    _wait(lambda: bool(list((tmp_path / "home").glob("open-*.html"))), 10)
    served.kill()
    served.wait()
    _wait(lambda: not list((tmp_path / "home").glob("open-*.html")), 40)
    shutil.rmtree(tmp_path / "home")
    _wait(lambda: not _kernels(tmp_path), 40)
    _wait(lambda: list(tmp_path.iterdir()) == [tmp_path / "log"], 40)


@pytest.mark.parametrize("home", ["written to", "only read"])
def test_the_token_is_on_no_command_line(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The browser is sent to a file that only this user can read, in a home that may be closed."""
    opened: list[str] = []
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))

    def look(address: str) -> None:
        file = Path(url2pathname(address.removeprefix("file://")))
        opened.append(address)
        assert file.stat().st_mode & 0o777 == 0o600
        assert re.search(r"url=http://127\.0\.0\.1:\d+/\?token=\w{48}", file.read_text(encoding="utf-8"))
        raise KeyboardInterrupt

    monkeypatch.setattr(app.webbrowser, "open", look)
    monkeypatch.setattr(app, "can_be_written", lambda _: home == "written to")
    app.serve()
    assert opened[0].startswith("file://")
    assert (str(tmp_path) in opened[0]) == (home == "written to")
    assert "?" not in opened[0]
    assert not list(tmp_path.glob("open-*"))


def _address(served: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 90
    while not (
        found := re.search(rf"http://127\.0\.0\.1:\d+(?:{PREFIX})?/\?token=\w+", log.read_text(encoding="utf-8"))
    ):
        assert served.poll() is None, log.read_text(encoding="utf-8")
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.2)
    return found[0]

"""Browsers for tests: pages that note what goes wrong, and a JupyterLab of its own to run notebooks in."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SCREENSHOTS = Path(os.environ.get("SA_LAB_SCREENSHOTS", ROOT / "data" / "screenshots"))
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
QUIET = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of view are drawn as well
    "docmanager-extension/plugin": {"autosave": False},
}
"""Settings of JupyterLab."""
HARMLESS: tuple[str, ...] = ()
"""Patterns of console errors that JupyterLab itself makes."""


def find_browser() -> str | None:
    """A chromium or chrome: CHROME names one, or it is on the PATH."""
    names = (os.environ.get("CHROME"), "chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


@dataclass
class Watched:
    """A page and all that went wrong on it, and all that it asked for."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.errors.append(f"page: {error}"))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.requests.append(request.url))

    def keep_picture(self, name: str) -> None:
        """A screenshot to look at; where a busy browser cannot draw the page at once, it is asked again, twice."""
        from playwright.sync_api import Error

        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for attempt in range(3):
            try:
                self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
                return
            except Error as error:
                if attempt == 2 or "Unable to capture screenshot" not in str(error):
                    raise
            self.page.wait_for_timeout(2000)

    def _note(self, message: Any) -> None:
        if message.type == "error" and not any(re.search(known, message.text) for known in HARMLESS):
            self.errors.append(f"console: {message.text} ({message.location.get('url', '')})")


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Where the browser is; tests that need it skip where there is none."""
    path = find_browser()
    if path is None and os.environ.get("SA_LAB_BROWSER") == "required":
        pytest.fail("no chromium or chrome, and SA_LAB_BROWSER says that one is required")
    if path is None:
        pytest.skip("no chromium or chrome: apt-get install chromium, or let CHROME name one")
    return str(path)


@pytest.fixture(scope="session")
def browser(browser_path: str) -> Iterator[Any]:
    """One browser for all tests."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page_at(browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Watched]]:
    """``page_at(width)`` is a new page; at the end of the test each leaves a screenshot with the test's name."""
    opened: list[tuple[int, Watched]] = []

    def open_page(width: int = 1280, height: int = 1000) -> Watched:
        opened.append((width, Watched(browser.new_page(viewport={"width": width, "height": height}))))
        return opened[-1][1]

    yield open_page
    name = re.sub(r"[^\w.-]+", "-", request.node.name).strip("-")
    for i, (width, one) in enumerate(opened):
        one.keep_picture(f"{name}-{i}-{width}")
        one.page.close()


@dataclass
class Server:
    """A running JupyterLab, the folder that it serves and its log."""

    url: str
    token: str
    folder: Path
    log: Path

    def end_kernels(self) -> None:
        for kernel in json.loads(self._ask("GET", "api/kernels")):
            self._ask("DELETE", f"api/kernels/{kernel['id']}")

    def _ask(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """JupyterLab on loopback with folders of its own, serving a copy of the chapters."""
    pytest.importorskip("jupyterlab")
    home = tmp_path_factory.mktemp("lab")
    folder = Path(shutil.copytree(ROOT / "notebooks", home / "notebooks"))
    for name, values in QUIET.items():
        path = home / "config" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    private = {
        "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_DATA_DIR": home / "data", "JUPYTER_RUNTIME_DIR": home / "run",
        "IPYTHONDIR": home / "ipython", "HOME": home / "home",
    }  # fmt: skip
    for path in private.values():
        path.mkdir(exist_ok=True)
    token = os.urandom(16).hex()
    runs = os.environ.get("SA_LAB_TEST_HOME", os.environ.get("SA_LAB_HOME", str(home / "runs")))
    environment = {**os.environ, **{key: str(path) for key, path in private.items()}}
    environment |= {"JUPYTER_TOKEN": token, "SA_LAB_HOME": runs}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root"]
    command.append("--ServerApp.contents_manager_class=sa_lab.course.reopening.Contents")  # as sa-lab lab has it
    log = home / "server.log"
    with log.open("w") as file:
        process = subprocess.Popen([*command, f"--notebook-dir={folder}"], env=environment, stdout=file, stderr=file)
    try:
        yield Server(_address(process, home / "run", log), token, folder, log)
    finally:
        stop(process)


def _address(process: subprocess.Popen[bytes], runtime: Path, log: Path, timeout: float = 120) -> str:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and process.poll() is None:
        for path in runtime.glob("jpserver-*.json"):
            if text := path.read_text():
                return str(json.loads(text)["url"])
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start within {timeout} s:\n{log.read_text(encoding='utf-8')[-4000:]}")


def stop(process: subprocess.Popen[bytes], patience: float = 20) -> None:
    """End a process that the tests started, with its kernels; kill it if it does not listen."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

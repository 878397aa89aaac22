"""A page on this machine: the playground and the ranking browser, without a notebook in sight.

Each tab has its kernel, which ends with it; the server ends with the command that started it. It listens on loopback
alone, and nothing starts a kernel but the page's own address, with its token, or the page itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sa_lab.disk import can_be_written, home

TITLE = "SA-Softmax: prototypes and rankings"
_HOST = "127.0.0.1"
_START_TIMEOUT, _STOP_TIMEOUT = 60, 15
"""Seconds until the server has to answer, and to stop."""
_IDLE = 600
"""Seconds after which a kernel without a tab is ended, where the tab did not say that it closes."""
_TEMPLATE = """\
{%- extends 'voila/templates/lab/index.html.j2' -%}
{#- as the extended one, without its style sheets from another host -#}
{%- block notebook_css -%}
{{ resources.include_js("static/voila-style.js") }}
{{ spinner.css() }}
<style>
  .jp-mod-noOutputs.jp-mod-noInput, .jp-OutputPrompt { display: none }
  html, body.jp-Notebook, #main { background: white !important }
  body.jp-Notebook { --jp-widgets-horizontal-tab-width: 190px }
  #rendered_cells { max-width: 1200px; margin: 0 auto; padding: 0 12px }
</style>
<script>
  // voila says the same, but not before the whole page is there
  addEventListener("pagehide", () => {
    const config = JSON.parse(document.getElementById("jupyter-config-data").textContent), form = new FormData()
    form.append("_xsrf", (document.cookie.match(/(?:^|; )_xsrf=([^;]*)/) || [])[1])
    navigator.sendBeacon(config.baseUrl + "voila/api/shutdown/" + config.kernelId, form)
  })
</script>
{{ super.super() }}
{%- endblock notebook_css -%}
"""


def serve(runs: Sequence[Path] = (), port: int = 0, browser: bool = True, tabs: int = 8, base_url: str = "/") -> None:
    """Serve the page until it is interrupted; its address is printed.

    Args:
        runs: folders of at most two finished runs, or of descriptors that `sa-lab evaluate` has evaluated, whose
            rankings are shown; without them, the playground alone.
        port: on 127.0.0.1; 0 takes a free one.
        browser: open the page in the browser, too.
        tabs: maximum number of open tabs, each with a kernel of about a gigabyte; one more is told to wait.
        base_url: path of the page, where a proxy such as jupyter-server-proxy passes it on with its prefix.

    Raises:
        ValueError: a folder without a report, more than two folders, a port that is taken, no tabs, an invalid path, or
            voila is not installed.
    """
    folders = [folder.expanduser().absolute() for folder in runs]
    for folder in folders:
        if not any((folder / name).is_file() for name in ("report.json", "source.json")):
            told = "expected the folder of a finished run, with a report.json in it, or of evaluated descriptors"
            raise ValueError(f"run is {folder}, {told}")
    if len(folders) > 2:
        raise ValueError(f"runs are {len(folders)} folders, expected one or two")
    if tabs < 1:
        raise ValueError(f"tabs is {tabs}, expected at least 1")
    if not re.fullmatch(r"/([\w.~@%-]+/)*", base_url):
        raise ValueError(f"base_url is {base_url!r}, expected a path that begins and ends with /, as in /proxy/8866/")
    if find_spec("voila") is None:
        raise ValueError("voila is not installed, expected sa-lab with its notebooks: pip install 'sa-lab[notebooks]'")
    with tempfile.TemporaryDirectory(prefix="sa-lab-app-", ignore_cleanup_errors=True) as temporary:
        _serve(Path(temporary), folders, _free(port), browser, tabs, base_url)


def _serve(place: Path, folders: list[Path], port: int, browser: bool, tabs: int, base_url: str) -> None:
    """Start the server in ``place``, tell its address, and stay until it ends or is interrupted."""
    notebook = _write(place, folders)
    # where any browser may look, also one that sees the user's own files alone
    redirect = (home() if can_be_written(home()) else place) / f"open-{secrets.token_hex(4)}.html"
    token = secrets.token_hex(24)
    private = {
        "JUPYTER_CONFIG_DIR": place / "config", "JUPYTER_DATA_DIR": place / "data",
        "JUPYTER_RUNTIME_DIR": place / "run", "IPYTHONDIR": place / "ipython", "SA_LAB_HOME": home(),
        _PLACE: place, _PARENT: os.getpid(), _TABS: tabs, _REDIRECT: redirect, _BASE: base_url,
    }  # fmt: skip
    options = {
        "Voila.ip": _HOST, "Voila.port": port, "Voila.base_url": base_url, "Voila.port_retries": 0,
        "Voila.open_browser": False, "Voila.auto_token": True, "Voila.root_dir": notebook.parent,
        "Voila.connection_dir_root": place,
        "VoilaConfiguration.template": "sa_lab", "VoilaConfiguration.strip_sources": True,
        "VoilaConfiguration.show_tracebacks": True,
    }  # fmt: skip
    command = [sys.executable, "-m", "voila", str(notebook), *(f"--{key}={value}" for key, value in options.items())]
    environment = {**os.environ, **{key: str(path) for key, path in private.items()}, "JUPYTER_TOKEN": token}
    log = place / "server.log"
    before = {kind: signal.signal(kind, _interrupt) for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with log.open("w", encoding="utf-8") as file:
        server = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
    try:
        _wait_until_it_answers(server, port, log)
        address = f"http://{_HOST}:{port}{base_url}?token={token}"
        print(f"{TITLE}: {address}\nCtrl-C ends it", flush=True)
        if browser:
            webbrowser.open(_redirect(redirect, address).as_uri())
        if code := server.wait():
            raise _ended(code, log)
    except KeyboardInterrupt:
        print("ended")
    finally:
        for kind in before:
            signal.signal(kind, signal.SIG_IGN)  # it is ending
        redirect.unlink(missing_ok=True)
        server.terminate()
        try:
            server.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)  # with its kernels
            server.wait()
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _redirect(file: Path, address: str) -> Path:
    """A file for this user alone that leads to ``address``: a browser's command line is there for all to read."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as page:
        page.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">')
    return file


_PLACE, _PARENT, _TABS = "SA_LAB_APP_PLACE", "SA_LAB_APP_PARENT", "SA_LAB_APP_TABS"
_REDIRECT, _BASE = "SA_LAB_APP_REDIRECT", "SA_LAB_APP_BASE"
"""Environment variables: what the server is told of its command."""


def configure(c: Any) -> None:
    """What the server does beside serving; called in it with its settings ``c``."""
    from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
    from tornado.web import HTTPError
    from voila.voila_identity_provider import VoilaIdentityProvider

    most, starting = int(os.environ[_TABS]), 0

    class Kernels(AsyncMappingKernelManager):
        async def start_kernel(self, *args: Any, **options: Any) -> str:  # type: ignore[override]
            nonlocal starting
            deadline = time.monotonic() + _STOP_TIMEOUT
            while len(self.list_kernel_ids()) + starting >= most and time.monotonic() < deadline:
                await asyncio.sleep(0.1)  # that of a page that is loaded anew is ending
            if len(self.list_kernel_ids()) + starting >= most:
                raise HTTPError(503, reason=f"{most} tabs are open, which is the limit; close one")
            starting += 1
            try:
                return await super().start_kernel(*args, **options)
            finally:
                starting -= 1

    def admit(request: Any, **_: Any) -> None:
        told = request.request.headers
        origin = told.get("Origin")
        here = told.get("Sec-Fetch-Site", "none") in ("same-origin", "none")
        here = here and (origin is None or urlsplit(origin).netloc == told.get("Host"))
        if not here and not request.token_authenticated:
            raise HTTPError(403, reason="another page asked for this one; open the address that sa-lab app has printed")
        request.set_header("X-Frame-Options", "DENY")
        _ = request.xsrf_token  # sets the cookie without which the closing page is not heard

    class Door(VoilaIdentityProvider):
        def get_handlers(self) -> list[tuple[str, object]]:
            """Where voila sends strangers to: it looks for them without the prefix."""
            base = os.environ[_BASE].rstrip("/")
            return [(f"{base}{path}", handler) for path, handler in super().get_handlers()]

    c.Voila.identity_provider_class = Door
    c.VoilaConfiguration.multi_kernel_manager_class = Kernels
    c.VoilaConfiguration.prelaunch_hook = admit
    c.MappingKernelManager.cull_idle_timeout = _IDLE
    c.MappingKernelManager.cull_interval = min(60, _IDLE)
    c.IdentityProvider.cookie_options = {"SameSite": "Strict"}
    left = [Path(os.environ[name]) for name in (_REDIRECT, _PLACE)]
    threading.Thread(target=_end_with, args=(int(os.environ[_PARENT]), *left), daemon=True).start()


def _end_with(parent: int, redirect: Path, place: Path) -> None:
    """End this process and its kernels when its parent is gone, even if that was killed and left something behind."""
    while os.getppid() == parent:
        time.sleep(1)
    redirect.unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_STOP_TIMEOUT)
    os.killpg(0, signal.SIGKILL)


def _write(place: Path, folders: list[Path]) -> Path:
    """The notebook behind the page, and the page's template."""
    template = place / "data" / "voila" / "templates" / "sa_lab"
    template.mkdir(parents=True)
    (template / "conf.json").write_text(json.dumps({"base_template": "lab"}), encoding="utf-8")
    (template / "index.html.j2").write_text(_TEMPLATE, encoding="utf-8")
    (place / "config").mkdir()
    (place / "config" / "voila.py").write_text(
        "from sa_lab.course.app import configure\nconfigure(c)\n", encoding="utf-8"
    )
    source = (
        "from pathlib import Path\nfrom IPython.display import display\nfrom sa_lab.course import widgets\n"
        f"display(widgets.app([Path(name) for name in {[str(folder) for folder in folders]!r}]))"
    )
    cell: dict[str, Any] = {"cell_type": "code", "id": "app", "metadata": {}, "source": source}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    content = {
        "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel, "title": TITLE},
        "cells": [{**cell, "outputs": [], "execution_count": None}],
    }  # fmt: skip
    notebook = place / "page" / "app.ipynb"
    notebook.parent.mkdir()
    notebook.write_text(json.dumps(content), encoding="utf-8")
    return notebook


def _free(port: int) -> int:
    """``port``, or any free one for 0."""
    if not 0 <= port < 2**16:
        raise ValueError(f"port is {port}, expected 0 (finds a free one) to 65535")
    try:
        with socket.create_server((_HOST, port)) as listening:
            return int(listening.getsockname()[1])
    except OSError as error:
        raise ValueError(f"port is {port}, expected a free one (0 finds one): {error}") from error


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while True:
        if (code := server.poll()) is not None:
            raise _ended(code, log)
        try:
            socket.create_connection((_HOST, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise ValueError(f"the page's server does not answer after {_START_TIMEOUT} s") from None
            time.sleep(0.1)


def _ended(code: int, log: Path) -> ValueError:
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()
    last = [line.strip() for line in said if line.strip()][-1:]
    return ValueError(f"the page's server ended with exit code {code}: {' '.join(last)}")


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt

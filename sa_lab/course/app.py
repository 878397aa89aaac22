"""A page on this machine: the playground and the ranking browser, without a notebook in sight."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sa_lab.disk import home

TITLE = "SA-Softmax: prototypes and rankings"
_HOST = "127.0.0.1"
_START_TIMEOUT, _STOP_TIMEOUT = 60, 15
"""Seconds until the server has to answer, and to stop."""
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
{{ super.super() }}
{%- endblock notebook_css -%}
"""


def serve(runs: Sequence[Path] = (), port: int = 0, browser: bool = True) -> None:
    """Serve the page until it is interrupted; its address is printed.

    Args:
        runs: folders of at most two finished runs, whose rankings are shown; without them, the playground alone.
        port: on 127.0.0.1; 0 takes a free one.
        browser: open the page in the browser, too.

    Raises:
        ValueError: a folder without a report, more than two, a port that is taken, or voila is not installed.
    """
    folders = [folder.expanduser().absolute() for folder in runs]
    for folder in folders:
        if not (folder / "report.json").is_file():
            raise ValueError(f"run is {folder}, expected the folder of a finished run, with a report.json in it")
    if len(folders) > 2:
        raise ValueError(f"runs are {len(folders)} folders, expected one or two")
    if find_spec("voila") is None:
        raise ValueError("voila is not installed, expected sa-lab with its notebooks: pip install 'sa-lab[notebooks]'")
    with tempfile.TemporaryDirectory(prefix="sa-lab-app-", ignore_cleanup_errors=True) as temporary:
        _serve(Path(temporary), folders, _free(port), browser)


def _serve(place: Path, folders: list[Path], port: int, browser: bool) -> None:
    """Start the server in ``place``, tell its address, and stay until it ends or is interrupted."""
    notebook = _write(place, folders)
    token = secrets.token_hex(24)
    private = {
        "JUPYTER_CONFIG_DIR": place / "config", "JUPYTER_DATA_DIR": place / "data",
        "JUPYTER_RUNTIME_DIR": place / "run", "IPYTHONDIR": place / "ipython", "SA_LAB_HOME": home(),
    }  # fmt: skip
    options = {
        "Voila.ip": _HOST, "Voila.port": port, "Voila.port_retries": 0, "Voila.open_browser": False,
        "Voila.auto_token": True, "Voila.root_dir": notebook.parent, "Voila.connection_dir_root": place,
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
        address = f"http://{_HOST}:{port}/?token={token}"
        print(f"{TITLE}: {address}\nCtrl-C ends it", flush=True)
        if browser:
            webbrowser.open(address)
        if code := server.wait():
            raise _ended(code, log)
    except KeyboardInterrupt:
        print("ended")
    finally:
        for kind in before:
            signal.signal(kind, signal.SIG_IGN)  # it is ending
        server.terminate()
        try:
            server.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)  # with its kernels
            server.wait()
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _write(place: Path, folders: list[Path]) -> Path:
    """The notebook behind the page, and the page's template."""
    template = place / "data" / "voila" / "templates" / "sa_lab"
    template.mkdir(parents=True)
    (template / "conf.json").write_text(json.dumps({"base_template": "lab"}), encoding="utf-8")
    (template / "index.html.j2").write_text(_TEMPLATE, encoding="utf-8")
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

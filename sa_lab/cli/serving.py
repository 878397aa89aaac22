"""The command that serves a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def app(runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = (), port: int = 0, browser: bool = True) -> None:
    """Serve the prototype playground and the rankings of finished runs as a page on this machine, until Ctrl-C.

    Args:
        runs: folders of one or two finished runs, whose rankings are shown; without them, the playground alone.
        port: on 127.0.0.1; 0 takes a free one.
        browser: open the page in the browser, too; its address is printed in any case.
    """
    from sa_lab.course.app import serve

    serve(runs, port, browser)

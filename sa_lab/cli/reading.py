"""The commands that bring the chapters to their reader."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import tyro

from sa_lab.disk import Refusal, checkout, say
from sa_lab.disk import notebooks as place_of_chapters


def notebooks(folder: Annotated[Path, tyro.conf.Positional]) -> None:
    """Copy the chapters, with guides and solutions, into a new folder to work in.

    Args:
        folder: where to copy them; it must be new or empty.
    """
    from sa_lab.course import chapters

    say(f"The chapters are in {chapters.copy_to(folder)}; sa-lab lab {folder} opens them")


def lab(folder: Annotated[Path | None, tyro.conf.Positional] = None) -> None:
    """Open the chapters in JupyterLab, on this machine's loopback.

    Args:
        folder: where they are; if it is new, they are copied there first. By default the chapters of the checkout,
            otherwise sa_lab_chapters in the current folder.
    """
    from sa_lab.course import chapters

    chosen = folder or (place_of_chapters() if checkout() else Path("sa_lab_chapters"))
    if not chosen.exists():
        chapters.copy_to(chosen)
    if not chosen.is_dir():
        raise Refusal(f"{chosen} is a file, expected a folder with the chapters")
    files = "--ServerApp.contents_manager_class=sa_lab.course.reopening.Contents"
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--notebook-dir={chosen}", files]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    os.execv(sys.executable, command)  # so that a signal meets the server itself

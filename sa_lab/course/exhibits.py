"""Live figures of the site: for each widget of the chapters, what it shows, computed beforehand, and its place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path

from sa_lab.course import atlas
from sa_lab.course.atlas import Grid
from sa_lab.disk import write_text

_FILES = ("live.js", "live_toy.js")
SCRIPTS = "".join(f'<script src="live/{name}"></script>\n' for name in _FILES)
"""Of a page with live figures."""


def write(out: Path, grid: Grid, progress: bool = True) -> dict[str, str]:
    """Write scripts and numbers of all live figures into ``out``.

    Returns:
        HTML by the name of a widget in `sa_lab.course.widgets`: its place in a page, or a line that says why there is
        none.
    """
    for name in _FILES:
        write_text(out / name, (resources.files(__package__) / name).read_text(encoding="utf-8"))
    atlas.write(out, grid, progress)
    return {"Playground": _place("playground", "toy world")}


def of_cell(source: str, shown: Mapping[str, str]) -> str:
    """The live figures of the widgets that a cell makes."""
    parts = []
    for name, people in re.findall(r"widgets\.(\w+)\((?:toy\.World\((\d+)\))?", source):
        options = escape(json.dumps({"num_identities": int(people)} if people else {}), quote=True)
        parts.append(shown.get(name, "").replace("OPTIONS", options))
    return "".join(parts)


def _place(name: str, label: str) -> str:
    return f'<section class="live" data-live="{name}" data-options="OPTIONS" aria-label="{label}, live"></section>'

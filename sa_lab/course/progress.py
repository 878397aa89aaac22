"""Which exercises are solved: a small file in the home folder. Nothing leaves the machine."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import date
from pathlib import Path

from sa_lab.disk import DamagedFileError, Refusal, home, locked, notebooks, read_json, write_json

_CHAPTERS = notebooks()
_HEADING = re.compile(r"^### Exercise (\d\d\.\d) · (.+)$", re.M)


def place() -> Path:
    """The file; remove it to begin anew."""
    return home() / "progress.json"


def solved() -> dict[str, str]:
    """The day on which each exercise was first solved, by number such as "01.2"; empty if the file cannot be read."""
    return kept(place())


def note(number: str) -> None:
    """Keep that an exercise is solved."""
    if number not in solved():
        keep(place(), number, date.today().isoformat())


def kept(file: Path) -> dict[str, str]:
    """What a small file of a reader's notes holds; nothing where it cannot be read."""
    with suppress(OSError, DamagedFileError, Refusal):
        return {str(number): str(text) for number, text in read_json(file).items()}
    return {}


def keep(file: Path, number: str, text: str) -> None:
    """Add a note; where nothing can be written, nothing is kept."""
    with suppress(OSError, Refusal), locked(file, "writes a reader's notes"):
        write_json(file, kept(file) | {number: text})


def titles(folder: Path = _CHAPTERS) -> dict[str, dict[str, str]]:
    """The exercises of each chapter, number and title, by the stem of its file; read from the chapters themselves."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        texts = ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        found[path.stem] = dict(match for text in texts for match in _HEADING.findall(text))
    return found


def table(folder: Path = _CHAPTERS) -> str:
    """Markdown: each chapter with its exercises, ● solved and ○ open, and how many are solved."""
    done, every = solved(), titles(folder)
    lines = ["| chapter | solved | exercises |", "|---|---|---|"]
    for stem, exercises in every.items():
        marks = ", ".join(f"{'●' if number in done else '○'} {number} {title}" for number, title in exercises.items())
        count = len(done.keys() & exercises.keys())
        lines.append(f"| [{stem.replace('_', ' ')}]({stem}.ipynb) | {count} of {len(exercises)} | {marks} |")
    numbers = {number for exercises in every.values() for number in exercises}
    return "\n".join([*lines, "", f"{len(done.keys() & numbers)} of {len(numbers)} exercises are solved."])

"""The command that looks after the runs of the data folder."""

from __future__ import annotations

import shutil
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import tyro

from sa_lab.disk import Refusal, home, locked, say, sweep


def runs(
    names: Annotated[tuple[str, ...], tyro.conf.Positional] = (), prune: bool = False, root: Path | None = None
) -> None:
    """List runs with their loss, the dials that differ from the preset tiny, size and age; or remove the named ones.

    Args:
        names: names of folders, or patterns such as '*-seed[12]-*'; by default all, which are only listed.
        prune: remove the named runs with all their files; a run that is being trained is left alone.
        root: folder of the runs; by default runs/ in the data folder.
    """
    place = root or home() / "runs"
    there = sorted(path for path in place.glob("*") if path.is_dir() and not path.name.startswith("."))
    chosen = [path for path in there if not names or any(fnmatch(path.name, name) for name in names)]
    if unknown := [name for name in names if not any(fnmatch(path.name, name) for path in there)]:
        raise ValueError(f"there is no run {', '.join(unknown)} in {place}; `sa-lab runs` lists the runs there")
    if not prune:
        _show(chosen, place)
        return
    if not names:
        raise ValueError("--prune without a name would remove every run, expected names, or '*' for all")
    strange = [path.name for path in chosen if not (path / "config.json").is_file()]
    if strange:
        raise ValueError(f"{', '.join(strange)} in {place} has no config.json, expected only folders of runs")
    freed = 0
    for path in chosen:
        with locked(path, f"removes {path.name}", lambda name=path.name: _in_use(name)):  # type: ignore[misc]
            freed += _bytes(path)
            shutil.rmtree(path)
        say(f"removed {path.name}")
    say(f"{freed / 1e6:,.0f} MB are free now")


def _in_use(name: str) -> None:
    raise Refusal(f"{name} is in use; the runs named before it are removed")


def _bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file())


def _show(folders: list[Path], place: Path) -> None:
    from sa_lab.config import ExperimentConfig
    from sa_lab.reporting import tables
    from sa_lab.runs import loss_name

    rows: list[tables.TableRow] = []
    for folder in folders:
        sweep(folder)
        row = {"run": folder.name, "loss": "", "seed": "", "dials": "", "state": "finished"}
        if not (folder / "report.json").is_file():
            row["state"] = "not finished"
        try:
            config = ExperimentConfig.load(folder / "config.json")
        except (OSError, ValueError):
            row["state"] = "config.json cannot be read"
        else:
            apart = {k: v for k, v in config.changed().items() if not k.startswith("loss.") and k not in _ELSEWHERE}
            row |= {"loss": loss_name(config), "seed": str(config.seed)}
            row["dials"] = ", ".join(f"{name.split('.')[-1]} {value}" for name, value in apart.items())
        days = (time.time() - folder.stat().st_mtime) / 86_400
        rows.append({**row, "MB": f"{_bytes(folder) / 1e6:,.0f}", "days old": f"{days:.1f}"})
    say(tables.render(rows) if rows else f"no run is in {place}; choose another folder with --root")


_ELSEWHERE = ("data.dataset", "data.root", "seed")
"""Dials that the name of a run tells."""

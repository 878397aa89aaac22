"""The command that looks for pictures among pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from sa_lab.disk import check_output, say


def rank(
    run: Annotated[Path, tyro.conf.Positional],
    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional],
    modality: Literal["infrared", "visible"] = "infrared",
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10,
    out: Path = Path("ranking.html"),
) -> None:
    """Search pictures of the other spectrum with the network of a run: names, similarities, and why.

    Args:
        run: folder of a finished run, such as one that `make run` leaves in data/runs.
        pictures: the queries (files or folders), and last the folder to search.
        modality: spectrum of the queries; the searched pictures are of the other one.
        k: number of pictures to return for each query.
        out: a page that opens offline; the contact sheet is written beside it, as PNG.
    """
    if len(pictures) < 2:
        raise ValueError("one place is given, expected a query and then the folder to search")
    check_output(out, ".html", ".htm")
    from sa_lab import ranking
    from sa_lab.reporting import ranks, tables
    from sa_lab.schema import Modality

    if further := [place for place in pictures if (place / "model.pt").is_file()]:
        raise ValueError(f"{further[0]} is a second run, expected one and then pictures; a pattern may fit several")
    sheet = ranks.beside(out)
    if sheet.exists() and any(sheet.resolve().is_relative_to(place.resolve()) for place in pictures):
        raise ValueError(f"--out is {out}: the contact sheet would replace the picture {sheet}; expected another name")
    *query, gallery = pictures
    found = ranking.rank(run, query, gallery, k, Modality[modality.upper()])
    for row, path in enumerate(found.query.store.paths):
        rows: list[tables.TableRow] = [
            {"place": str(place + 1), "picture": name, "similarity": f"{one:.3f}"}
            for place, (name, one) in enumerate(found.names(row))
        ]
        say(f"{path}\n{tables.render(rows)}\n")
    ranks.write(found, out)
    say(f"the page is {out}, the contact sheet {sheet}")

"""A sweep as a page of figures that opens offline."""

from __future__ import annotations

from pathlib import Path

from sa_lab.disk import write_text
from sa_lab.plots import CONFIG, sweeps
from sa_lab.reporting.page import with_figures
from sa_lab.reporting.studies import sweep_points, sweep_table
from sa_lab.study import Sweep

_MEASURE, _NAME = "mean_ap", "mAP, %"


def write(result: Sweep, out: Path) -> None:
    """Write table and figures of each data set: surfaces where two dials were swept, lines where one was, parallel
    coordinates, and quality against time.

    Args:
        result: of `sa_lab.study.sweep`, with at least one row.
        out: the page.
    """
    body = ["<h1>Sweep</h1>", sweep_table(result, "html")]
    sets = [str(row.get("data.dataset", row["dataset"])) for row in result.rows]
    for dataset in dict.fromkeys(sets):
        rows = [row for row, name in zip(result.rows, sets, strict=True) if name == dataset]
        some = Sweep(result.dials, rows)
        points = sweep_points(some, _MEASURE)
        dials = [name for name in result.dials if len({str(point.dials[name]) for point in points}) > 1]
        told = {"measure": _NAME}
        figures = []
        if len(dials) == 2:
            for loss in dict.fromkeys(point.loss for point in points):
                mine = [p for p in points if p.loss == loss and None not in (p.dials[dials[0]], p.dials[dials[1]])]
                if mine:
                    figures.append(sweeps.response_surface(mine, *dials, title=f"{dataset}: {loss}", **told))
        if len(dials) == 1:
            figures.append(sweeps.over_dial(points, dials[0], title=f"{dataset}: over {dials[0]}", **told))
        figures.append(sweeps.parallel(points, title=f"{dataset}: all dials", **told))
        figures.append(sweeps.pareto(points, title=f"{dataset}: quality against time", **told))
        body += [figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG) for figure in figures]
    write_text(out, with_figures("Sweep", body))

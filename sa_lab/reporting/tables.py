"""Reports as tables for a console, Markdown, LaTeX or a spreadsheet, published results beside ours."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np
from tabulate import tabulate

from sa_lab.analysis import DEFINITIONS
from sa_lab.analysis.descriptors import QUICK
from sa_lab.config import Style
from sa_lab.dials import markdown, plain
from sa_lab.evaluation.paired import Difference
from sa_lab.evaluation.reports import TITLES, Measure, Report
from sa_lab.intervals import Interval, student_interval

TableRow = Mapping[str, str | float | Measure | None]


def render(rows: Sequence[TableRow], style: Style = "console") -> str:
    """A table with the columns of the first row.

    A `Measure` is shown in %, as mean ± deviation [low, high], without the parts that are NaN; in CSV these are four
    columns. None is a dash, or nothing in CSV. Texts are data in each style, never markup, formulas or further lines.
    """
    if style == "csv":
        return _csv(rows)
    safe = markdown if style == "markdown" else plain  # tabulate escapes LaTeX and HTML itself
    cells = [[safe(_cell(value)) for value in row.values()] for row in rows]
    formats = {"console": "simple", "markdown": "github", "latex": "latex_booktabs", "html": "html"}
    text: str = tabulate(cells, [safe(name) for name in rows[0]], formats[style], disable_numparse=True)
    return text.replace("±", r"\ensuremath{\pm}") if style == "latex" else text


def _cell(value: str | float | Measure | None) -> str:
    if isinstance(value, Measure):
        mean, std, low, high = (100 * part for part in (value.mean, value.std, value.low, value.high))
        spread = f" ± {std:.1f}" if std > 1e-9 else ""  # one trial has none
        return f"{mean:.1f}{spread}" + ("" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]")
    return "-" if value is None else value if isinstance(value, str) else f"{value:.2f}"


def _csv(rows: Sequence[TableRow]) -> str:
    flat: list[dict[str, str | float | None]] = []
    for row in rows:
        line: dict[str, str | float | None] = {}
        for title, value in row.items():
            name = _no_formula(title)
            if isinstance(value, Measure):
                parts = {"": value.mean, " std": value.std, " low": value.low, " high": value.high}
                line |= {name + key: None if np.isnan(part) else 100 * part for key, part in parts.items()}
            else:
                line[name] = _no_formula(value) if isinstance(value, str) else value
        flat.append(line)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(dict.fromkeys(name for line in flat for name in line)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue().rstrip("\n")


def _no_formula(text: str) -> str:
    """A text that a spreadsheet takes for one: behind an apostrophe where it would compute it."""
    return "'" + plain(text) if re.match(r"[=+@\t\r]|-(?![\d.]+$)", text) else plain(text)


def retrieval(methods: Mapping[str, Sequence[Report]]) -> list[TableRow]:
    """One row per method: Rank-k, mAP and mINP.

    Args:
        methods: the reports of each method by its name. One report: mean and deviation over its trials, bootstrap
            interval over identities. Several seeds: mean, sample deviation and 95 % interval of Student's t over them.
            Several splits: mean and sample deviation over the splits, the seeds of each averaged.
    """
    return [
        {"method": name, **{title: _over_runs(reports, key) for key, title in TITLES.items()}}
        for name, reports in methods.items()
    ]


def _over_runs(reports: Sequence[Report], name: str) -> Measure:
    if len(reports) == 1:
        return reports[0].measures[name]
    by_split: dict[object, list[float]] = {}
    for report in reports:
        by_split.setdefault(report.protocol["split"], []).append(report.measures[name].mean)
    if len(by_split) > 1:
        means = [float(np.mean(seeds)) for seeds in by_split.values()]
        return Measure(float(np.mean(means)), float(np.std(means, ddof=1)), np.nan, np.nan)
    (values,) = map(np.array, by_split.values())
    over_seeds = student_interval(values, (0.0, 1.0))
    return Measure(over_seeds["mean"], float(np.std(values, ddof=1)), over_seeds["low"], over_seeds["high"])


def protocol_family(report: Report) -> str:
    """Name of the report's protocol without the split."""
    split = report.protocol["split"]
    return str(report.protocol["name"]).removesuffix(f"-{split}") if split else str(report.protocol["name"])


def published_results(report: Report) -> list[TableRow]:
    """Published results under the report's protocol, in % as given, each with its source; none for generated copies.

    Their galleries are single-shot; the source may not say which sampling a paper used. SA-Softmax itself is not among
    them: its numbers were not found in any source.
    """
    if report.dataset != report.protocol["dataset"] or report.reranking:
        return []
    text = (resources.files(__package__) / "published.csv").read_text(encoding="utf-8")
    rows: list[TableRow] = []
    for line in csv.DictReader(text.splitlines()):
        if line["protocol"] == protocol_family(report):
            given = {title: line.get(key) or None for key, title in TITLES.items()}
            rows.append({"method": f"{line['method']} {line['year']}", **given, "source": line["source"]})
    return rows


def with_published(ours: Sequence[TableRow], theirs: Sequence[TableRow]) -> list[TableRow]:
    """Measured rows, then published ones, each with its source."""
    if not theirs:
        return list(ours)
    return [{**row, "source": "measured here"} for row in ours] + list(theirs)


def interval(value: Interval | None) -> str | None:
    """A mean with its interval, as tables show it."""
    return None if value is None else f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}]"


def overlap_columns(measured: Mapping[str, Interval]) -> dict[str, str | None]:
    """The measures in `sa_lab.analysis.descriptors.QUICK` under their titles; None where one was not measured."""
    return {DEFINITIONS[name].title: interval(measured.get(name)) for name in QUICK}


def differences(changes: Mapping[str, Difference]) -> list[TableRow]:
    """A paired comparison, one row per measure."""
    return [
        {
            "measure": TITLES[name],
            "difference, points": Measure(change.mean, np.nan, change.low, change.high),
            "p-value": f"{change.p_value:.4f}",
        }
        for name, change in changes.items()
    ]


def title(reports: Sequence[Report]) -> str:
    """What the numbers of one table depend on; for several splits, which ones."""
    splits = list(dict.fromkeys(report.protocol["split"] for report in reports if report.protocol["split"]))
    if len(splits) < 2:
        return reports[0].title
    text = re.sub(r"-\d+(:.*); split \d+", rf"\1; splits {', '.join(map(str, sorted(splits)))}", reports[0].title)
    return f"{text} in split {splits[0]}"

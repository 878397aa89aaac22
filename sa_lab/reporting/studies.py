"""The results of a study: its table, differences from softmax, and what goes along with retrieval."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sa_lab.analysis import DEFINITIONS
from sa_lab.analysis.descriptors import QUICK
from sa_lab.config import ExperimentConfig, Style
from sa_lab.dials import markdown
from sa_lab.evaluation import reports
from sa_lab.evaluation.reports import SHARES
from sa_lab.reporting import tables

TITLES = {name: reports.TITLES[name] for name in SHARES} | {name: DEFINITIONS[name].title for name in QUICK}
"""The measures that tables show, and what they call them."""

if TYPE_CHECKING:
    from sa_lab.plots.sweeps import Point
    from sa_lab.study import Sweep


def table(result: dict[str, Any]) -> str:
    """The study as a Markdown table: mean [95 % interval] of each measure."""
    names = [key for key in TITLES if key in next(iter(result["variants"].values()))]
    lines = [
        "| loss | " + " | ".join((f"{TITLES[name]}, %" if name in SHARES else TITLES[name]) for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for variant_name, columns in result["variants"].items():
        cells = []
        for name in names:
            scale, digits = (100, 1) if name in SHARES else (1, 2)
            mean, low, high = (columns[name][key] * scale for key in ("mean", "low", "high"))
            cells.append(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        lines.append(f"| {markdown(label(result, variant_name))} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def tries(result: dict[str, Any]) -> str:
    """What was tried for each loss of a tuned study, as a Markdown table: mAP on the validation identities, the chosen
    one bold."""
    rows = []
    for name, tried in result["tries"].items():
        if not tried:
            continue
        values = [one["validation_mean_ap"] for one in tried]
        words = [
            ", ".join(f"{dial} {value}" for dial, value in one.items() if dial != "validation_mean_ap") or "as it is"
            for one in tried
        ]
        shown = [f"{markdown(_weight(word))}: {100 * value:.1f}" for word, value in zip(words, values, strict=True)]
        best = values.index(max(values))
        shown[best] = f"**{shown[best]}**"
        rows.append(f"| {markdown(name)} | " + " | ".join(shown) + " |")
    most = max(len(one) for one in result["tries"].values())
    head = " | ".join(f"try {i + 1}" for i in range(most))
    return "\n".join([f"| loss | {head} |", "|---" * (most + 1) + "|", *rows])


def label(result: dict[str, Any], variant_name: str) -> str:
    """A loss with the dials in which it differs from that of its name."""
    return _weight(str(result.get("labels", {}).get(variant_name, variant_name)))


def _weight(dials: str) -> str:
    """Dials in words, where an objective is the identity loss and one term: "weight 0.3" in place of both by name."""
    return re.sub(r"terms identity 1 \+ \w+ (\S+?)(?=,|$)", r"weight \1", dials)


def made_with(result: dict[str, Any]) -> str:
    """What a study was made with, in a line, and what its intervals do not cover."""
    made = [f"sa_lab {result['library']}", f"torch {result['torch']}"]
    made += [f"vector level {result['cpu']}"] if "cpu" in result else []
    made += [f"seeds {', '.join(map(str, result['seeds']))}"]
    made += [f"{result['date']}, commit {result['commit']}"] if "commit" in result else []
    made += [f"{name} {value}" for name, value in _other_dials(result).items()]
    return f"{'; '.join(made)}. {ONE_MACHINE}"


def _other_dials(result: dict[str, Any]) -> dict[str, Any]:
    """The dials of a study that are not those of the preset as it is now, as far as both have them."""
    usual, named = ExperimentConfig().flat(), ("data.dataset", "data.root", "data.split")
    mine = {
        f"{group}.{name}": value
        for group, dials in result.get("config", {}).items() if isinstance(dials, dict) and group != "loss"
        for name, value in dials.items()
    }  # fmt: skip
    told = {**result.get("changed", {}), **{name: value for name, value in mine.items() if name not in named}}
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    return {name: told[name] for name, value in plain.items() if value != usual.get(name, value)}


ONE_MACHINE = (
    "Measured on one machine. On a processor with another vector level the digits differ, as they do with another "
    "seed; no interval covers this."
)


def sweep_table(result: Sweep, style: Style = "markdown", names: Sequence[str] = SHARES, best: bool = False) -> str:
    """A sweep as a table: a row for each loss and values of the dials, with the dials that differ as columns.

    Args:
        result: of `sa_lab.study.sweep`.
        style: how it is written.
        names: measures, names in `sa_lab.study.MEANINGS`.
        best: the best mean of each column is bold, in Markdown and LaTeX.
    """
    means = result.means(names)
    differing = [name for name in result.dials if len({str(one[name]) for one in means}) > 1]
    sets = ["dataset"] if len({one["dataset"] for one in means}) > 1 else []
    top = {name: _best(name, [one[name]["mean"] for one in means if name in one]) for name in names}
    rows: list[tables.TableRow] = []
    for one in means:
        lacking = "" if style == "csv" else "-"
        dials = {name.split(".")[-1]: lacking if one[name] is None else str(one[name]) for name in differing}
        cells = {_title(name): _of_sweep(name, one.get(name), top[name] if best else None, style) for name in names}
        rows.append(
            {**{name: one[name] for name in sets}, "loss": one["loss"], **dials, **cells, "runs": str(one["runs"])}
        )
    if not rows:
        return "No run is finished."
    table = tables.render(rows, style)
    for mark, bold in zip("⟪⟫", _BOLD.get(style, ("", "")), strict=True):
        table = table.replace(mark, bold)
    caption = _caption(result, single=any(one["runs"] == 1 for one in means))
    if style == "csv":
        return table
    if style == "html":
        return f"{table}\n<p>{escape(caption)}</p>"
    if style == "latex":
        caption = caption.replace("%", r"\%").replace("_", r"\_")
        return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{table}\n\\end{{table}}"
    return f"{table}\n\n{caption}"


def sweep_gains(result: Sweep) -> str:
    """`sa_lab.study.Sweep.gains` in points of mAP, a line each, with the dials that differ; empty without any."""
    differing = [name for name in result.dials if len({str(row[name]) for row in result.rows}) > 1]
    sets = ["dataset"] if len({row["dataset"] for row in result.rows}) > 1 else []
    lines = []
    for one in result.gains():
        dials = [f"{name.split('.')[-1]} {one[name]}" for name in differing if one[name] is not None]
        mean, low, high = (100 * one["mean_ap"][key] for key in ("mean", "low", "high"))
        words = ", ".join([*(one[name] for name in sets), one["loss"], *dials])
        lines.append(f"- {words}: {mean:+.1f} [{low:+.1f}, {high:+.1f}]")
    told = "mAP minus that of softmax, paired by seed, points [95 % of Student's t]:"
    return "\n".join([told, *lines]) if lines else ""


def _caption(result: Sweep, single: bool) -> str:
    """Under which protocol a sweep was measured, with which seeds, and what its brackets are; ``single``: a row has one
    run."""
    names = {
        name: ", ".join(str(value) for value in dict.fromkeys(row[name] for row in result.rows))
        for name in ("dataset", "protocol", "seed")
        if all(name in row for row in result.rows)
    }
    told = [f"{title} {names[name]}" for name, title in _TITLES.items() if name in names]
    lacking = ", one run has no interval" if single else ""
    return "; ".join([*told, f"mean over runs [95 % of Student's t]{lacking}"]) + "."


def sweep_points(result: Sweep, measure: str = "mean_ap") -> list[Point]:
    """A sweep for the figures of `sa_lab.plots`: shares in %, others as they are."""
    from sa_lab.plots.sweeps import Point  # not for tables alone

    scale = 100 if measure in SHARES else 1
    points = []
    for one in result.means((measure,)):
        if measure in one:
            mean, low, high = (one[measure][key] * scale for key in ("mean", "low", "high"))
            dials = {name: one[name] for name in result.dials}
            points.append(Point(one["loss"], dials, mean, low, high, one.get("seconds", math.nan), one["runs"]))
    return points


def _title(name: str) -> str:
    if name in SHARES:
        return f"{reports.TITLES[name]}, %"
    plain = name.removeprefix("training_")
    return DEFINITIONS[plain].title + (", people trained on" if name != plain else "")


def _best(name: str, means: Sequence[float]) -> float | None:
    lower = name not in SHARES and DEFINITIONS[name.removeprefix("training_")].better == "lower"
    return (min if lower else max)(means) if means else None


def _of_sweep(name: str, one: Mapping[str, float] | None, top: float | None, style: Style) -> str | None:
    if one is None:
        return None
    scale, digits = (100, 1) if name in SHARES else (1, 2)
    mean, low, high = (one[key] * scale for key in ("mean", "low", "high"))
    shown = f"{mean:.{digits}f}" + ("" if low != low else f" [{low:.{digits}f}, {high:.{digits}f}]")
    return f"⟪{shown}⟫" if one["mean"] == top and style in _BOLD else shown


_TITLES = {"dataset": "Data set", "protocol": "protocol", "seed": "seeds"}
_BOLD = {"markdown": ("**", "**"), "latex": (r"\textbf{", "}")}
"""What stands for the marks of a best value, which a table would not leave as they are."""

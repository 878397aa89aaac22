"""What came of a study: its table, differences to softmax, and what goes along with retrieval."""

from __future__ import annotations

from typing import Any

from sa_lab.analysis import DEFINITIONS
from sa_lab.analysis.descriptors import QUICK
from sa_lab.dials import markdown
from sa_lab.evaluation import reports
from sa_lab.evaluation.reports import SHARES

TITLES = {name: reports.TITLES[name] for name in SHARES} | {name: DEFINITIONS[name].title for name in QUICK}
"""The measures that tables show, and what they call them."""


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


def label(result: dict[str, Any], variant_name: str) -> str:
    """A loss with the dials in which it differs from that of its name."""
    return str(result.get("labels", {}).get(variant_name, variant_name))


def made_with(result: dict[str, Any]) -> str:
    """What a study was made with, in a line, and what its intervals do not cover."""
    made = [f"sa_lab {result['library']}", f"torch {result['torch']}"]
    made += [f"vector level {result['cpu']}"] if "cpu" in result else []
    made += [f"seeds {', '.join(map(str, result['seeds']))}"]
    made += [f"{result['date']}, commit {result['commit']}"] if "commit" in result else []
    made += [f"{name} {value}" for name, value in result.get("changed", {}).items()]
    return f"{'; '.join(made)}. {ONE_MACHINE}"


ONE_MACHINE = (
    "Of one machine: with the same seed, another vector level of the processor gives other digits, as another seed "
    "does; no interval covers that."
)

"""README.md with the numbers of data/results in it: ``make readme`` writes them, a test finds them up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from sa_lab import sweeps
from sa_lab.benchmarks import heads, iteration, overlap, ranking, summary
from sa_lab.disk import write_text

ROOT = Path(__file__).parents[1]
OPTIONS = ("exact", "reuse_features", "exact_8", "sample_rate_8")


def result(name: str) -> dict[str, Any]:
    """A committed result."""
    return json.loads((ROOT / "data" / "results" / f"{name}.json").read_text())


def options() -> dict[str, Any]:
    """The complete loss with each option side by side."""
    return sweeps.joined({name: result(f"option-{name}") for name in OPTIONS})


def study(name: str) -> str:
    """The table of a study, and what it was made with."""
    found = result(name)
    made = [f"sa_lab {found['library']}", f"torch {found['torch']}", f"seeds {', '.join(map(str, found['seeds']))}"]
    made += [f"{found['date']}, commit {found['commit']}"] if "commit" in found else []
    return f"{sweeps.table(found)}\n\n*{'; '.join(made)}*"


def gpu() -> str:
    """What `make gpu` has found, or that it has not run."""
    names = ("bench-cuda", "study-gpu")
    bench, paper = (result(name) if (ROOT / "data" / "results" / f"{name}.json").is_file() else None for name in names)
    if not bench:
        return "No GPU was at hand for this version: `make gpu` checks and times it on one; what it finds is put here."
    told = [f"On a GPU ({next(iter(bench.values()))['run']['device']}, `make gpu`):", summary.ratios(bench)]
    told += [summary.limits(bench), summary.stages(bench), summary.utilisation(bench)]
    if paper:
        told += [f"The paper's network on drawn people ({paper['machine']}):", study("study-gpu")]
    return "\n\n".join(part for part in told if part)


def pieces() -> dict[str, str]:
    """What stands between ``<!-- name -->`` and ``<!-- end -->``, by name."""
    bench = result("bench-cpu")
    return {
        "study-synthetic": study("study-synthetic"),
        "study-roadscene": study("study-roadscene"),
        "playground": f"{result('bench-widgets')['median']:.0f} ms",
        "overlap": overlap.sentence(bench["overlap"]),
        "ranking": ranking.sentence(bench["ranking"]),
        "ratios": summary.ratios(bench),
        "stages": summary.stages(bench),
        "iteration": iteration.sentence(bench["iteration"]),
        "compiled": iteration.sentence_of_compiled(bench["compiled"]),
        "gpu": gpu(),
        "heads": heads.sentence(bench["heads"]),
        "options": sweeps.table(options()),
        "many": summary.many(bench),
    }


def filled(text: str) -> str:
    """The text with all pieces as the results have them.

    Raises:
        ValueError: a piece has no place in the text, or more than one.
    """
    for name, piece in pieces().items():
        place = re.compile(rf"(<!-- {name} -->\s*)\S.*?(\s*<!-- end -->)", re.S)
        if len(place.findall(text)) != 1:
            raise ValueError(f"README.md has {len(place.findall(text))} places for {name}, expected one")
        text = place.sub(lambda found, piece=piece: found[1] + piece + found[2], text)
    return text


if __name__ == "__main__":
    write_text(ROOT / "README.md", filled((ROOT / "README.md").read_text()))
